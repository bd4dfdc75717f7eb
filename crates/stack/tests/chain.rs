//! What goes into a parent, and the names of parents: in every state that a crash and its recovery leave, everybody
//! reads as he did.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used
)]

use container::link::Link;
use container::{Container, Format, Mapped};
use disk::{Cancel, CommitOptions, Cx, Image as File, Limits, OpenOptions, Over, ReadAt, Sparse};
use ondisk::guid::Uuid;
use ondisk::{Len, Offset};
use stack::chain::{Batch, Nothing, Part, Take, Then, carry, relink};
use stack::source::{Parent, Source};
use std::sync::Arc;
use testkit::sim::{Knobs, cx, sweep, sweep_poured};
use testkit::vhd::{Block, Image, content};

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
    File::open(&path, &OpenOptions { write: true, ..OpenOptions::default() }).unwrap()
}

/// The child over nothing: what it stores itself.
fn alone<'f>(top: &'f File, id: Option<Uuid>, cancel: &Cancel) -> Container<&'f dyn ReadAt> {
    let shadow = Parent { disk: Arc::new(Nothing(Len::mib(2))), id };
    let file: &dyn ReadAt = top;
    source(file, Some(shadow)).open(file, &cx(cancel)).unwrap()
}

fn part(from: Offset) -> Part {
    Part { from, room: Len::kib(60), check: true }
}

/// What `top` reads as over a parent that somebody has recovered.
fn over(top: &File, id: Option<Uuid>, recovered: &dyn ReadAt) -> Vec<u8> {
    let below = disk::MemDisk::from(Sparse::load(recovered).unwrap());
    let below: Arc<dyn Mapped + Send> =
        Arc::new(Container::open(below, Format::Vhd, &Limits::default()).unwrap());
    let cancel = Cancel::new();
    read(&source(top, Some(Parent { disk: below, id })).open(top, &cx(&cancel)).unwrap())
}

/// Batch after batch, and then the name of the parent in a child of the child: each is swept, and committed.
#[test]
fn everybody_reads_the_same_in_every_state() {
    let dir = tempfile::tempdir().unwrap();
    let (base, child) = images();
    let want = content(&child.build(), Some(&content(&base.build(), None)));
    let leaf = Image {
        uuid: *b"l a leaf over it",
        creator: *b"win ",
        batmap: false,
        parent: Some((child.uuid, vec![(*b"MacX", b"file://./the top of it".to_vec())])),
        blocks: vec![
            Block { index: 4, sectors: vec![3..9, 11..12] },
            Block { index: 9, sectors: vec![0..1, 9..20] },
        ],
        ..child.clone()
    };
    let want_leaf = content(&leaf.build(), Some(&want));
    let (mut parent, top) = (open(&dir, "base", &base), open(&dir, "top", &child));
    let mut leaf = open(&dir, "leaf", &leaf);
    let cancel = Cancel::new();
    let [id, top_id] = [base.uuid, child.uuid].map(|id| Some(Uuid(id)));
    let view = alone(&top, id, &cancel);
    let knobs = Knobs { pairs: 60, random: 60, mixes: 100, nested_every: 40, ..Knobs::quick() };
    let mut next = Some(Offset::ZERO);
    let mut batches = 0;
    while let Some(from) = next {
        let batch = carry(&source(&parent, None), Take::Own(&view), Then::Nothing, part(from), &cx(&cancel));
        let batch = batch.unwrap();
        let stored = Sparse::load(&parent).unwrap();
        let report = sweep_poured(&stored, &batch.change, &view, &knobs, &mut |recovered| {
            assert!(over(&top, id, recovered) == want);
        });
        println!("{} states: {} before, {} after", report.tried(), report.before, report.after);
        report.assert_clean();
        assert!(report.before > 0 && report.after > 0);
        assert!(batch.change.pours.iter().any(|pour| pour.over == Over::Shadowed) || batches > 0);
        parent.pour(&batch.change, &view, &CommitOptions::default(), &cx(&cancel)).unwrap();
        next = batch.next;
        batches += 1;
    }
    assert!(batches >= 2);
    // From here on the leaf may stand on either of the two.
    let link = Link { name: "base".to_owned(), format: Format::Vhd, id, timestamp: 0 };
    let change = relink(&source(&leaf, None), &link, &cx(&cancel)).unwrap();
    let (below, middle) = (read(&parent), Sparse::load(&top).unwrap());
    let report = sweep(&Sparse::load(&leaf).unwrap(), &change, &knobs, &mut |recovered| {
        let bytes = read(recovered);
        let named =
            Container::open(recovered, Format::Vhd, &Limits::default()).unwrap().parent_ref().unwrap();
        let on = if named.id == id {
            content(&below, None)
        } else {
            content(&read(&middle), Some(&content(&below, None)))
        };
        assert!(named.id == id || named.id == top_id);
        assert!(content(&bytes, Some(&on)) == want_leaf);
    });
    report.assert_clean();
    leaf.commit(&change, &CommitOptions::default(), &cx(&cancel)).unwrap();
}

#[test]
fn batches_add_up_and_are_found_done() {
    let dir = tempfile::tempdir().unwrap();
    let (base, child) = images();
    let want = content(&child.build(), Some(&content(&base.build(), None)));
    let (mut parent, top) = (open(&dir, "base", &base), open(&dir, "top", &child));
    let cancel = Cancel::new();
    let id = Some(Uuid(base.uuid));
    let view = alone(&top, id, &cancel);
    for round in 0..2 {
        let mut next = Some(Offset::ZERO);
        while let Some(from) = next {
            let batch =
                carry(&source(&parent, None), Take::Own(&view), Then::Nothing, part(from), &cx(&cancel));
            let Batch { change, next: then, .. } = batch.unwrap();
            assert_eq!(change.is_empty(), round == 1);
            let many = Cx { limits: Limits { threads: 4, ..Limits::default() }, ..cx(&cancel) };
            parent.pour(&change, &view, &CommitOptions::default(), &many).unwrap();
            next = then;
        }
        assert!(content(&read(&parent), None) == want);
    }
}
