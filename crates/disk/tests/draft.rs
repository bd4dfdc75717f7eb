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
