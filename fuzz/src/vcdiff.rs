//! Patches in the format of xdelta3, by ourselves and by xdelta3.

use crate::base::{Base, Place, span};
use disk::{Cancel, MemDisk, ReadAt};
use std::path::Path;
use testkit::images::noise;
use testkit::tool::{done, tool};

/// Options of xdelta3.
const XDELTA: &[&str] = &["-S none", "-S none -n", "-S djw", "-S lzma", "-S fgk", "-9 -S lzma -W 16384", "-S djw -W 16384 -n"];

/// What all of them are made from.
#[must_use]
pub fn base() -> Vec<u8> {
    noise(1, 20_000)
}

/// One patch for each way to make one.
#[must_use]
pub fn bases() -> Vec<Base> {
    let (old, text) = (base(), b"text that comes again, ".repeat(400));
    let new = [&old[7000..], &noise(2, 900), &text, &[0; 9000], &noise(2, 900), &old[..5000], b"end"].concat();
    let cancel = Cancel::new();
    let mut ours = Vec::new();
    let disks = (MemDisk::from_bytes(&old), MemDisk::from_bytes(&new));
    delta::vcdiff::create(Some(&disks.0), &disks.1, 3, &mut ours, &crate::cx(&cancel)).expect("a patch");
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(dir.path().join("old"), &old).expect("a base");
    std::fs::write(dir.path().join("new"), &new).expect("a target");
    let theirs = XDELTA.iter().map(|options| patch(&format!("xdelta3 {options}"), &made(dir.path(), options)));
    [patch("ours", &ours)].into_iter().chain(theirs).collect()
}

fn made(dir: &Path, options: &str) -> Vec<u8> {
    let line = format!("-e -f {options} -s old new patch");
    done(tool("xdelta3").current_dir(dir).args(line.split(' ')));
    std::fs::read(dir.join("patch")).expect("a patch")
}

/// Where headers are, and the beginnings and ends of sections; and all of it.
fn patch(name: &str, bytes: &[u8]) -> Base {
    let disk = MemDisk::from_bytes(bytes);
    let read = delta::vcdiff::Vcdiff::open(&disk, &crate::LIMITS).expect("a sound patch");
    let (mut headers, mut sections) = (Vec::new(), Vec::new());
    for window in read.windows() {
        let mut at = window.sections.get();
        headers.push(Place::on(&disk, span(window.at.get(), at - window.at.get()), None));
        for len in window.lens {
            sections.push(Place::on(&disk, span(at, len.min(32)), None));
            at += len;
            sections.push(Place::on(&disk, span(at - len.min(8), len.min(8)), None));
        }
    }
    let start = Place::on(&disk, span(0, 24), None);
    let all = Place::on(&disk, span(0, disk.len().get()), None);
    Base::new(name, disk.bytes().clone(), vec![headers, sections, vec![start], vec![all]])
}
