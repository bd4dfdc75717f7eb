//! Filesystems as a running guest leaves them: with a journal that waits for its replay.

use std::path::Path;

use crate::oracle::Mount;
use crate::tool::run;

/// How the guest goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The filesystem shuts down with its last transactions in the journal but not at home.
    Committed,
    /// It shuts down at once: what was not committed is lost.
    AtOnce,
}

/// Mounts the filesystem in `image`, lets `work` change files below its root, and stops it without unmounting it
/// properly. The image then has a dirty journal, and an orphan list where `work` left removed files open in `K`.
///
/// # Panics
/// Where the kernel does not mount it or cannot shut it down.
pub fn stop_while_mounted<K>(image: &Path, stop: Stop, work: impl FnOnce(&Path) -> K) {
    let mount = Mount::read_write(image);
    let kept = work(mount.path());
    let options: &[&str] = match stop {
        Stop::Committed => &["-f"],
        Stop::AtOnce => &[],
    };
    let command = [&["shutdown"], options].concat().join(" ");
    run("xfs_io", ["-x".as_ref(), "-c".as_ref(), command.as_ref(), mount.path().as_os_str()]);
    drop(kept);
}

/// Copies the image while it is mounted and in use: what a snapshot of a running guest holds.
///
/// # Panics
/// Where the kernel does not mount it.
pub fn copy_while_mounted<K>(image: &Path, copy: &Path, work: impl FnOnce(&Path) -> K) {
    let mount = Mount::read_write(image);
    let kept = work(mount.path());
    run("sync", ["-f".as_ref(), mount.path().as_os_str()]);
    crate::tool::copy_sparse(image, copy);
    drop(kept);
}

/// Replays the journal as the kernel does it at mount, and unmounts.
///
/// # Panics
/// Where the kernel refuses to mount it.
pub fn recover(image: &Path) {
    drop(Mount::read_write(image));
}

#[cfg(test)]
mod tests {
    use std::fs::{File, create_dir, remove_file, write};

    use ondisk::{Len, Offset};

    use super::*;
    use crate::files::Manifest;
    use crate::images::{Fill, flavor, make};
    use crate::oracle::{assert_clean, e2fsck};

    /// Changes files, and keeps a removed one open.
    fn work(root: &Path) -> File {
        create_dir(root.join("new")).expect("a folder");
        for i in 0..300 {
            write(root.join(format!("new/{i}")), b"written by a guest").expect("a file");
        }
        let orphan = File::open(root.join("new/7")).expect("a file");
        remove_file(root.join("new/7")).expect("a file to remove");
        orphan
    }

    #[test]
    fn a_stopped_guest_leaves_a_journal_to_replay() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for name in ["ext4-4k", "ext4-orphan-file", "ext3-centos5"] {
            let image = dir.path().join(name);
            let flavor = flavor(name);
            make(flavor, Len::mib(64), Fill::Tree, &image);
            stop_while_mounted(&image, Stop::Committed, work);
            assert!(e2fsck(&image, Offset::ZERO).needs_recovery, "{name}");
            recover(&image);
            assert_clean(&image, Offset::ZERO);
            let files = Manifest::of(Mount::read_only(&image).path());
            assert!(files.0.contains_key(b"new/299".as_slice()), "{name}");
            assert!(!files.0.contains_key(b"new/7".as_slice()), "{name}");
        }
    }

    #[test]
    fn a_copy_of_a_running_guest_has_its_files_after_the_replay() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let [image, copy] = ["image", "copy"].map(|name| dir.path().join(name));
        make(flavor("ext4-1k"), Len::mib(64), Fill::Tree, &image);
        copy_while_mounted(&image, &copy, work);
        assert!(e2fsck(&copy, Offset::ZERO).needs_recovery);
        recover(&copy);
        assert_clean(&copy, Offset::ZERO);
        let files = Manifest::of(Mount::read_only(&copy).path());
        assert!(files.0.contains_key(b"new/299".as_slice()));
    }
}
