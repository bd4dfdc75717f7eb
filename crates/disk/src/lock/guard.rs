//! The write lease: the kernel's word that nobody else has the file open, and a guard while we write.

use super::{PATIENCE, PAUSE, Survey};
use crate::{DevKind, Error, FileDev, Identity, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::fstatfs;
use std::io;

/// File systems of other hosts or programs, which give leases for reasons of their own, by the numbers of `statfs(2)`:
/// NFS, SMB, CIFS, SMB2, FUSE, 9P, Ceph, AFS.
const REMOTE: [u64; 8] =
    [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x6573_5546, 0x0102_1997, 0x00c3_6400, 0x5346_414f];

/// What the kernel says of other openers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lease {
    /// Nobody else has the file open, and whoever opens it waits for us.
    Taken,
    /// Somebody has it open.
    Denied,
    /// Leases tell nothing here: a device, a remote file system, a file of another owner.
    Unknown,
}

/// Takes the write lease.
pub(super) fn take(file: impl AsFd) -> Lease {
    let remote =
        || fstatfs(&file).is_ok_and(|stat| u64::try_from(stat.f_type).is_ok_and(|t| REMOTE.contains(&t)));
    match lease::take(&file) {
        Ok(()) => Lease::Taken,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && !remote() => Lease::Denied,
        Err(_) => Lease::Unknown,
    }
}

/// Keeps others from opening an image while it is written.
#[derive(Debug)]
pub(crate) struct Guard {
    file: OwnedFd,
    kind: DevKind,
    identity: Identity,
    force: bool,
}

impl Guard {
    /// For an image that is open for writing; `force` writes although it is in use.
    pub(crate) fn new(dev: &FileDev, force: bool) -> Result<Self> {
        use crate::Dev;
        let file = dev.as_fd().try_clone_to_owned();
        let file = file.map_err(|source| Error::Io { op: "clone", span: ondisk::Span::default(), source })?;
        Ok(Self { file, kind: dev.kind(), identity: dev.identity(), force })
    }

    /// Takes the lease again: whoever has opened the file since it was looked at, is found now; who opens it from now
    /// on waits until the value is dropped, at most for the system's lease break time.
    pub(crate) fn hold(&self) -> Result<Held<'_>> {
        let held = Held(self);
        let mut lease = take(&self.file);
        for _ in 0..if self.force { 0 } else { PATIENCE } {
            if lease != Lease::Denied {
                break;
            }
            std::thread::sleep(PAUSE);
            lease = take(&self.file);
        }
        if lease != Lease::Denied || self.force {
            return Ok(held);
        }
        let survey = Survey { opened: true, ..Survey::of(self.kind, self.identity, false) };
        Err(Error::InUse { by: survey.to_string() })
    }
}

/// The lease, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held<'g>(&'g Guard);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // The end of the process ends the lease as well.
        let _ = lease::release(&self.0.file);
    }
}
