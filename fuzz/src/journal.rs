//! Journals of ours, as an interrupted commit leaves them behind.

use crate::base::{Base, Place, Seal, span};
use disk::{Change, Data, MemDisk, ReadAt, Sparse, Write, read_vec};
use ondisk::{Len, Offset};
use std::sync::Arc;
use testkit::sim::sample::{self, change};

/// What the image may look like when the journal is found: untouched, with the fresh bytes, with some home bytes too.
#[must_use]
pub fn image_found(knob: u8) -> Sparse {
    let mut found = sample::base();
    let change = change();
    if knob & 1 != 0 {
        found.set_len(change.new_len);
        change.fresh.iter().for_each(|write| put(&mut found, write));
    }
    if knob & 2 != 0 {
        put(&mut found, &change.home[0]);
    }
    found
}

fn put(disk: &mut Sparse, write: &Write) {
    match &write.data {
        Data::Bytes(bytes) => disk.put(write.at, bytes),
        Data::Zero(_) => disk.clear(write.span()),
    }
}

/// The journal of a growing change, and of one that only overwrites.
#[must_use]
pub fn bases() -> Vec<Base> {
    let overwrites = Change { new_len: Len::kib(64), fresh: vec![], ..change() };
    vec![base("grows", &change()), base("overwrites", &overwrites)]
}

fn base(name: &str, change: &Change) -> Base {
    let journal = sample::journal(&sample::base(), change);
    let disk = MemDisk::from_bytes(&journal).bytes().clone();
    let commit = disk.len().get() - 512;
    let table = u64::from_le_bytes(journal[journal.len() - 496..][..8].try_into().expect("eight bytes"));
    let seal: Seal = Arc::new(move |disk| {
        let Some(at) = disk.len().get().checked_sub(512) else { return };
        let Ok(covered) = read_vec(disk, span(0, at + 24), &crate::LIMITS) else { return };
        disk.write_at(Offset::new(at + 24), blake3::hash(&covered).as_bytes()).expect("it lies on the disk");
    });
    let place = |at: u64, len: u64| Place::on(&disk, span(at, len), Some(Arc::clone(&seal)));
    let entries: Vec<Place> = (table..commit).step_by(64).map(|at| place(at, 64)).collect();
    let kinds = vec![
        vec![place(commit, 56)],
        entries.clone(),
        entries,
        vec![place(0, 64)],
        vec![place(512, table - 512)],
    ];
    Base::new(name, disk.clone(), kinds)
}
