//! File leases of Linux (`fcntl(2)`, `F_SETLEASE`): the kernel's own word on who has a file open.
//!
//! 1. A write lease is given only where no other open file, mapping or loop device of the whole machine refers to the
//!    file, whoever owns it and in whatever container it runs.
//! 2. While it is held, others wait in `open` (a non-blocking one fails), at most for the system's lease break time.
//! 3. Somebody waiting is told with `SIGIO`, whose default is to end the process: whoever takes a lease catches it.
//! 4. A lease belongs to the open file: copies of the descriptor share it, and it ends with the last of them.
//!
//! This is the only unsafe code of the program: no crate wraps the call.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Takes a write lease, or renews it.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] where somebody else has the file open, or waits for it while we hold a lease; any
/// other kind where the file system, or the ownership of the file, allows no leases.
pub fn take(file: impl AsFd) -> io::Result<()> {
    set(file, libc::F_WRLCK)
}

/// Takes a read lease of a file that is open for reading only: given where nobody has it open or mapped for writing.
///
/// # Errors
/// As [`take`], where [`io::ErrorKind::WouldBlock`] means that somebody may write.
pub fn take_reading(file: impl AsFd) -> io::Result<()> {
    set(file, libc::F_RDLCK)
}

/// Gives the lease back; nothing happens where there is none.
///
/// # Errors
/// Where the system fails.
pub fn release(file: impl AsFd) -> io::Result<()> {
    match set(file, libc::F_UNLCK) {
        // What the kernel says where there is none.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        done => done,
    }
}

#[expect(unsafe_code, reason = "see the crate's description")]
fn set(file: impl AsFd, kind: i32) -> io::Result<()> {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: the call takes numbers only and touches no memory of ours; the descriptor is borrowed, hence open.
    let done = unsafe { libc::fcntl(fd, libc::F_SETLEASE, kind) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::io::ErrorKind::WouldBlock;

    #[test]
    fn is_given_to_the_only_opener() {
        let file = tempfile::NamedTempFile::new().unwrap();
        take(file.as_file()).unwrap();
        take(file.as_file()).unwrap();
        release(file.as_file()).unwrap();
        release(file.as_file()).unwrap();
        for write in [false, true] {
            let other = OpenOptions::new().read(true).write(write).open(file.path());
            assert_eq!(take(file.as_file()).unwrap_err().kind(), WouldBlock);
            drop(other.unwrap());
            take(file.as_file()).unwrap();
            release(file.as_file()).unwrap();
        }
    }

    #[test]
    fn a_read_lease_minds_writers_only() {
        let made = tempfile::NamedTempFile::new().unwrap();
        let file = std::fs::File::open(made.path()).unwrap();
        assert_eq!(take_reading(&file).unwrap_err().kind(), WouldBlock);
        let path = made.into_temp_path();
        let reader = std::fs::File::open(&path).unwrap();
        take_reading(&file).unwrap();
        release(&file).unwrap();
        drop(reader);
        let writer = OpenOptions::new().write(true).open(&path).unwrap();
        assert_eq!(take_reading(&file).unwrap_err().kind(), WouldBlock);
        drop(writer);
    }

    /// The system says so instead of giving one that guards nothing.
    #[test]
    fn is_not_given_on_what_is_no_file() {
        let (reader, _writer) = io::pipe().unwrap();
        assert_ne!(take(&reader).unwrap_err().kind(), WouldBlock);
    }
}
