//! Numbers, places, identifiers and names as `partx` (libblkid) gives them.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

#[allow(dead_code, reason = "shared with the other test binaries")]
mod support;

use support::{Image, MIB};
use table::{Kind, Table, Type};

/// Number, first sector, sectors and PARTUUID of each partition.
fn ours(table: &Table) -> Vec<String> {
    let row = |part: &table::Partition| {
        let (start, len) = (part.span.start().get() / 512, part.span.len().get() / 512);
        format!("{} {start} {len} {}", part.number, part.uuid)
    };
    table.partitions().iter().map(row).collect()
}

fn partx(image: &Image) -> Vec<String> {
    let text = image.tool("partx", &["--show", "--noheadings", "-o", "NR,START,SECTORS,UUID"], "");
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn as_the_tools_number_them() {
    let mbr = Image::new(64 * MIB);
    mbr.sfdisk(
        "label: dos\nlabel-id: 0x0000beef\nstart=65536,size=4096,type=c\nstart=8192,size=40960,type=f\n\
         start=10240,size=4096\nstart=16384,size=4096,type=82\nstart=24576,size=4096\n",
    );
    assert_eq!(ours(&mbr.table()), partx(&mbr));
    assert_eq!(mbr.table().id().to_string(), "0x0000beef");
    // A logical partition that was deleted leaves an empty slot in its EBR, and no number.
    mbr.write(14336 * 512 + 446, &[0; 16]);
    assert_eq!(ours(&mbr.table()), partx(&mbr));
    assert_eq!(mbr.table().partitions().last().unwrap().number, 6);
    // A chain that runs backwards on the disk.
    let back = Image::new(64 * MIB);
    back.sfdisk("label: dos\nstart=8192,size=40960,type=5\nstart=10240,size=4096\n");
    let entry = |kind: u8, start: u32, size: u32| {
        let mut slot = vec![0, 0, 0, 0, kind, 0, 0, 0];
        slot.extend(start.to_le_bytes());
        slot.extend(size.to_le_bytes());
        slot
    };
    let ebr = |at: u64, slots: [Vec<u8>; 2]| {
        back.write(at * 512 + 446, &slots.concat()).write(at * 512 + 510, &[0x55, 0xaa]);
    };
    ebr(8192, [entry(0x83, 2048, 4096), entry(5, 20_000, 3000)]);
    ebr(28_192, [entry(0x83, 100, 1000), entry(5, 10_000, 3000)]);
    ebr(18_192, [entry(0x8e, 100, 1000), entry(0, 0, 0)]);
    assert_eq!(ours(&back.table()), partx(&back));
    assert_eq!(back.table().partition(7).unwrap().span.start().get(), 18_292 * 512);
    assert_eq!(back.damage(), Vec::<String>::new());
    let gpt = Image::new(64 * MIB);
    gpt.sgdisk(&[
        "-n",
        "3:2048:+4M",
        "-n",
        "1:20480:+4M",
        "-n",
        "128:40960:+4M",
        "-c",
        "3:a \u{1f600}\u{202e}b",
    ]);
    assert_eq!(ours(&gpt.table()), partx(&gpt));
    assert_eq!(gpt.table().partition(3).unwrap().name, "a \u{1f600}\u{202e}b");
}

#[test]
fn kinds_and_flags() {
    let gpt = Image::new(64 * MIB);
    gpt.sgdisk(&["-n", "1:2048:+4M", "-t", "1:8200", "-n", "2:20480:+4M", "-t", "2:8e00", "-A", "2:set:2"]);
    let table = gpt.table();
    assert_eq!(table.kind(), Kind::Gpt);
    assert!(table.partitions()[0].kind.is_swap() && !table.partitions()[0].bootable);
    assert!(table.partitions()[1].kind.is_lvm() && table.partitions()[1].bootable);
    assert_eq!(table.partitions()[1].attributes, 4);
    assert!(gpt.dump().contains(&table.partitions()[0].kind.to_string()));
    assert!(gpt.dump().contains(&table.id().to_string()));
    let mbr = Image::new(64 * MIB);
    mbr.sfdisk("label: dos\n2048,8192,8e,*\n16384,8192,S\n");
    let table = mbr.table();
    assert!(table.partitions()[0].kind.is_lvm() && table.partitions()[0].bootable);
    assert!(table.partitions()[1].kind.is_swap() && !table.partitions()[1].bootable);
    assert_eq!(table.partitions()[0].kind, Type::Mbr(0x8e));
    assert_eq!(table.metadata().total().get(), 512);
    assert_eq!(gpt.table().metadata().total().get(), (34 + 33) * 512);
}
