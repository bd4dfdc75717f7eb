//! Keeping away from images that somebody uses, and others away from ours.
//!
//! 1. Nobody may have the file open: no process, no mapping, no loop device, no mount. A write lease shows them all,
//!    those of other users and containers too, but not on devices and remote file systems; a look around tells who.
//! 2. The lock bytes of qemu: byte 100 + n is held by who uses permission n, 200 + n by who forbids it to others; all
//!    locks are shared, and a conflict is found by asking whether an exclusive one would be granted. Any of them held
//!    refuses writing. We test, take ours, and test again, which closes the race.
//! 3. Any other record lock, then `flock`, for those who know only that.
//! 4. The locks belong to the open file and vanish with it, however the process ends.
//! 5. A plan is made without the lease, so that nobody waits for it; the commit takes it again, finds who has come in
//!    the meantime, and keeps newcomers waiting while it writes.

mod guard;
mod holders;

pub(crate) use guard::{Guard, Held};
pub use holders::{Holder, Survey};

use crate::{Dev, Error, FileDev, Result};
use guard::Lease;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fd::AsFd;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::time::Duration;

/// The bytes of qemu's permissions: consistent read, write, write unchanged, resize.
const BYTES: [i64; 8] = [100, 101, 102, 103, 200, 201, 202, 203];
/// Taken while we write: read, write and resize, and nobody else may.
const WRITER: [i64; 6] = [100, 101, 103, 200, 201, 203];
/// Taken while we read: nobody may write or resize.
const READER: [i64; 3] = [100, 201, 203];
/// How often an image is asked for: udev and other passers-by look at what was just written, and go away.
const PATIENCE: u32 = 5;
const PAUSE: Duration = Duration::from_millis(30);

/// A device that the kernel itself uses is in use.
pub(crate) fn busy(error: Error) -> Error {
    match error {
        Error::File { ref source, .. } if source.kind() == std::io::ErrorKind::ResourceBusy => {
            Error::InUse { by: "the kernel: it is mounted or part of another device".to_owned() }
        }
        other => other,
    }
}

/// Takes an image for writing.
pub(crate) fn exclusive(dev: &FileDev, force: bool) -> Result<()> {
    let mut survey = try_exclusive(dev);
    for _ in 0..if force { 0 } else { PATIENCE } {
        if !survey.refuses_writing(dev.kind()) {
            break;
        }
        std::thread::sleep(PAUSE);
        survey = try_exclusive(dev);
    }
    if force || !survey.refuses_writing(dev.kind()) {
        Ok(())
    } else {
        Err(Error::InUse { by: survey.to_string() })
    }
}

/// Takes what can be taken, and tells who is in the way.
fn try_exclusive(dev: &FileDev) -> Survey {
    // The locks first: what is looked at after them stays so, as far as others respect locks.
    let free = !lock_bytes_held(dev)
        && !held(dev, 0, 0)
        && take(dev, &WRITER)
        // Ours do not answer: they belong to the same open file.
        && !lock_bytes_held(dev)
        // A file system that knows no such locks has no holders of them either.
        && flock(dev, FlockOperation::NonBlockingLockExclusive) != Err(Errno::WOULDBLOCK);
    let opened = guard::take(dev) == Lease::Denied;
    // Given back at once: who comes while we plan need not wait, and is found by the commit.
    let _ = lease::release(dev);
    Survey { opened, ..Survey::of(dev.kind(), dev.identity(), !free) }
}

/// Tells others that we read, unless somebody writes.
pub(crate) fn shared(dev: &FileDev, locked: bool) {
    if !locked {
        take(dev, &READER);
    }
    // Who cannot have it does without.
    let _ = flock(dev, FlockOperation::NonBlockingLockShared);
}

/// Whether somebody else holds one of qemu's bytes.
pub(crate) fn lock_bytes_held(dev: &FileDev) -> bool {
    BYTES.iter().any(|&byte| held(dev, byte, 1))
}

/// Whether an exclusive lock on those bytes would be refused; a length of 0 is everything from there on.
fn held(dev: &FileDev, start: i64, len: i64) -> bool {
    let mut lock = record(libc::F_WRLCK, start, len);
    let asked = fcntl(dev.as_fd(), FcntlArg::F_OFD_GETLK(&mut lock));
    asked.is_ok() && i32::from(lock.l_type) != libc::F_UNLCK
}

/// Takes shared locks; a file system without such locks counts as taken.
fn take(dev: &FileDev, bytes: &[i64]) -> bool {
    bytes.iter().all(|&byte| {
        let asked = fcntl(dev.as_fd(), FcntlArg::F_OFD_SETLK(&record(libc::F_RDLCK, byte, 1)));
        !matches!(asked, Err(nix::Error::EAGAIN | nix::Error::EACCES))
    })
}

fn record(kind: i32, start: i64, len: i64) -> libc::flock {
    libc::flock {
        l_type: i16::try_from(kind).unwrap_or_default(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: start,
        l_len: len,
        l_pid: 0,
    }
}
