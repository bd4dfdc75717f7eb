//! Growing image files the way the product does: plan, apply to an overlay, put its change into the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use disk::{Cancel, Change, Cx, Data, Disk, FileDev, Limits, Overlay, Quiet, ReadAt};
use extfs::resize::{GrowOptions, GrowPlan, plan_grow};
use extfs::{BlockCount, Error, Ext};
use ondisk::Len;
use testkit::oracle::dumpe2fs;

pub const LIMITS: Limits = Limits { memory: Len::mib(128), threads: 1, chain_depth: 64, partitions: 1024 };

/// Carries nothing.
pub fn cx(cancel: &Cancel) -> Cx<'_> {
    Cx { progress: &Quiet, cancel, limits: LIMITS, now: 1_700_000_000 }
}

/// Plans only, on a disk of `len` bytes.
pub fn plan(image: &Path, to: BlockCount, options: GrowOptions) -> Result<GrowPlan, Error> {
    let dev = FileDev::new(File::open(image).unwrap()).unwrap();
    plan_grow(&Ext::open(&dev, &LIMITS)?, to, options)
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
    let old = plan.old.block_size.len_of(plan.old.blocks).unwrap();
    for write in &change.fresh {
        let inside = write.at < old.end();
        assert!(!inside || plan.old.reserved_gdt > plan.new.reserved_gdt, "fresh inside: {:?}", write.span());
    }
    put(&change, image);
    Ok((plan, change))
}

pub fn grow(image: &Path, to: BlockCount) -> (GrowPlan, Change) {
    grow_with(image, to, GrowOptions::default()).unwrap_or_else(|e| panic!("{}: {e}", image.display()))
}

/// What a commit does, without its journal.
fn put(change: &Change, image: &Path) {
    let file = File::options().read(true).write(true).open(image).unwrap();
    file.set_len(change.new_len.get()).unwrap();
    for one in &change.moves {
        let mut buf = vec![0; one.from.len().to_usize()];
        file.read_exact_at(&mut buf, one.from.start().get()).unwrap();
        file.write_all_at(&buf, one.to.get()).unwrap();
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
