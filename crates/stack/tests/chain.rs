//! A batch that goes into a parent: in every state that a crash and its recovery leave, the child reads as it did.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used
)]

use container::{Container, Format, Mapped};
use disk::{Cancel, Image as File, Limits, OpenOptions, ReadAt, Sparse};
use ondisk::{Len, Offset};
use stack::chain::{Nothing, Part, Take, Then, carry};
use stack::source::{Parent, Source};
use std::sync::Arc;
use testkit::sim::{Knobs, cx, sweep};
use testkit::vhd::{Block, Image, content};

const ALL: Part = Part { from: Offset::ZERO, room: Len::mib(64), check: true };

fn source(file: &dyn ReadAt, parent: Option<Parent>) -> Source<'_> {
    Source { file, format: Format::Vhd, with: Default::default(), parent, fixed_len: false }
}

fn read(disk: &dyn ReadAt) -> Vec<u8> {
    let mut bytes = vec![0; disk.len().to_usize()];
    disk.read_at(Offset::ZERO, &mut bytes).unwrap();
    bytes
}

/// A tap image and a child of it with blocks of 64 KiB.
fn images() -> (Image, Image) {
    let base = Image { uuid: *b"p the grand base", ..Image::tap(2 << 20).with_block(64 << 10) };
    let child = Image {
        kind: 4,
        uuid: *b"c a child of it.",
        parent: Some((base.uuid, vec![(*b"MacX", b"file://./base".to_vec())])),
        blocks: vec![Block { index: 0, sectors: vec![0..8, 77..78] }, Block::whole(4), Block::whole(7)],
        ..base.clone()
    };
    let blocks = vec![Block::whole(0), Block { index: 7, sectors: vec![5..60, 61..63] }];
    (Image { blocks, ..base }, child)
}

fn open(dir: &tempfile::TempDir, name: &str, image: &Image) -> File {
    let path = dir.path().join(name);
    std::fs::write(&path, image.build()).unwrap();
    File::open(&path, &OpenOptions::default()).unwrap()
}

#[test]
fn the_child_reads_the_same_in_every_state() {
    let dir = tempfile::tempdir().unwrap();
    let (base, child) = images();
    let want = content(&child.build(), Some(&content(&base.build(), None)));
    let (parent, top) = (open(&dir, "base", &base), open(&dir, "top", &child));
    let cancel = Cancel::new();
    let id = Some(ondisk::guid::Uuid(base.uuid));
    let shadow = Parent { disk: Arc::new(Nothing(Len::mib(2))), id };
    let batch = carry(
        &source(&parent, None),
        &source(&top, Some(shadow)),
        Take::Own,
        Then::Nothing,
        ALL,
        &cx(&cancel),
    );
    let batch = batch.unwrap();
    assert!(batch.next.is_none() && !batch.change.is_empty());
    let stored = Sparse::load(&parent).unwrap();
    let knobs = Knobs { pairs: 60, random: 60, mixes: 100, nested_every: 40, ..Knobs::quick() };
    let report = sweep(&stored, &batch.change, &knobs, &mut |recovered| {
        let below = Container::open(
            disk::MemDisk::from(Sparse::load(recovered).unwrap()),
            Format::Vhd,
            &Limits::default(),
        );
        let below: Arc<dyn Mapped + Send> = Arc::new(below.unwrap());
        let over = source(&top, Some(Parent { disk: below, id })).open(&top, &cx(&cancel)).unwrap();
        assert!(read(&over) == want);
    });
    println!("{} states: {} before, {} after", report.tried(), report.before, report.after);
    assert!(report.before > 0 && report.after > 0);
    report.assert_clean();
}

#[test]
fn batches_add_up_and_are_found_done() {
    let dir = tempfile::tempdir().unwrap();
    let (base, child) = images();
    let want = content(&child.build(), Some(&content(&base.build(), None)));
    let (parent, top) = (open(&dir, "base", &base), open(&dir, "top", &child));
    let mut file = disk::MemDisk::from(Sparse::load(&parent).unwrap());
    let cancel = Cancel::new();
    let id = Some(ondisk::guid::Uuid(base.uuid));
    let mut changes = Vec::new();
    for _ in 0..2 {
        let mut next = Some(Offset::ZERO);
        while let Some(from) = next {
            let shadow = Parent { disk: Arc::new(Nothing(Len::mib(2))), id };
            let (target, over) = (source(&file, None), source(&top, Some(shadow)));
            let part = Part { from, room: Len::kib(32), check: true };
            let batch = carry(&target, &over, Take::Own, Then::Nothing, part, &cx(&cancel)).unwrap();
            next = batch.next;
            changes.push(batch.change.is_empty());
            file.apply(&batch.change).unwrap();
        }
    }
    assert!(changes.len() == 4 && !changes[0], "{changes:?}");
    assert!(changes[changes.len() / 2..].iter().all(|empty| *empty), "{changes:?}");
    assert!(content(&file.to_vec(), None) == want);
}
