//! Growing image files the way the product does: plan, apply to an overlay, put its change into the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use disk::{Cancel, Change, Cx, Data, Disk, FileDev, Limits, Overlay, Quiet, ReadAt};
use extfs::resize::{GrowOptions, GrowPlan, plan_grow};
use extfs::{BlockCount, BlockNo, Error, Ext};
use ondisk::{Len, Span};
use testkit::oracle::dumpe2fs;

pub const LIMITS: Limits = Limits { memory: Len::mib(128), threads: 1, chain_depth: 64, partitions: 1024 };

/// Carries nothing.
pub fn cx(cancel: &Cancel) -> Cx<'_> {
    Cx { progress: &Quiet, cancel, limits: LIMITS, now: 1_700_000_000 }
}

/// Plans only, with the product's own limits.
pub fn plan(image: &Path, to: BlockCount, options: GrowOptions) -> Result<GrowPlan, Error> {
    let dev = FileDev::new(File::open(image).unwrap()).unwrap();
    plan_grow(&Ext::open(&dev, &Limits::default())?, to, options)
}

/// Grows the filesystem that an image consists of; the image becomes as long as it must.
pub fn grow_with(image: &Path, to: BlockCount, options: GrowOptions) -> Result<(GrowPlan, Change), Error> {
    let dev = FileDev::new(File::open(image).unwrap()).unwrap();
    let mut overlay = Overlay::new(&dev, &LIMITS);
    let plan = {
        let fs = Ext::open(&dev, &LIMITS)?;
        let plan = plan_grow(&fs, to, options)?;
        let len = fs.geom().block_size.len_of(to).unwrap().max(dev.len());
        overlay.resize(len)?;
        plan
    };
    // What is planned does not depend on how long the disk already is.
    assert_eq!(plan_grow(&Ext::open(&overlay, &LIMITS)?, to, options)?, plan);
    let cancel = Cancel::new();
    plan.clone().apply(&mut overlay, &cx(&cancel))?;
    let change = overlay.into_change()?;
    for span in change.fresh.iter().map(disk::Write::span) {
        unreferenced(&dev, span);
    }
    for one in &change.moves {
        unreferenced(&dev, Span::new(one.to, one.from.len()).unwrap());
    }
    put(&change, image);
    Ok((plan, change))
}

pub fn grow(image: &Path, to: BlockCount) -> (GrowPlan, Change) {
    grow_with(image, to, GrowOptions::default()).unwrap_or_else(|e| panic!("{}: {e}", image.display()))
}

/// Expects that the old state refers to nothing in `span`: it lies behind the end, is free, or is a copy of a
/// descriptor block in reserve.
fn unreferenced(dev: &FileDev, span: Span) {
    let fs = Ext::open(dev, &LIMITS).unwrap();
    let geom = fs.geom();
    let last = geom.blocks.0.min(((span.end().get() - 1) >> geom.block_size.bits()) + 1);
    for block in ((span.start().get() >> geom.block_size.bits())..last).map(BlockNo) {
        let (group, bit) = geom.bit_of(block).unwrap();
        let used = geom.desc_blocks() + 1;
        let index = block.0 - geom.first_block(group).0;
        let spare = group.0 > 0
            && geom.has_classic(group)
            && index >= u64::from(used)
            && index < u64::from(used + geom.reserved_gdt);
        assert!(spare || !fs.block_bitmap(group).unwrap().get(bit), "block {block} is fresh and in use");
    }
}

/// What a commit does, without its journal.
fn put(change: &Change, image: &Path) {
    let file = File::options().read(true).write(true).open(image).unwrap();
    file.set_len(change.new_len.get()).unwrap();
    let copies = change.moves.iter().chain(&change.carried).map(|one| {
        let mut buf = vec![0; one.from.len().to_usize()];
        file.read_exact_at(&mut buf, one.from.start().get()).unwrap();
        (one.to, buf)
    });
    for (to, buf) in copies.collect::<Vec<_>>() {
        file.write_all_at(&buf, to.get()).unwrap();
    }
    for write in change.fresh.iter().chain(&change.home) {
        match &write.data {
            Data::Bytes(bytes) => file.write_all_at(bytes, write.at.get()).unwrap(),
            Data::Zero(len) => file.write_all_at(&vec![0; len.to_usize()], write.at.get()).unwrap(),
        }
    }
}

/// A number that `dumpe2fs -h` prints; 0 where it does not.
pub fn field(dump: &BTreeMap<String, String>, name: &str) -> u64 {
    dump.get(name).map_or(0, |value| value.split(' ').next().unwrap().parse().unwrap_or(0))
}

pub fn dump(image: &Path) -> BTreeMap<String, String> {
    dumpe2fs(image, ondisk::Offset::ZERO)
}
