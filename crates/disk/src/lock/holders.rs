//! Who has an image open, as far as the kernel tells.

use crate::{DevKind, Identity};
use ondisk::text::Printable;
use rustix::fs::{AtFlags, CWD, StatxFlags, major, makedev, minor, statx};
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A process that has the image open or mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its name, printable.
    pub name: String,
    /// Whether it may write.
    pub writes: bool,
}

/// Everybody who uses an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Other processes.
    pub holders: Vec<Holder>,
    /// Parts of the kernel: loop devices, mapped devices, mounts.
    pub kernel: Vec<String>,
    /// Whether somebody holds a lock on it.
    pub locked: bool,
    /// Whether the kernel says that somebody has it open, whom we may not be able to see. Known only for writing.
    pub opened: bool,
    /// Processes that we were not allowed to look into.
    pub unseen: usize,
}

impl Survey {
    /// Looks around; whether there are locks is known already.
    #[must_use]
    pub fn of(kind: DevKind, identity: Identity, locked: bool) -> Self {
        let target = Target { kind, identity };
        let mut survey = Self { locked, ..Self::default() };
        survey.look_at_processes(&target);
        match kind {
            DevKind::File => {}
            DevKind::Block => survey.look_at_stack(&target),
        }
        // A loop device stands on a file or on another device, which then shows no holder.
        survey.look_at_loops(&target);
        survey
    }

    /// Whether anybody was found.
    #[must_use]
    pub fn in_use(&self) -> bool {
        self.locked || self.opened || !self.holders.is_empty() || !self.kernel.is_empty()
    }

    /// A file that is merely being read is in use too; a device is read by whoever lists devices.
    pub(super) fn refuses_writing(&self, kind: DevKind) -> bool {
        let by_process = self.holders.iter().any(|holder| holder.writes || kind == DevKind::File);
        self.locked || self.opened || by_process || !self.kernel.is_empty()
    }

    fn look_at_processes(&mut self, target: &Target) {
        let own = std::process::id();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if pid == own {
                continue;
            }
            match open_by(&entry.path(), target) {
                Some(Some(writes)) => {
                    let name = fs::read(entry.path().join("comm")).unwrap_or_default();
                    let name = Printable(name.trim_ascii_end()).to_string();
                    self.holders.push(Holder { pid, name, writes });
                }
                Some(None) => {}
                None => self.unseen = self.unseen.saturating_add(1),
            }
        }
    }

    fn look_at_loops(&mut self, target: &Target) {
        for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let Ok(mut backing) = fs::read(entry.path().join("loop/backing_file")) else { continue };
            backing.truncate(backing.trim_ascii_end().len());
            if target.is(Path::new(std::ffi::OsStr::from_bytes(&backing))) {
                self.kernel.push(format!("/dev/{}", entry.file_name().to_string_lossy()));
            }
        }
    }

    /// What is stacked on a device or on its partitions, and where they are mounted.
    fn look_at_stack(&mut self, target: &Target) {
        let (maj, min) = (major(target.identity.device), minor(target.identity.device));
        let home = format!("/sys/dev/block/{maj}:{min}");
        let parts = fs::read_dir(&home).into_iter().flatten().flatten().map(|entry| entry.path());
        let parts = parts.filter(|path| path.join("partition").exists());
        for part in std::iter::once(home.clone().into()).chain(parts) {
            let number = fs::read_to_string(part.join("dev")).unwrap_or_default();
            for holder in fs::read_dir(part.join("holders")).into_iter().flatten().flatten() {
                self.kernel.push(format!("/dev/{}", holder.file_name().to_string_lossy()));
            }
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            for line in mounts.lines() {
                let fields: Vec<&str> = line.split(' ').collect();
                if let (Some(&device), Some(&place)) = (fields.get(2), fields.get(4))
                    && device == number.trim_end()
                {
                    self.kernel.push(format!("the mount on {}", Printable(place.as_bytes())));
                }
            }
        }
    }
}

/// The file or device in question.
struct Target {
    kind: DevKind,
    identity: Identity,
}

impl Target {
    /// Whether `path`, which may be a magic link, leads to it. Asks no server.
    fn is(&self, path: &Path) -> bool {
        let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
        let Ok(stat) = statx(CWD, path, flags, StatxFlags::INO | StatxFlags::TYPE) else { return false };
        match self.kind {
            DevKind::File => {
                makedev(stat.stx_dev_major, stat.stx_dev_minor) == self.identity.device
                    && stat.stx_ino == self.identity.inode
            }
            DevKind::Block => {
                let block = rustix::fs::FileType::from_raw_mode(u32::from(stat.stx_mode)).is_block_device();
                block && makedev(stat.stx_rdev_major, stat.stx_rdev_minor) == self.identity.device
            }
        }
    }
}

/// Whether a process has the target open or mapped, and whether it may write; `None` where we may not look.
fn open_by(process: &Path, target: &Target) -> Option<Option<bool>> {
    let fds = match fs::read_dir(process.join("fd")) {
        Ok(fds) => fds,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return None,
        // It has ended meanwhile.
        Err(_) => return Some(None),
    };
    let mut found = None;
    for fd in fds.flatten() {
        let file = fs::read_link(fd.path()).is_ok_and(|link| link.is_absolute());
        if file && target.is(&fd.path()) {
            let info = fs::read_to_string(process.join("fdinfo").join(fd.file_name())).unwrap_or_default();
            found = access(&info).map(|writes| writes || found == Some(true)).or(found);
        }
    }
    if found.is_none() && target.kind == DevKind::File && is_mapped(process, target) {
        found = Some(true);
    }
    Some(found)
}

/// Whether an open file may be written, from its `fdinfo`; `None` where it is only a name (`O_PATH`).
fn access(fdinfo: &str) -> Option<bool> {
    let flags = fdinfo.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).unwrap_or(2);
    if flags & 0o10_000_000 != 0 { None } else { Some(flags & 3 != 0) }
}

/// A mapping outlives the descriptor that made it.
fn is_mapped(process: &Path, target: &Target) -> bool {
    let device = format!("{:02x}:{:02x}", major(target.identity.device), minor(target.identity.device));
    let maps = fs::read(process.join("maps")).unwrap_or_default();
    let maps = String::from_utf8_lossy(&maps);
    maps.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(3);
        fields.next() == Some(&*device)
            && fields.next().and_then(|inode| inode.parse().ok()) == Some(target.identity.inode)
    })
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holders = self.holders.iter().map(|holder| format!("{} (pid {})", holder.name, holder.pid));
        let mut all: Vec<String> = holders.chain(self.kernel.iter().cloned()).collect();
        if all.is_empty() && self.locked {
            all.push("the holder of a lock on it".to_owned());
        }
        if all.is_empty() && self.opened {
            all.push(
                "somebody who cannot be seen from here: another user's program, or one in a container"
                    .to_owned(),
            );
        }
        f.write_str(&all.join(", "))
    }
}
