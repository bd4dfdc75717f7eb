//! Growing, against `sfdisk` and `sgdisk`.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

#[allow(dead_code, reason = "shared with the other test binaries")]
mod support;

use ondisk::{Class, Classified, Len, Offset};
use support::{Image, MIB, assert_same};
use table::{Error, Kind, Role, To, plan_grow_disk, plan_grow_partition};

fn len(bytes: u64) -> Len {
    Len::new(bytes)
}

fn end(bytes: u64) -> To {
    To::End(Offset::new(bytes))
}

#[test]
fn mbr_primary_becomes_what_sfdisk_makes() {
    for (old, new) in [(64 * MIB, 128 * MIB), (64 * MIB, 20 << 30), (10 << 30, (20 << 30) + 512)] {
        let ours = Image::new(old);
        ours.sfdisk("label: dos\n2048,8192,c\n16384,40960,83,*\n").write(0, &[0x90; 440]);
        let theirs = ours.copy();
        theirs.set_len(new).sfdisk_grow(2);
        ours.grow(2, To::Max, new).assert_clean();
        assert_eq!(ours.dump(), theirs.dump());
        assert_same(&ours, &theirs, 0, 512);
    }
}

#[test]
fn mbr_partition_up_to_its_neighbour_or_to_a_given_end() {
    let ours = Image::new(64 * MIB);
    ours.sfdisk("label: dos\n2048,8192,83,*\n40960,8192,82\n");
    let before = ours.table();
    let neighbours = before.behind(1).unwrap();
    assert_eq!(neighbours.len(), 1);
    assert!(neighbours[0].swap);
    assert_eq!(neighbours[0].to_string(), "partition 2 (swap)");
    let error = plan_grow_partition(&before, 1, end(30 * MIB), len(64 * MIB)).unwrap_err();
    assert_eq!(error.class(), Class::Refused);
    assert!(error.to_string().contains("partition 2 (swap) lies behind it"), "{error}");
    let theirs = ours.copy();
    theirs.sfdisk_grow(1);
    let expect = ours.dump_with(1, 14336, None);
    ours.grow(1, end(7 * MIB + 512), 64 * MIB).assert_clean();
    assert_eq!(ours.dump(), expect, "rounded up to 8 MiB");
    ours.grow(1, To::Max, 64 * MIB).assert_clean();
    assert_same(&ours, &theirs, 0, 512);
    assert!(plan_grow_partition(&ours.table(), 1, To::Max, len(64 * MIB)).unwrap().is_empty());
    let error = plan_grow_partition(&ours.table(), 1, end(MIB), len(64 * MIB)).unwrap_err();
    assert!(matches!(error, Error::Backwards { number: 1, .. }), "{error}");
}

#[test]
fn mbr_stops_at_its_limit() {
    let ours = Image::new(1 << 40);
    ours.sfdisk("label: dos\n2048,40960,83,*\n");
    let expect = ours.dump_with(1, (1 << 32) - 2048 - 2048, None);
    let error = plan_grow_partition(&ours.table(), 1, end(5 << 39), len(3 << 40)).unwrap_err();
    assert!(matches!(error, Error::MbrLimit { .. }));
    assert!(error.to_string().contains("2 TiB") && error.help().unwrap().contains("GPT"), "{error}");
    let plan = plan_grow_partition(&ours.table(), 1, To::Max, len(3 << 40)).unwrap();
    assert!(plan.sentences().iter().any(|text| text.contains("a GPT could")), "{:?}", plan.sentences());
    ours.apply(plan, 3 << 40);
    assert_eq!(ours.damage(), Vec::<String>::new());
    ours.set_len(2 << 40).assert_clean();
    assert_eq!(ours.dump(), expect);
}

const LOGICAL: &str = "label: dos\nstart=2048,size=4096,type=83,bootable\nstart=8192,size=40960,type=5\n\
    start=10240,size=4096,type=83\nstart=16384,size=4096,type=82\nstart=22528,size=4096,type=8e\n";

#[test]
fn logical_partition_takes_the_extended_one_along() {
    let ours = Image::new(64 * MIB);
    ours.sfdisk(LOGICAL);
    let before = ours.table();
    let numbers: Vec<u32> = before.partitions().iter().map(|part| part.number).collect();
    assert_eq!(numbers, [1, 2, 5, 6, 7]);
    assert_eq!(before.partition(2).unwrap().role, Role::Extended);
    assert!(
        matches!(before.partition(7).unwrap().role, Role::Logical { ebr } if ebr == Offset::new(20480 * 512))
    );
    let theirs = ours.copy();
    theirs.set_len(128 * MIB).sfdisk_grow(2).sfdisk_grow(7);
    ours.grow(7, To::Max, 128 * MIB).assert_clean();
    assert_eq!(ours.dump(), theirs.dump());
    assert_same(&ours, &theirs, 0, 512);
    assert_same(&ours, &theirs, 20480 * 512, 512);
    // The link to it, which sfdisk leaves as it was, ends where it ends.
    let link = ours.bytes(14336 * 512 + 446 + 16, 16);
    let field = |at: usize| u32::from_le_bytes(link[at..at + 4].try_into().unwrap());
    assert_eq!((8192 + field(8), 8192 + field(8) + field(12)), (20480, 262_144));
}

#[test]
fn logical_partition_between_others() {
    let ours = Image::new(64 * MIB);
    ours.sfdisk(LOGICAL).sfdisk_grow(7);
    let table = ours.table();
    let limit = table.limit(5, len(64 * MIB)).unwrap();
    assert_eq!(limit.end, Offset::new(14336 * 512), "the next EBR");
    assert_eq!(limit.behind.unwrap().number, 6);
    assert!(plan_grow_partition(&table, 5, To::Max, len(128 * MIB)).unwrap().is_empty());
    let theirs = ours.copy();
    theirs.set_len(128 * MIB).sfdisk_grow(2);
    ours.grow(2, To::Max, 128 * MIB).assert_clean();
    assert_eq!(ours.dump(), theirs.dump());
    assert_same(&ours, &theirs, 0, 64 << 20);
}

#[test]
fn logical_partition_before_a_primary_one() {
    let ours = Image::new(64 * MIB);
    ours.sfdisk(
        "label: dos\nstart=8192,size=40960,type=f\nstart=65536,size=4096,type=82\n\nstart=2048,size=4096\n\
         start=10240,size=4096\nstart=16384,size=4096\n",
    );
    let within = ours.dump_with(6, 40960 - 16384 + 8192, None);
    ours.grow(6, end(49152 * 512), 64 * MIB).assert_clean();
    assert_eq!(ours.dump(), within, "the extended partition is large enough");
    let limit = ours.table().limit(6, len(128 * MIB)).unwrap();
    assert_eq!(limit.behind.unwrap().to_string(), "partition 2 (swap)");
    ours.grow(6, To::Max, 128 * MIB).assert_clean();
    let spans: Vec<_> =
        [1, 6].map(|number| ours.table().partition(number).unwrap().span.end().get()).to_vec();
    assert_eq!(spans, [65536 * 512; 2]);
}

#[test]
fn gpt_by_sfdisk_becomes_what_sfdisk_makes() {
    for new in [128 * MIB, 133_333_504, 100 * MIB + 700, 64 * MIB + 8 * 512, 5 << 40] {
        let ours = Image::new(64 * MIB);
        ours.sfdisk("label: gpt\n2048,8192,U\n16384,40960,L,*\n");
        let theirs = ours.copy();
        theirs.set_len(new).sfdisk_grow(2);
        ours.grow(2, To::Max, new).assert_clean();
        assert_eq!(ours.dump(), theirs.dump());
        assert_same(&ours, &theirs, 0, 34 * 512);
        let tail = new / 512 * 512 - 33 * 512;
        assert_same(&ours, &theirs, tail, 33 * 512);
    }
}

#[test]
fn gpt_by_sgdisk_moves_as_sgdisk_moves_it() {
    for new in [64 * MIB + 512, 65 * MIB, 100 * MIB + 1536, 30 << 30] {
        let ours = Image::new(64 * MIB);
        ours.sgdisk(&[
            "-a",
            "1",
            "-n",
            "1:34:4095",
            "-t",
            "1:ef02",
            "-n",
            "7:8192:+20M",
            "-c",
            "7:r\u{fc}t \"x\" \u{1f600}",
        ]);
        ours.sgdisk(&["-A", "7:set:2", "-A", "7:set:60"]);
        let theirs = ours.copy();
        theirs.set_len(new).sgdisk(&["-e"]);
        let plan = plan_grow_disk(&ours.table(), len(new)).unwrap();
        assert!(plan.sentences().iter().any(|text| text.contains("backup GPT")));
        ours.apply(plan, new).assert_clean();
        assert_eq!(ours.dump(), theirs.dump());
        assert_same(&ours, &theirs, 0, 34 * 512);
        let tail = new / 512 * 512 - 33 * 512;
        assert_same(&ours, &theirs, tail, 33 * 512);
        let stale = 64 * MIB - 33 * 512;
        let cleared = usize::try_from((tail - stale).min(33 * 512)).unwrap();
        assert!(ours.bytes(stale, cleared).iter().all(|&byte| byte == 0), "the stale backup is cleared");
    }
}

#[test]
fn cloud_layout() {
    let ours = Image::new(64 * MIB);
    ours.sgdisk(&["-a", "1", "-n", "14:2048:+4M", "-t", "14:ef02", "-n", "15:10240:+20M", "-t", "15:ef00"]);
    ours.sgdisk(&["-n", "1:51200:0", "-c", "1:cloudimg-rootfs"]);
    let before = ours.table();
    assert_eq!(before.kind(), Kind::Gpt);
    let seen: Vec<_> =
        before.partitions().iter().map(|part| (part.number, part.kind.name().unwrap())).collect();
    assert_eq!(seen, [(1, "Linux"), (14, "BIOS boot"), (15, "EFI system")]);
    assert_eq!(before.partition(1).unwrap().name, "cloudimg-rootfs");
    assert!(before.behind(1).unwrap().is_empty());
    let last = (10 << 30) / 512 - 34;
    let expect = ours.dump_with(1, last + 1 - 51200, Some(last));
    // Also where somebody has already made the disk longer and left the table as it was.
    let grown = ours.copy();
    grown.set_len(10 << 30).grow(1, To::Max, 10 << 30).assert_clean();
    ours.grow(1, To::Max, 10 << 30).assert_clean();
    assert_eq!(ours.dump(), expect);
    assert_eq!(grown.dump(), expect);
    assert_same(&ours, &grown, 0, 34 * 512);
    let uuid = ours.table().partition(1).unwrap().uuid.to_string();
    assert!(ours.dump().contains(&uuid.to_ascii_uppercase()));
}

#[test]
fn sectors_of_4096() {
    let ours = Image::new_4k(64 * MIB);
    ours.sfdisk("label: gpt\n512,1024,U\n4096,4096,L\n");
    assert_eq!(ours.table().sector_size().bytes(), 4096);
    let theirs = ours.copy();
    theirs.set_len(128 * MIB).sfdisk_grow(2);
    ours.grow(2, To::Max, 128 * MIB).assert_clean();
    assert_eq!(ours.dump(), theirs.dump());
    assert_same(&ours, &theirs, 0, 6 * 4096);
    let partitions = ours.table().partitions().to_vec();
    ours.write(4096, &[0; 512]);
    assert_eq!(ours.damage(), ["primary GPT: no GPT signature at sector 1"]);
    assert_eq!(ours.table().partitions(), partitions, "found from the end, with the same sector size");
    let mbr = Image::new_4k(64 * MIB);
    mbr.sfdisk("label: dos\n256,1024,83,*\n4096,4096,83\n");
    let theirs = mbr.copy();
    theirs.set_len(128 * MIB).sfdisk_grow(2);
    // Nothing tells before a filesystem begins where only 4096 puts it.
    assert_eq!(mbr.table().sector_size().bytes(), 512);
    for image in [&mbr, &theirs] {
        image.write(256 * 4096 + 1080, b"\x53\xef");
    }
    mbr.grow(2, To::Max, 128 * MIB).assert_clean();
    assert_same(&mbr, &theirs, 0, 4096);
    let told = table::read_as(&mbr.disk(), ondisk::SectorSize::B4096, &disk::Limits::default());
    assert_eq!(told.unwrap().unwrap(), mbr.table());
}

#[test]
fn few_and_large_entries() {
    let ours = Image::new(64 * MIB);
    ours.sgdisk(&["-S", "8", "-n", "2:2048:+4M"]);
    ours.grow(2, To::Max, 96 * MIB).assert_clean();
    let wide = Image::new(64 * MIB);
    wide.sgdisk(&["-S", "1024", "-n", "1000:4096:+4M"]);
    let expect = wide.dump_with(1000, 96 * 2048 - 4096 - 257, Some(96 * 2048 - 258));
    wide.grow(1000, To::Max, 96 * MIB).assert_clean();
    assert_eq!(wide.dump(), expect);
}

#[test]
fn what_is_refused() {
    let gpt = Image::new(64 * MIB);
    gpt.sgdisk(&["-n", "1:2048:+4M", "-n", "2:20480:+4M"]);
    let table = gpt.table();
    let error = plan_grow_disk(&table, len(63 * MIB)).unwrap_err();
    assert!(matches!(error, Error::Short { .. }), "{error}");
    let error = plan_grow_partition(&table, 3, To::Max, len(64 * MIB)).unwrap_err();
    assert_eq!(error.class(), Class::Usage);
    let error = plan_grow_partition(&table, 2, end(64 * MIB), len(64 * MIB)).unwrap_err();
    assert!(error.to_string().contains("usable space ends there"), "{error}");
    assert!(plan_grow_disk(&table, len(64 * MIB)).unwrap().is_empty());
    gpt.sgdisk(&["-h", "1"]);
    let hybrid = gpt.table();
    assert!(hybrid.is_hybrid());
    assert_eq!(hybrid.partitions(), table.partitions());
    let error = plan_grow_disk(&hybrid, len(128 * MIB)).unwrap_err();
    assert!(matches!(error, Error::Hybrid), "{error}");
}
