//! Physical volumes of lvm2, one or two of them one behind the other on a disk.

use crate::base::{Base, Place, Seal, span};
use crate::ext::load;
use disk::{Disk, Limits, ReadAt, Slice, Sparse, read_vec};
use ondisk::sum::crc32_raw;
use ondisk::{Len, Offset, Span};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use testkit::lvm::{Lvm, OFFLINE};
use testkit::oracle::Loop;

const MIB: u64 = 1 << 20;
/// Where every checksum of lvm2 starts.
const SEED: u32 = 0xf597_a6cf;
/// Each physical volume of a base takes so much.
pub const PV: Len = Len::mib(32);

/// Options of pvcreate, how many physical volumes, and the logical volumes.
type Recipe = (&'static str, &'static [&'static str], u64, &'static [&'static [&'static str]]);

const RECIPES: &[Recipe] = &[
    ("linear", &[], 1, &[&["-l", "3", "-n", "swap", "vg"], &["-l", "4", "-n", "root", "vg"]]),
    (
        "two areas",
        &["--pvmetadatacopies", "2", "--metadatasize", "64k"],
        1,
        &[&["-l", "3", "-n", "root", "vg"], &["-l", "1", "-n", "swap", "vg"]],
    ),
    (
        "striped",
        &["--metadatasize", "36k", "--dataalignment", "4k"],
        2,
        &[&["-i", "2", "-I", "64k", "-l", "4", "-n", "root", "vg"], &["-l", "3", "-n", "one", "vg", "dev1"]],
    ),
    ("pool", &[], 1, &[&["--type", "cache-pool", "-L", "8M", "-n", "pool", "vg"]]),
];

/// The physical volumes on a disk.
pub fn parts(disk: &dyn ReadAt) -> Vec<Slice<&dyn ReadAt>> {
    let spans = Span::whole(disk.len()).chunks(PV);
    spans.take(2).filter_map(|span| Slice::new(disk, span).ok()).collect()
}

/// One disk for each recipe.
#[must_use]
pub fn bases() -> Vec<Base> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    RECIPES.iter().map(|recipe| base(recipe, dir.path())).collect()
}

fn base((name, options, count, lvs): &Recipe, dir: &Path) -> Base {
    let path = dir.join("disk");
    let whole = count * PV.get();
    // The file may be left from the base before.
    File::create(&path).and_then(|file| file.set_len(whole)).expect("an empty image");
    let at = |number: u64| Offset::new(number * PV.get());
    let devices: Vec<Loop> = (0..*count).map(|number| Loop::span(&path, at(number), PV)).collect();
    let lvm = Lvm::on(&devices);
    lvm.create("vg", options, &["-s", if *name == "pool" { "4m" } else { "1m" }]);
    for args in *lvs {
        if args.contains(&"--type") {
            lvm.run(&[&["lvcreate", "-q"], OFFLINE, args].concat());
        } else {
            lvm.lvcreate(args);
        }
    }
    drop(lvm);
    drop(devices);
    let disk = load(&path);
    let mut kinds: Vec<Vec<Place>> = vec![Vec::new(); 4];
    for number in 0..*count {
        let here = Span::new(at(number), PV).expect("a small disk");
        let slice = Slice::new(&disk, here).expect("a part of the disk");
        for (kind, places) in kinds.iter_mut().zip(places(&slice)) {
            kind.extend(places.iter().map(|place| place.within(here)));
        }
    }
    Base::new(name, disk, kinds)
}

/// Label, headers of the metadata areas, and the texts, also in pieces of a few lines.
fn places(pv: &Slice<&Sparse>) -> [Vec<Place>; 4] {
    let label: Seal = Arc::new(|disk| drop(seal_sector(disk, 512, 16, 20)));
    let mut areas = vec![4096];
    let second = read_vec(pv, span(512 + 104, 8), &Limits::default()).expect("a label");
    areas.push(u64::from_le_bytes(second.try_into().expect("eight bytes")));
    let (mut headers, mut texts, mut pieces) = (Vec::new(), Vec::new(), Vec::new());
    for area in areas.into_iter().filter(|area| *area != 0) {
        let seal: Seal = Arc::new(move |disk| drop(seal_area(disk, area)));
        let place = |at, len| Place::on(pv, span(at, len), Some(Arc::clone(&seal)));
        headers.push(place(area, 96));
        let (at, size) = committed(pv, area).expect("a header");
        texts.push(place(area + at, size));
        pieces.extend((0..size / 64).map(|piece| place(area + at + piece * 64, 64)));
    }
    [vec![Place::on(pv, span(512, 176), Some(label))], headers, texts, pieces]
}

fn committed(disk: &dyn ReadAt, area: u64) -> disk::Result<(u64, u64)> {
    let bytes = read_vec(disk, span(area + 40, 16), &Limits::default())?;
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    Ok((word(0), word(8)))
}

/// Seals a sector whose checksum stands at `field` and covers all from `from` on.
fn seal_sector(disk: &mut dyn Disk, at: u64, field: u64, from: usize) -> disk::Result<()> {
    let bytes = read_vec(disk, span(at, 512), &Limits::default())?;
    disk.write_at(Offset::new(at + field), &crc32_raw(SEED, &bytes[from..]).to_le_bytes())
}

/// Seals the text of an area, as far as it does not wrap, and its header.
fn seal_area(disk: &mut dyn Disk, area: u64) -> disk::Result<()> {
    let (at, size) = committed(disk, area)?;
    let text = Span::new(Offset::new(area.saturating_add(at)), Len::new(size)).unwrap_or_default();
    if size < MIB
        && let Ok(text) = read_vec(disk, text, &Limits::default())
    {
        disk.write_at(Offset::new(area + 56), &crc32_raw(SEED, &text).to_le_bytes())?;
    }
    seal_sector(disk, area, 0, 4)
}
