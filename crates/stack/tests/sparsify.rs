//! Space given back under a power that fails at every instant: whatever is left recovers to a whole image with every
//! file, and sparsified again it comes to the same disk.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used
)]

use container::{Container, Format};
use disk::{Cancel, Coarse, CommitOptions, Cx, Image, Limits, OpenOptions, Quiet, ReadAt, Sparse};
use ondisk::{Len, Offset, Span};
use stack::source::Source;
use stack::{Content, discover, sparsify};
use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use testkit::guest::partition;
use testkit::images::{Fill, flavor, make_at, noise};
use testkit::oracle::{assert_clean, free_blocks, qemu_convert};
use testkit::sim::{Knobs, Shared, Snapshot, World, crash_states, image, world_of};
use testkit::tool;

const MIB: u64 = 1 << 20;

fn cx(cancel: &Cancel) -> Cx<'_> {
    Cx { progress: &Quiet, cancel, limits: Limits::default(), now: 1_800_000_000 }
}

fn source(file: &Image, format: Format) -> Source<'_> {
    Source { file, format, parent: None, fixed_len: false, with: container::OpenWith::default() }
}

fn survey(file: &Image, format: Format) -> Coarse {
    let cancel = Cancel::new();
    let free = sparsify::survey(&source(file, format), &[], &cx(&cancel)).unwrap();
    assert!(free.notes.is_empty(), "{:?}", free.notes);
    free.map
}

/// All steps, as the command takes them.
fn run(image: &mut Image, format: Format, free: &Coarse) {
    let cancel = Cancel::new();
    let cx = cx(&cancel);
    let options = CommitOptions::default();
    loop {
        let staged = sparsify::stage_drop(&source(image, format), free, &cx).unwrap();
        image.commit(&staged.change, &options, &cx).unwrap();
        if staged.dropped == 0 {
            break;
        }
    }
    let spare = sparsify::spare(&source(image, format), free, &cx).unwrap();
    let stored: Vec<Span> = image.extents(Span::whole(image.len())).unwrap().data().collect();
    let holes: Vec<Span> =
        stored.into_iter().flat_map(|data| spare.intersect(data).collect::<Vec<_>>()).collect();
    image.give_back(holes, &cx).unwrap();
    loop {
        let staged = sparsify::stage_compact(&source(image, format), &cx).unwrap();
        image.commit(&staged.change, &options, &cx).unwrap();
        if staged.moved.is_zero() {
            break;
        }
    }
}

/// The bytes of the disk that are in use; everything in the image must be in order.
fn used(file: &dyn ReadAt, format: Format, free: &Coarse) -> blake3::Hash {
    let cancel = Cancel::new();
    let cx = cx(&cancel);
    let disk = Container::open(file, format, &cx.limits).unwrap();
    let findings = disk.check().unwrap();
    assert!(findings.is_clean(), "{findings:?}");
    let mut hash = blake3::Hasher::new();
    let mut bytes = vec![0; disk.len().to_usize()];
    disk.read_at(Offset::ZERO, &mut bytes).unwrap();
    for span in free.iter() {
        let start = span.start().get() as usize;
        bytes[start..start + span.len().to_usize()].fill(0);
    }
    hash.update(&bytes).finalize()
}

fn world(state: &Snapshot) -> Shared {
    Arc::new(Mutex::new(World::boot(state)))
}

fn sweep(made: (&str, &[&str]), knobs: &Knobs) {
    // What is compressed takes its time: every fourth state is looked at.
    let every = if made.1 == ["compressed"] && std::env::var_os("SWEEP").is_none() { 4 } else { 1 };
    let dir = tempfile::tempdir().unwrap();
    let [raw, path] = ["raw", "image"].map(|name| dir.path().join(name));
    build(&raw);
    let names = [&raw, &path].map(|path| path.to_str().unwrap());
    match made.1 {
        ["compressed"] => {
            drop(tool::run("qemu-img", ["convert", "-c", "-O", made.0].into_iter().chain(names)));
        }
        _ => qemu_convert(&raw, "raw", &path, made.0, made.1),
    }
    let format: Format = made.0.parse().unwrap();
    let base = Sparse::load(&Image::open(&path, &OpenOptions::default()).unwrap()).unwrap();
    let free = survey(&image(&world_of(&base)), format);
    let want = used(&base, format, &free);

    let machine = world_of(&base);
    run(&mut image(&machine), format, &free);
    let (log, after) = {
        let world = machine.lock().unwrap();
        (world.log.clone(), world.shown().image().clone())
    };
    assert!(after.stored() < base.stored(), "{made:?}: nothing was given back");
    assert!(after.len() < base.len() || made.0 == "raw" || made.1 == ["subformat=fixed"], "{made:?}");
    assert_eq!(used(&after, format, &free), want);

    let (mut seen, mut states) = (HashSet::new(), 0);
    let start = Snapshot::of(base.clone());
    let cancel = Cancel::new();
    crash_states(&start, &log, knobs, &mut |state| {
        if !seen.insert(state.key(&start)) {
            return;
        }
        states += 1;
        if states % every != 0 {
            return;
        }
        let machine = world(&state);
        image(&machine).recover(&cx(&cancel)).unwrap();
        assert_eq!(
            used(machine.lock().unwrap().shown().image(), format, &free),
            want,
            "{made:?}, state {states}"
        );
        if states % 20 == 0 {
            let mut again = image(&machine);
            let free_now = survey(&again, format);
            run(&mut again, format, &free_now);
            let shown = machine.lock().unwrap().shown();
            assert_eq!(used(shown.image(), format, &free), want, "{made:?}, state {states}, again");
            let spare = shown.image().stored().get().saturating_sub(after.stored().get());
            assert!(spare <= 64 << 10, "{made:?}, state {states}: {spare} bytes are not given back");
        }
    });
    println!("{made:?}: {states} states of {} calls", log.len());
    assert!(states > 30, "{made:?}");
}

/// A disk of 14 MiB with a filesystem in the middle, whose free blocks hold noise.
fn build(raw: &Path) {
    File::create(raw).unwrap().set_len(14 * MIB).unwrap();
    partition(raw, "label: gpt\nfirst-lba: 34\n1: start=2048, size=20480\n");
    make_at(flavor("ext4-1k"), Len::mib(10), Fill::Empty, raw, Offset::new(MIB));
    let file = File::options().write(true).open(raw).unwrap();
    for span in free_blocks(raw, Offset::new(MIB)) {
        let len = span.len().to_usize().min(2 << 20);
        file.write_all_at(&noise(span.start().get(), len), span.start().get()).unwrap();
    }
    // In use, at the end: it has somewhere to move to. The second half can be compressed.
    file.write_all_at(&noise(77, 300 << 10), 12 * MIB).unwrap();
    let text: Vec<u8> = noise(78, 300 << 9).iter().flat_map(|byte| [byte >> 4, byte & 15]).collect();
    file.write_all_at(&text, 13 * MIB).unwrap();
    assert_clean(raw, Offset::new(MIB));
    let image = Image::open(raw, &OpenOptions::default()).unwrap();
    let cancel = Cancel::new();
    let layout = discover(&image, &cx(&cancel)).unwrap();
    assert!(layout.volumes.iter().any(|volume| volume.content == Content::Ext));
}

#[test]
fn every_state_is_whole() {
    let knobs = Knobs { pairs: 20, random: 20, mixes: 30, nested_every: 0, faults: false, ..Knobs::quick() };
    let knobs = std::env::var("SWEEP").map_or(knobs, |times| Knobs::thorough(times.parse().unwrap()));
    let made: [(&str, &[&str]); 7] = [
        ("raw", &[]),
        ("vpc", &["subformat=fixed"]),
        ("vpc", &[]),
        ("qcow2", &[]),
        ("qcow2", &["cluster_size=4096,compat=0.10"]),
        // Refcount blocks lie all over the file.
        ("qcow2", &["cluster_size=1024"]),
        ("qcow2", &["compressed"]),
    ];
    std::thread::scope(|scope| {
        for half in made.chunks(4) {
            let knobs = &knobs;
            scope.spawn(move || half.iter().for_each(|made| sweep(*made, knobs)));
        }
    });
}
