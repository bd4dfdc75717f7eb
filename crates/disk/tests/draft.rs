//! New files get their names when they are whole, and never take the place of another.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs,
    reason = "tests"
)]

use disk::draft::DRAFT_SUFFIX;
use disk::{Change, Data, Draft, Error, Write};
use ondisk::{Len, Offset, Span};
use std::fs;
use std::os::unix::fs::MetadataExt;

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new");
    let names = || fs::read_dir(folder.path()).unwrap().count();

    let draft = Draft::create(&path).unwrap();
    draft.write_at(Offset::new(7), b"seven").unwrap();
    assert!(!path.exists() && names() == 1);
    drop(draft);
    assert_eq!(names(), 0);

    let draft = Draft::create(&path).unwrap();
    let bytes = Write { at: Offset::new(1 << 20), data: Data::Bytes(b"x".repeat(512)) };
    let zeros = Write { at: Offset::ZERO, data: Data::Zero(Len::kib(64)) };
    draft.fill(&Change { new_len: Len::mib(4), fresh: vec![zeros, bytes], ..Change::default() }).unwrap();
    draft.zero(Span::new(Offset::new(1 << 20), Len::new(256)).unwrap()).unwrap();
    draft.publish().unwrap();
    let content = fs::read(&path).unwrap();
    assert_eq!(content.len(), 4 << 20);
    let stored: Vec<_> =
        content.iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(at, _)| at).collect();
    assert_eq!(stored, ((1 << 20) + 256..(1 << 20) + 512).collect::<Vec<_>>());
    assert!(path.metadata().unwrap().blocks() < 100, "zeros are holes");
    assert_eq!(names(), 1);
}

#[test]
fn nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new");
    let draft = Draft::create(&path).unwrap();
    let second = Draft::create(&path);
    assert!(matches!(&second, Err(Error::Refused { what, .. }) if what.contains(DRAFT_SUFFIX)), "{second:?}");
    fs::write(&path, "somebody else's").unwrap();
    assert!(matches!(draft.publish(), Err(Error::Refused { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"somebody else's");
    assert!(matches!(Draft::create(&path), Err(Error::Refused { .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the draft is gone");
}

/// The mark of a draft, as another process would see it.
fn mark(path: &std::path::Path) -> Option<[u8; 1]> {
    let mut value = [0];
    rustix::fs::getxattr(path, "user.imgtool.draft", &mut value).ok().map(|_| value)
}

#[test]
fn only_what_is_provably_left_behind_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, left) = (folder.path().join("new"), folder.path().join("new.imgtool-new"));
    let set = |value: &[u8]| {
        rustix::fs::setxattr(&left, "user.imgtool.draft", value, rustix::fs::XattrFlags::CREATE).unwrap();
    };
    let refused = |why: &str| {
        let before = fs::symlink_metadata(&left).unwrap().ino();
        assert!(matches!(Draft::create(&path), Err(Error::Refused { .. })), "{why}");
        assert_eq!(fs::symlink_metadata(&left).unwrap().ino(), before, "{why}");
    };

    let alive = Draft::create(&path).unwrap();
    assert_eq!(mark(&left), Some(*b"1"));
    refused("somebody makes it");
    alive.publish().unwrap();
    assert_eq!(mark(&path), None, "a finished file bears no mark");
    fs::remove_file(&path).unwrap();

    fs::write(&left, "mine").unwrap();
    refused("a file that is only called so");
    set(b"1");
    let other = folder.path().join("other");
    fs::hard_link(&left, &other).unwrap();
    refused("it has another name");
    fs::remove_file(&left).unwrap();
    std::os::unix::fs::symlink(&other, &left).unwrap();
    refused("a link to one");
    fs::remove_file(&left).unwrap();
    fs::rename(&other, &left).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&left, Some(12345), None).unwrap();
        refused("somebody else's");
        std::os::unix::fs::chown(&left, Some(0), None).unwrap();
    }
    let lock = fs::File::open(&left).unwrap();
    lock.try_lock().unwrap();
    refused("somebody holds its lock");
    drop(lock);

    let draft = Draft::create(&path).unwrap();
    assert_eq!(left.metadata().unwrap().len(), 0, "begun anew");
    drop(draft);
    assert!(!left.exists());
}
