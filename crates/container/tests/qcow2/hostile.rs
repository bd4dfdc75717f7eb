//! Whatever somebody writes into an image: an answer or an error, soon, and no panic.

use crate::kit::*;
use container::Mapped;
use container::qcow2::Qcow2;
use disk::{Disk, Limits, MemDisk, ReadAt};
use ondisk::{Len, Offset, Span};
use std::time::{Duration, Instant};
use testkit::tool::run;

/// What became of an image.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Refused,
    Opened,
    Written,
}

/// Everything that a command could do with an image.
fn use_it(bytes: &[u8]) -> Fate {
    let limits = Limits { memory: Len::mib(64), ..Limits::default() };
    let Ok(mut disk) = Qcow2::open(MemDisk::from_bytes(bytes), &limits) else { return Fate::Refused };
    let len = disk.len().get();
    let _ = (disk.facts(), disk.parent_ref());
    let mut buf = vec![0; 65536];
    for at in (0..len.min(8 << 20)).step_by(65536).chain([len.saturating_sub(65536)]) {
        let n = (len - at).min(65536) as usize;
        let _ = disk.read_at(Offset::new(at), &mut buf[..n]);
    }
    let window = Span::whole(Len::new(len.min(1 << 30)));
    let _ = disk.extents(window);
    let _ = disk.status(window);
    let sound = disk.check().is_ok_and(|findings| findings.count(container::Severity::Damage) == 0);
    if let Ok(plan) = disk.plan_grow(Len::new(len.saturating_add(1 << 30))) {
        let mut file = MemDisk::from_bytes(bytes);
        plan.apply(&mut file).unwrap();
        assert!(open(file).check().unwrap().count(container::Severity::Damage) == 0);
    }
    let dirty = disk.facts().dirty;
    let wrote = len > 90_000 && disk.write_at(Offset::new(8000), &[1; 1000]).is_ok();
    if wrote {
        assert!(sound || dirty, "damage was written to");
        let _ = disk.discard(Span::new(Offset::new(500), Len::new(80_000)).unwrap());
        assert_eq!(disk.check().unwrap().count(container::Severity::Damage), 0);
    }
    if wrote { Fate::Written } else { Fate::Opened }
}

#[test]
fn mutated_metadata() {
    let lab = Lab::new();
    let mut random = Random(0x5eed);
    let mut fates = Vec::new();
    for kind in ["cluster_size=4k", "compat=0.10,cluster_size=512", "extended_l2=on,cluster_size=16k"] {
        for image in [lab.lived_in("image.qcow2", kind), lab.compressed("compressed.qcow2", kind)] {
            if !kind.contains("0.10") {
                run("qemu-img", ["bitmap", "--add", text(&image), "changes"]);
            }
            let sound = std::fs::read(&image).unwrap();
            let tables = table_sectors(&sound);
            for round in 0..100 {
                let mut bytes = sound.clone();
                for _ in 0..=random.below(3) {
                    let at = match random.below(3) {
                        0 => random.below(120) as usize,
                        _ => {
                            tables[random.below(tables.len() as u64) as usize] * 512
                                + random.below(512) as usize
                        }
                    };
                    bytes[at] = mutated(&mut random, bytes[at]);
                }
                let start = Instant::now();
                fates.push(use_it(&bytes));
                assert!(start.elapsed() < Duration::from_secs(10), "{kind}, round {round}");
            }
        }
    }
    for fate in [Fate::Refused, Fate::Opened, Fate::Written] {
        assert!(
            fates.iter().filter(|one| **one == fate).count() > 20,
            "the mutations are too mild or too wild"
        );
    }
}

/// Cut at any place before its last cluster, an image is an error, not a panic.
#[test]
fn truncated_files() {
    let lab = Lab::new();
    let image = lab.lived_in("image.qcow2", "cluster_size=4k");
    let sound = std::fs::read(&image).unwrap();
    for at in (0..600).chain((600..sound.len() - 8192).step_by(7919)) {
        assert!(use_it(&sound[..at]) != Fate::Written, "{at} bytes are enough");
    }
}

fn tampered(edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let lab = Lab::new();
    let image = lab.lived_in("image.qcow2", "compat=1.1");
    let mut bytes = std::fs::read(&image).unwrap();
    edit(&mut bytes);
    bytes
}

/// Every L1 entry names the same table, all of whose entries name the same compressed cluster.
#[test]
fn a_bomb_of_references() {
    let mut kind = container::qcow2::Create::new(Len::new(1 << 50));
    kind.cluster_bits = 16;
    let mut file = MemDisk::new(Len::ZERO);
    kind.plan().unwrap().apply(&mut file).unwrap();
    let mut bytes = file.to_vec();
    let l1 = u64::from_be_bytes(bytes[40..48].try_into().unwrap()) as usize;
    let table = bytes.len() as u64;
    bytes.extend((0..8192).flat_map(|_| (1_u64 << 62 | (table + 65536)).to_be_bytes()));
    bytes.extend([0x4b; 65536]);
    let entries = (1_usize << 50) / (512 << 20);
    bytes[l1..l1 + entries * 8].chunks_mut(8).for_each(|entry| entry.copy_from_slice(&table.to_be_bytes()));
    let start = Instant::now();
    use_it(&bytes);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn counts_beyond_all_measure() {
    let limits = Limits::default();
    let refused =
        |bytes: &[u8]| Qcow2::open(MemDisk::from_bytes(bytes), &limits).err().map(|e| e.to_string());
    let l1 = refused(&tampered(|b| b[36..40].fill(0xff))).unwrap();
    assert!(l1.contains("l1_size"), "{l1}");
    let table = refused(&tampered(|b| b[56..60].fill(0x7f))).unwrap();
    assert!(table.contains("refcount_table_clusters"), "{table}");
    let snapshots = refused(&tampered(|b| b[60..64].fill(0xff))).unwrap();
    assert!(snapshots.contains("nb_snapshots"), "{snapshots}");
    let snapshots = refused(&tampered(|b| b[60..64].copy_from_slice(&60_000_u32.to_be_bytes()))).unwrap();
    assert!(snapshots.contains("snapshot"), "{snapshots}");
    let size = refused(&tampered(|b| b[24..32].fill(0xff))).unwrap();
    assert!(size.contains("size"), "{size}");
}
