//! Opening what lies below a folder, by a name that is not trusted.
//!
//! 1. One system call goes through the whole name: nothing can be put in its way between looking and opening.
//! 2. The name leads neither out of the folder nor through a link.
//! 3. Kernels before 5.6 have no such call, and some sandboxes forbid it. There each part is opened from the one before.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::path::{Component, Path};

/// Opens what is called `name` from `root` on.
pub(super) fn open(root: impl AsFd, name: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match fs::openat2(&root, name, flags, Mode::empty(), how) {
        Err(Errno::NOSYS | Errno::PERM) => step_by_step(root, name, flags),
        opened => opened,
    }
}

fn step_by_step(root: impl AsFd, name: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let here = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = fs::openat(root, ".", here, Mode::empty())?;
    let mut parts = name.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(part) = part else { return Err(Errno::XDEV) };
        let how = if parts.peek().is_some() { here } else { flags };
        at = fs::openat(&at, part, how | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_else_is_opened_in_either_way() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::create_dir(dir.path().join("out")).unwrap();
        symlink("../out", root.join("up")).unwrap();
        symlink("a", root.join("inside")).unwrap();
        symlink("/", root.join("a/b/top")).unwrap();
        let fd = fs::open(&root, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        for (name, fine) in [
            ("a", true),
            ("a/b", true),
            ("up", false),
            ("inside", false),
            ("inside/b", false),
            ("a/b/top", false),
            ("a/b/top/tmp", false),
            ("../out", false),
            ("a/../../out", false),
            ("/tmp", false),
        ] {
            let name = Path::new(name);
            assert_eq!(open(&fd, name, flags).is_ok(), fine, "{name:?}");
            assert_eq!(step_by_step(&fd, name, flags).is_ok(), fine, "{name:?}, step by step");
        }
    }
}
