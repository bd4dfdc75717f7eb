//! A repair is a change like any other: every crash leaves the damaged image or the mended one.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used
)]

use container::Format;
use disk::{Cancel, Image, OpenOptions, Sparse};
use stack::repair::{Reach, Repaired, stage};
use stack::source::Source;
use std::fs::{File, OpenOptions as Open};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use testkit::guest::partition;
use testkit::oracle::qemu_convert;
use testkit::sim::{Knobs, cx, sweep};

/// A GPT whose primary copy is damaged, in a container.
fn damaged_gpt(dir: &Path, format: &str, options: &[&str]) -> PathBuf {
    let raw = dir.join("disk");
    File::create(&raw).unwrap().set_len(8 << 20).unwrap();
    partition(&raw, "label: gpt\nstart=2048, size=2048\n");
    Open::new().write(true).open(&raw).unwrap().write_all_at(b"damage", 512 + 60).unwrap();
    let image = dir.join(format);
    qemu_convert(&raw, "raw", &image, format, options);
    image
}

fn patch(image: &Path, at: u64, bytes: &[u8]) {
    Open::new().write(true).open(image).unwrap().write_all_at(bytes, at).unwrap();
}

fn sweep_one(image: &Path, format: Format) -> Repaired {
    let open = Image::open(image, &OpenOptions::default()).unwrap();
    let cancel = Cancel::new();
    let source = Source { file: &open, format, with: Default::default(), parent: None, fixed_len: false };
    let repaired = stage(&source, Reach::All, &cx(&cancel)).unwrap();
    assert!(repaired.after.is_clean(), "{:?}", repaired.after);
    let base = Sparse::load(&open).unwrap();
    let knobs = Knobs { pairs: 40, random: 40, mixes: 80, nested_every: 50, faults: false, ..Knobs::quick() };
    let report = sweep(&base, &repaired.change, &knobs, &mut |_| {});
    println!("{format}: {} states: {} before, {} after", report.tried(), report.before, report.after);
    assert!(report.before > 0 && report.after > 0);
    report.assert_clean();
    repaired
}

#[test]
fn every_state_is_before_or_after() {
    let dir = tempfile::tempdir().unwrap();
    let raw = damaged_gpt(dir.path(), "raw", &[]);
    assert_eq!(sweep_one(&raw, Format::Raw).steps.len(), 1);

    // A file that gets shorter, and one that gets longer.
    for (cut, more) in [(None, 100_000), (Some(512), 0)] {
        let vhd = damaged_gpt(dir.path(), "vpc", &["force_size=on"]);
        let len = vhd.metadata().unwrap().len();
        let file = Open::new().write(true).open(&vhd).unwrap();
        file.set_len(len - cut.unwrap_or_default()).unwrap();
        file.write_all_at(&vec![7; more], len).unwrap();
        let steps = sweep_one(&vhd, Format::Vhd).steps;
        assert_eq!(steps.len(), 2, "{steps:?}");
    }
    let qcow2 = damaged_gpt(dir.path(), "qcow2", &["cluster_size=4096"]);
    patch(&qcow2, 4096, &[0; 8]); // the refcount table
    let steps = sweep_one(&qcow2, Format::Qcow2).steps;
    assert_eq!(steps.len(), 2, "{steps:?}");
}
