//! Drafts that a killed process has left behind.
//!
//! 1. Who makes a draft locks it first, and marks it then, with an extended attribute: what is marked and not locked has
//!    been given up.
//! 2. Removed is only a regular file of ours, with this one name, that bears the mark and whose lock we got. All others
//!    stay, those on file systems without locks or attributes too.
//! 3. Its lock is held until its name is gone: of several that find it, one removes it, and nobody removes what another
//!    one has begun under the same name meanwhile.

use crate::{Folder, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    FileType, FlockOperation, Stat, XattrFlags, fgetxattr, flock, fremovexattr, fsetxattr, fstat,
};
use rustix::process::geteuid;
use std::ffi::OsStr;

/// The attribute that tells a draft from a file that happens to be called like one.
const MARK: &str = "user.imgtool.draft";

/// Claims a draft that was just created, where the file system can tell others.
pub(super) fn claim(file: impl AsFd) {
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        // Without the mark it is left alone, as every other file is.
        let _ = fsetxattr(&file, MARK, b"1", XattrFlags::CREATE);
    }
}

/// Takes the mark away from what has become a file.
pub(super) fn release(file: impl AsFd) {
    // No name that is looked at leads to it any more.
    let _ = fremovexattr(file, MARK);
}

/// Removes the draft of that name if it has been given up. Yields whether it has.
pub(super) fn remove(folder: &Folder, name: &OsStr) -> Result<bool> {
    match given_up(folder, name) {
        // Its lock is held until the name is gone.
        Some(_lock) => folder.remove(name).map(|()| true),
        None => Ok(false),
    }
}

/// The draft of that name with its lock, if it has been given up.
pub(super) fn given_up(folder: &Folder, name: &OsStr) -> Option<OwnedFd> {
    let file = OwnedFd::from(folder.open_left(name)?);
    let is_ours = |stat: &Stat| {
        FileType::from_raw_mode(stat.st_mode).is_file()
            && stat.st_uid == geteuid().as_raw()
            && stat.st_nlink == 1
    };
    let marked = || fgetxattr(&file, MARK, &mut [0_u8; 1]).is_ok();
    let stat = fstat(&file).ok()?;
    // The mark before the lock: who has not marked it yet must get the lock.
    if !is_ours(&stat) || !marked() || flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return None;
    }
    // Behind the lock: meanwhile it may have been finished, or removed.
    let still = folder.stat(name).is_some_and(|now| (now.st_dev, now.st_ino) == (stat.st_dev, stat.st_ino));
    let left = still && marked();
    left.then_some(file)
}
