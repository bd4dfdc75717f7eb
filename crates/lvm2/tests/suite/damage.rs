//! Damage: found, never followed, never a panic.

use crate::support::{MIB, Set, read, refs};
use disk::{Disk, Limits, MemDisk, ReadAt};
use lvm2::{By, Draft, Severity, plan_commit, plan_grow_lv, plan_grow_pv};
use ondisk::sum::crc32_raw;
use ondisk::{Len, Offset};

const SEED: u32 = 0xf597_a6cf;

fn bytes(disk: &MemDisk, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    disk.read_at(Offset::new(at), &mut bytes).unwrap();
    bytes
}

fn number(disk: &MemDisk, at: u64) -> u64 {
    u64::from_le_bytes(bytes(disk, at, 8).try_into().unwrap())
}

/// Changes the text of the first metadata area, which must not wrap, and makes its checksums right.
pub fn edit(disk: &mut MemDisk, change: impl FnOnce(&mut [u8])) {
    let (at, size) = (4096 + number(disk, 4096 + 40), usize::try_from(number(disk, 4096 + 48)).unwrap());
    let mut text = bytes(disk, at, size);
    change(&mut text);
    disk.write_at(Offset::new(at), &text).unwrap();
    disk.write_at(Offset::new(4096 + 56), &crc32_raw(SEED, &text).to_le_bytes()).unwrap();
    seal_header(disk, 4096);
}

fn seal_header(disk: &mut MemDisk, at: u64) {
    let sum = crc32_raw(SEED, &bytes(disk, at + 4, 508));
    disk.write_at(Offset::new(at), &sum.to_le_bytes()).unwrap();
}

fn seal_label(disk: &mut MemDisk) {
    let sum = crc32_raw(SEED, &bytes(disk, 512 + 20, 492));
    disk.write_at(Offset::new(512 + 16), &sum.to_le_bytes()).unwrap();
}

/// Reads, and plans everything there is to plan; whether anything is damaged.
fn exercise(disks: &[MemDisk]) -> bool {
    let limits = Limits { memory: Len::mib(8), ..Limits::default() };
    let Ok(volumes) = lvm2::read(&refs(disks), &limits) else { return true };
    let mut damaged = volumes.findings.iter().any(|one| one.severity == Severity::Damage);
    for vg in &volumes.vgs {
        damaged |= vg.findings().iter().any(|one| one.severity == Severity::Damage);
        let _ = (vg.len(), vg.free());
        for lv in vg.lvs() {
            let _ = vg.map(lv);
        }
        let Ok(draft) = Draft::of(vg, &limits) else { continue };
        for lv in vg.lvs().iter().take(3) {
            let mut draft = draft.clone();
            for (index, pv) in vg.pvs().iter().enumerate().take(3) {
                let len = disks[pv.disk().unwrap()].len().get() + 40 * MIB;
                let _ = plan_grow_pv(&mut draft, index, Len::new(len));
            }
            if plan_grow_lv(&mut draft, lv.name(), By::AllFree).is_err() {
                continue;
            }
            let lens: Vec<u64> = disks.iter().map(|disk| disk.len().get() + 40 * MIB).collect();
            let Ok(plan) = plan_commit(draft, 1) else { continue };
            let mut grown = disks.to_vec();
            for (index, disk) in grown.iter_mut().enumerate() {
                disk.resize(Len::new(lens[index])).unwrap();
                plan.apply(index, disk).unwrap();
            }
            let after = read(&grown);
            let found = lvm2::check(&refs(&grown), &limits).unwrap();
            assert!(found.iter().all(|one| one.severity == Severity::Note), "{found:?}");
            assert!(after.vgs.iter().any(|after| after.uuid() == vg.uuid()));
        }
    }
    damaged
}

#[test]
fn every_bit_of_every_record_counts() {
    let set =
        Set::with_vg(&[64 * MIB], &["--pvmetadatacopies", "2"], &[], &[&["-l", "3", "-n", "root", "vg"]]);
    let disks = set.load();
    assert!(!exercise(&disks));
    let size = number(&disks[0], 4096 + 48);
    let text = 4096 + number(&disks[0], 4096 + 40);
    for (start, len) in [(512, 512), (4096, 512), (text, size)] {
        for at in start..start + len {
            for bit in 0..8 {
                let mut disks = disks.clone();
                let byte = bytes(&disks[0], at, 1)[0] ^ 1 << bit;
                disks[0].write_at(Offset::new(at), &[byte]).unwrap();
                // What is no label any more is no damage either.
                let is_label = !(512..520).contains(&at);
                assert_eq!(exercise(&disks), is_label, "byte {at} bit {bit}");
            }
        }
    }
}

#[test]
fn bits_with_right_checksums() {
    let set = Set::with_vg(
        &[64 * MIB, 64 * MIB],
        &[],
        &["-s", "1m"],
        &[&["-l", "3", "-n", "root", "vg"], &["-i", "2", "-I", "64k", "-l", "4", "-n", "two", "vg"]],
    );
    let disks = set.load();
    let mut planned = 0;
    let size = usize::try_from(number(&disks[0], 4096 + 48)).unwrap();
    for at in 0..size {
        for flip in [1, 2, 4, 16, 0x1f] {
            let mut disks = disks.clone();
            // Both copies say the same.
            disks.iter_mut().for_each(|disk| edit(disk, |text| text[at] ^= flip));
            planned += usize::from(!exercise(&disks));
        }
    }
    assert!(planned > 500, "{planned}: something must be left to plan with");
    for at in (512 + 20..512 + 160).chain(4096 + 4..4096 + 100) {
        for flip in [1, 8, 0x40, 0x80, 0xff] {
            let mut disks = disks.clone();
            let byte = bytes(&disks[0], at, 1)[0] ^ flip;
            disks[0].write_at(Offset::new(at), &[byte]).unwrap();
            seal_label(&mut disks[0]);
            seal_header(&mut disks[0], 4096);
            exercise(&disks);
        }
    }
}

/// What is found when the first of these words is replaced, in all copies.
fn found(disks: &[MemDisk], old: &str, new: &str) -> Vec<String> {
    let mut disks = disks.to_vec();
    for disk in &mut disks {
        edit(disk, |text| {
            let found = String::from_utf8(text.to_vec()).unwrap();
            assert!(found.contains(old) && old.len() >= new.len(), "{found}");
            text.copy_from_slice(found.replacen(old, &format!("{new:<0$}", old.len()), 1).as_bytes());
        });
    }
    assert!(exercise(&disks), "{new}");
    let found = lvm2::check(&refs(&disks), &Limits::default()).unwrap();
    found.into_iter().filter(|one| one.severity == Severity::Damage).map(|one| one.text).collect()
}

#[test]
fn contradictions_are_named() {
    let lvs: &[&[&str]] = &[&["-l", "3", "-n", "root", "vg"], &["-l", "2", "-n", "swap", "vg"]];
    let set = Set::with_vg(&[64 * MIB], &[], &[], lvs);
    let disks = set.load();
    let cases = [
        ("\"pv0\", 3", "\"pv0\", 2", "swap uses extents 2-3 of pv0, of which root uses 0-2"),
        ("\"pv0\", 3", "\"pv0\",14", "swap uses extents 14-15 of pv0, which has 15"),
        ("segment_count = 1", "segment_count = 2", "root has 1 segments, its segment_count is 2"),
        (
            "start_extent = 0",
            "start_extent = 1",
            "root has a segment of 3 extents from 1, expected one from 0",
        ),
        ("pe_start = 2048", "pe_start = 1024", "overlaps what is in front"),
        ("pe_start = 2048", "pe_start = 2056", "its extents begin at byte 1052672, in the label at 1048576"),
        ("pe_count = 15", "pe_count = 16", "its extents end at 68157440 bytes, the device has 67108864"),
        (
            "extent_size = 8192",
            "extent_size = 8191",
            "extent_size is 8191 sectors, which no volume group has",
        ),
        ("extent_count = 3", "extent_count =", "cannot be read: something that is no value"),
        ("seqno = 3", "seqn = 3", "seqno is missing"),
        ("\"Text Format Volume Group\"", "\"\"", "the text says nothing of a volume group"),
        ("version = 1", "version = 2", "the text is of version 2, expected 1"),
        ("format = \"lvm2\"", "format = \"lvm1\"", "is of format lvm1, expected lvm2"),
        ("stripe_count = 1", "stripe_count = 2", "stripe_count is 2, and there are 1 stripes"),
        ("root {", "ro/t {", "ro/t is no name"),
        ("swap {", "root {", "a name that the section has already"),
    ];
    for (old, new, expect) in cases {
        let found = found(&disks, old, new);
        assert!(found.iter().any(|text| text.contains(expect)), "{new}: {found:?}");
    }
    let vg = &read(&disks).vgs[0];
    let (root, swap) = (vg.lv("root").unwrap().uuid().to_string(), vg.lv("swap").unwrap().uuid().to_string());
    let found = found(&disks, &root, &swap);
    assert_eq!(found, [format!("root and swap have the same identifier {swap}")]);
}

/// A partition that became a little shorter: all extents are there, so nothing is lost.
#[test]
fn a_size_that_is_only_written_down() {
    let set = Set::with_vg(&[64 * MIB], &[], &[], &[&["-l", "3", "-n", "root", "vg"]]);
    let mut disks = set.load();
    edit(&mut disks[0], |text| {
        let new =
            String::from_utf8(text.to_vec()).unwrap().replacen("dev_size = 131072", "dev_size = 131073", 1);
        text.copy_from_slice(new.as_bytes());
    });
    let found = lvm2::check(&refs(&disks), &Limits::default()).unwrap();
    let [only] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(only.severity, Severity::Note);
    assert!(only.text.contains("its size in the metadata is 67109376 bytes, the device has"), "{only:?}");
}

#[test]
fn copies_that_disagree() {
    let set = Set::with_vg(&[64 * MIB, 64 * MIB], &[], &[], &[&["-l", "3", "-n", "root", "vg"]]);
    let old = set.load();
    set.tools(|lvm| lvm.lvcreate(&["-l", "2", "-n", "swap", "vg"]));
    let new = set.load();
    // One device missed the last change: the newest counts, and the next change brings both in step.
    let mixed = [old[0].clone(), new[1].clone()];
    let volumes = read(&mixed);
    let vg = &volumes.vgs[0];
    assert_eq!((vg.seqno(), vg.lvs().len()), (3, 2));
    assert_eq!(vg.findings()[0].text, "volume group vg: a copy of the metadata has seqno 2, the newest 3");
    assert_eq!(vg.findings()[0].severity, Severity::Note);
    assert!(!exercise(&mixed));
    // Both say that they are the newest.
    let mut forked = new.clone();
    edit(&mut forked[0], |text| {
        let at = text.windows(4).position(|word| word == b"swap").unwrap();
        text[at..at + 4].copy_from_slice(b"wrap");
    });
    let volumes = read(&forked);
    let found = &volumes.vgs[0].findings()[0];
    assert_eq!(found.text, "volume group vg: two copies of the metadata with seqno 3 differ");
    assert_eq!(found.severity, Severity::Damage);
    assert!(Draft::of(&volumes.vgs[0], &Limits::default()).is_err());
    // A device that left while another was not there.
    set.tools(|lvm| {
        lvm.run(&["vgreduce", "-q", "vg", "dev1"]);
    });
    let left = [set.load()[0].clone(), new[1].clone()];
    let volumes = read(&left);
    assert_eq!((volumes.vgs[0].pvs().len(), volumes.orphans.as_slice()), (1, [1].as_slice()));
    let found = volumes.vgs[0].findings();
    assert!(found.iter().any(|one| one.text.ends_with("is no part of it any more")), "{found:?}");
    assert!(!exercise(&left));
    // The same device twice.
    let twice = lvm2::read(&[&new[0], &new[0], &new[1]], &Limits::default()).unwrap();
    assert!(twice.findings[0].text.starts_with("two devices are physical volume "));
}

#[test]
fn memory_is_bounded() {
    let set = Set::with_vg(&[64 * MIB], &[], &[], &[&["-l", "3", "-n", "root", "vg"]]);
    let disks = set.load();
    let limits = Limits { memory: Len::new(1000), ..Limits::default() };
    let error = lvm2::read(&refs(&disks), &limits).unwrap_err();
    assert!(error.to_string().contains("bytes of memory, the limit is 1000"), "{error}");
}
