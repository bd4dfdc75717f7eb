//! The values of an image's windows, kept beside it, so that it is not read again as long as it stays what it is.
//!
//! 1. `IMAGE.imgtool-digest` is for one state of one image: device, number, length and times, to the nanosecond, of every
//!    file that the disk is read from, and the format. The time of the last change nobody can set back.
//! 2. It is neither used nor written where somebody has one of the files open for writing, where one was changed within
//!    the last seconds, or for devices, archives, disks within a repository, and images with an interrupted change.
//! 3. It is believed only where it is ours, and nobody else may write to it. Anything that is wrong with it is as if it
//!    were not there. Where it cannot be written, nothing is said: it only saves time.

use crate::cx::Session;
use crate::open::Opened;
use crate::sandbox::{Needs, folder_of};
use delta::{Leaves, survey};
use disk::{Cx, Draft, ReadAt};
use ondisk::num::to_u64;
use ondisk::{Len, Offset};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::geteuid;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is added to the image's name.
const SUFFIX: &str = ".imgtool-digest";
/// Bits of a mode that let others write.
const OTHERS_WRITE: u32 = 0o022;

/// What is known of an image before it is read.
pub struct Known {
    place: PathBuf,
    /// The state of the image; none where nothing is kept of it.
    key: Option<[u8; 32]>,
    leaves: Option<Leaves>,
}

impl Known {
    /// Looks beside the image, unless nothing shall be kept. The sandbox lets nothing be opened later.
    pub fn of(opened: &Opened<'_>, keep: bool, session: &Session) -> Self {
        let real = std::fs::canonicalize(opened.path).unwrap_or_else(|_| opened.path.to_owned());
        let mut place = real.into_os_string();
        place.push(SUFFIX);
        let place = PathBuf::from(place);
        let key = if keep { opened.state(session) } else { None };
        let read = |key: &[u8; 32]| Leaves::from_noted(&read(&place, session)?, key);
        let leaves = key.as_ref().and_then(read);
        Self { place, key, leaves }
    }

    /// Adds the folder where something will be written.
    pub fn needs(&self, needs: Needs) -> Needs {
        if self.key.is_some() && self.leaves.is_none() {
            needs.writing(folder_of(&self.place))
        } else {
            needs
        }
    }

    /// The values of the image's windows: those that are known, or read now.
    ///
    /// # Errors
    /// As [`survey`].
    pub fn survey(&self, disk: &dyn ReadAt, cx: &Cx<'_>) -> delta::Result<Leaves> {
        match self.leaves.as_ref().filter(|leaves| leaves.len() == disk.len()) {
            Some(leaves) => Ok(leaves.clone()),
            None => survey(disk, "base", cx),
        }
    }

    /// Keeps what was read, if the image is still what it was before.
    pub fn keep(&self, leaves: &Leaves, opened: &Opened<'_>, session: &Session) {
        let Some(key) = self.key.filter(|key| self.leaves.is_none() && opened.state(session) == Some(*key))
        else {
            return;
        };
        if session.globals.dry_run || Leaves::noted_len(leaves.len()) > most(session) {
            return;
        }
        let bytes = leaves.noted(&key);
        let _ = Draft::private(&self.place).and_then(|draft| {
            draft.write_at(Offset::ZERO, &bytes)?;
            draft.set_len(Len::of(&bytes))?;
            draft.publish()
        });
    }
}

/// A base as a disk, and the values of its windows.
pub type Surveyed<'a> = (&'a dyn ReadAt, Leaves);

/// Disks, and the values of their windows.
///
/// # Errors
/// As [`survey`].
pub fn surveyed<'a>(
    disks: &[&'a dyn ReadAt],
    known: &[Known],
    cx: &Cx<'_>,
) -> delta::Result<Vec<Surveyed<'a>>> {
    let each = disks.iter().zip(known);
    each.map(|(disk, known)| Ok((*disk, known.survey(*disk, cx)?))).collect()
}

impl Opened<'_> {
    /// What tells this state of the image from any other.
    fn state(&self, session: &Session) -> Option<[u8; 32]> {
        let part = self.within().is_some() || self.with.disk.is_some();
        if part || self.is_device() || self.is_pending() || self.unfollowed.is_some() {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        for format in std::iter::once(&self.format).chain(&self.formats) {
            hasher.update(format.name().as_bytes()).update(&[0]);
        }
        for file in self.files()? {
            let state = file.settled(session.cx().now)?;
            for number in [state.identity.device, state.identity.inode, state.len] {
                hasher.update(&number.to_le_bytes());
            }
            for (seconds, nanoseconds) in [state.modified, state.changed] {
                hasher.update(&seconds.to_le_bytes()).update(&nanoseconds.to_le_bytes());
            }
        }
        Some(*hasher.finalize().as_bytes())
    }
}

/// So much of memory is for what lies beside an image.
fn most(session: &Session) -> Len {
    Len::new(session.limits.memory.get() >> 3)
}

/// A file of ours, to which nobody else may write.
fn read(place: &Path, session: &Session) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(open(place, flags, Mode::empty()).ok()?);
    let meta = file.metadata().ok()?;
    let ours = meta.uid() == geteuid().as_raw() && meta.mode() & OTHERS_WRITE == 0;
    if !meta.is_file() || !ours || meta.len() > most(session).get() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(meta.len()).read_to_end(&mut bytes).ok()?;
    (to_u64(bytes.len()) == meta.len()).then_some(bytes)
}
