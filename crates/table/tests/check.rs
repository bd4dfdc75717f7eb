//! Each kind of damage is found, named, and stops every change; what is no table is not taken for one.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

#[allow(dead_code, reason = "shared with the other test binaries")]
mod support;

use disk::Limits;
use ondisk::{Class, Classified, Len, sum::crc32};
use support::{Image, MIB, assert_same};
use table::{Kind, Severity, To};

const LEN: u64 = 64 * MIB;
const PRIMARY: u64 = 512;
const BACKUP: u64 = LEN - 512;
const ENTRIES: u64 = 1024;
const BACKUP_ENTRIES: u64 = LEN - 33 * 512;

fn gpt() -> Image {
    let image = Image::new(LEN);
    image.sgdisk(&["-n", "1:2048:+4M", "-n", "2:20480:+4M", "-n", "3:40960:+4M", "-t", "3:8200"]);
    image.assert_clean();
    image
}

/// Corrects the checksums of a header at `at` and of its entries.
fn seal(image: &Image, at: u64) {
    let mut header = image.bytes(at, 512);
    let field = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
    let (size, count, each) = (usize::try_from(field(12)).unwrap().min(512), field(80), field(84));
    let entries_at = u64::from_le_bytes(header[72..80].try_into().unwrap()).saturating_mul(512);
    let len = u64::from(count) * u64::from(each);
    if entries_at.saturating_add(len) <= LEN {
        let sum = crc32(&image.bytes(entries_at, usize::try_from(len).unwrap()));
        header[88..92].copy_from_slice(&sum.to_le_bytes());
    }
    header[16..20].fill(0);
    let sum = crc32(&header[..size]);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    image.write(at, &header);
}

/// The damage is found in those words, and nothing is planned on top of it.
fn assert_damaged(image: &Image, words: &str) {
    let found = image.damage();
    assert!(found.iter().any(|text| text.contains(words)), "expected \"{words}\" among {found:?}");
    let error = table::plan_grow_disk(&image.table(), Len::new(2 * LEN)).unwrap_err();
    assert_eq!(error.class(), Class::Corrupt, "{error}");
    let number = image.table().partitions().first().map_or(1, |part| part.number);
    let error = table::plan_grow_partition(&image.table(), number, To::Max, Len::new(2 * LEN)).unwrap_err();
    assert_eq!(error.class(), Class::Corrupt, "{error}");
    assert!(error.help().unwrap().contains("imgtool check"));
}

fn sgdisk_objects(image: &Image) {
    let text = image.try_tool("sgdisk", &["--verify"]);
    assert!(text.contains("Identified") || text.contains("ERROR"), "{text}");
}

fn sfdisk_objects(image: &Image) {
    let text = image.try_tool("sfdisk", &["--verify"]);
    assert!(!text.contains("No errors detected") || text.contains("greater than the maximum"), "{text}");
}

#[test]
fn one_copy_of_a_gpt_is_damaged() {
    for (at, words) in [
        (PRIMARY, "primary GPT: no GPT signature"),
        (PRIMARY + 40, "primary GPT: the header's checksum"),
        (ENTRIES + 60, "primary GPT: the checksum"),
        (BACKUP, "backup GPT: no GPT signature"),
        (BACKUP + 40, "backup GPT: the header's checksum"),
        (BACKUP_ENTRIES + 60, "backup GPT: the checksum"),
    ] {
        let image = gpt();
        let before = image.table();
        image.write(at, &[0xa5]);
        assert_damaged(&image, words);
        assert_eq!(image.table().partitions(), before.partitions(), "the other copy is read");
        sgdisk_objects(&image);
    }
    let image = gpt();
    image.write(PRIMARY, &[0]).write(BACKUP, &[0]);
    let error = table::check(&image.disk(), &Limits::default()).unwrap_err();
    assert_eq!(error.class(), Class::Corrupt, "{error}");
}

#[test]
fn gpt_headers_that_lie() {
    for (at, bytes, words) in [
        (12, &600_u32.to_le_bytes()[..], "header size 600"),
        (12, &8_u32.to_le_bytes(), "header size 8"),
        (24, &7_u64.to_le_bytes(), "lies at sector 7"),
        (32, &u64::MAX.to_le_bytes(), "backup GPT: sector 18446744073709551615 lies beyond"),
        (32, &1_u64.to_le_bytes(), "backup GPT: it would lie over the primary"),
        (40, &33_u64.to_le_bytes(), "overlap"),
        (40, &100_u64.to_le_bytes(), "differ in the usable sectors"),
        (48, &u64::MAX.to_le_bytes(), "usable sectors 34 to 18446744073709551615"),
        (48, &20_u64.to_le_bytes(), "usable sectors 34 to 20"),
        (56, &[9; 16], "differ in the disk's GUID"),
        (72, &u64::MAX.to_le_bytes(), "entries at sector 18446744073709551615"),
        (72, &1_u64.to_le_bytes(), "entries at sector 1,"),
        (80, &u32::MAX.to_le_bytes(), "4294967295 entries"),
        (80, &0_u32.to_le_bytes(), "0 entries"),
        (80, &64_u32.to_le_bytes(), "differ in their entries"),
        (84, &96_u32.to_le_bytes(), "entries of 96 bytes"),
        (84, &u32::MAX.to_le_bytes(), "entries of 4294967295 bytes"),
    ] {
        let image = gpt();
        image.write(PRIMARY + at, bytes);
        seal(&image, PRIMARY);
        assert_damaged(&image, words);
    }
    let image = gpt();
    image.write(BACKUP + 32, &5_u64.to_le_bytes());
    seal(&image, BACKUP);
    assert_damaged(&image, "differ in where the primary one lies");
}

#[test]
fn gpt_entries_that_lie() {
    let entry = |number: u64, field: u64| (number - 1) * 128 + field;
    for (at, value, words) in [
        (entry(1, 40), 20_481_u64, "partition 2 begins at 10485760, inside partition 1"),
        (entry(3, 40), LEN / 512 - 34 + 1, "partition 3 runs from sector 40960"),
        (entry(3, 40), u64::MAX, "partition 3 runs from"),
        (entry(2, 32), 33, "partition 2 runs from sector 33"),
        (entry(2, 40), 20_000, "partition 2 runs from sector 20480 to 20000"),
    ] {
        let image = gpt();
        image.write(ENTRIES + at, &value.to_le_bytes()).write(BACKUP_ENTRIES + at, &value.to_le_bytes());
        seal(&image, PRIMARY);
        seal(&image, BACKUP);
        assert_damaged(&image, words);
        sgdisk_objects(&image);
    }
    let image = gpt();
    image.write(ENTRIES + entry(2, 40), &20_600_u64.to_le_bytes());
    seal(&image, PRIMARY);
    assert_damaged(&image, "differ in their entries");
    sgdisk_objects(&image);
}

#[test]
fn gpt_with_wide_entries() {
    let image = gpt();
    let narrow = image.table();
    let entries: Vec<u8> =
        image.bytes(ENTRIES, 64 * 128).chunks(128).flat_map(|entry| [entry, &[0xee; 128]].concat()).collect();
    for (header, array) in [(PRIMARY, ENTRIES), (BACKUP, BACKUP_ENTRIES)] {
        image.write(array, &entries).write(header + 80, &64_u32.to_le_bytes());
        image.write(header + 84, &256_u32.to_le_bytes());
        seal(&image, header);
    }
    assert_eq!(image.damage(), Vec::<String>::new());
    assert_eq!(image.table().partitions(), narrow.partitions());
    image.grow(3, To::Max, 2 * LEN);
    assert_eq!(image.damage(), Vec::<String>::new());
    assert_eq!(image.table().partition(3).unwrap().span.end().get(), 2 * LEN - 33 * 512);
    let kept = image.bytes(ENTRIES, entries.len());
    let differ = kept.iter().zip(&entries).filter(|(a, b)| a != b).count();
    assert!((1..=8).contains(&differ), "only the last sector of one entry, not {differ} bytes");
}

#[test]
fn gpt_without_protection_or_beside_an_mbr() {
    let image = gpt();
    image.write(510, &[0, 0]);
    assert_eq!(image.table().kind(), Kind::Gpt);
    assert_damaged(&image, "protective MBR is missing");
    let image = gpt();
    image.write(450, &[0x83]);
    assert_eq!(image.table().kind(), Kind::Mbr, "as the kernel sees it");
    assert_damaged(&image, "partition 1 of the MBR lies over the header of a GPT");
    let image = gpt();
    image.set_len(2 * LEN);
    let findings = table::check(&image.disk(), &Limits::default()).unwrap();
    assert!(
        !findings.is_empty() && findings.iter().all(|one| one.severity == Severity::Note),
        "{findings:?}"
    );
    let image = gpt();
    image.set_len(LEN - 512);
    assert_damaged(&image, "backup GPT: sector 131071 lies beyond");
}

/// An MBR whose maker has left a GPT behind, on a disk that was perhaps longer when the GPT was made.
fn mbr_beside_gpt(len: u64) -> Image {
    let image = gpt();
    image.set_len(len);
    image.tool(
        "sfdisk",
        &["--quiet", "--no-reread", "--no-tell-kernel", "--wipe", "never"],
        "label: dos\n2048,8192,83\n",
    );
    image.write(PRIMARY, &gpt().bytes(PRIMARY, 512)).write(ENTRIES, &gpt().bytes(ENTRIES, 128 * 128));
    image
}

#[test]
fn an_mbr_beside_a_gpt_reads_the_same_on_a_longer_disk() {
    for len in [LEN, LEN - 512, LEN / 2] {
        let image = mbr_beside_gpt(len);
        let before = image.table();
        assert_eq!((before.kind(), before.partitions().len()), (Kind::Mbr, 1));
        assert!(
            before.findings().iter().all(|one| one.severity == Severity::Note),
            "{:?}",
            before.findings()
        );
        assert_eq!(before.findings().len(), 1, "it is said");
        assert_eq!(image.tool("blkid", &["-p", "-o", "value", "-s", "PTTYPE"], "").trim(), "dos");
        let theirs = image.copy();
        theirs.set_len(2 * LEN).sfdisk_grow(1);
        image.grow(1, To::Max, 2 * LEN).assert_clean();
        assert_eq!(image.dump(), theirs.dump());
        assert_same(&image, &theirs, 0, 64 * 512);
        assert_eq!(image.table().findings(), before.findings());
    }
}

#[test]
fn an_empty_mbr_beside_a_gpt_is_damage_however_long_the_disk_is() {
    for (len, words) in [(LEN, "protective MBR is missing"), (LEN / 2, "does not protect the GPT")] {
        let image = gpt();
        image.write(446, &[0; 64]).set_len(len);
        assert_damaged(&image, words);
        image.set_len(LEN);
        assert_damaged(&image, "protective MBR is missing");
    }
    let image = gpt();
    image.write(446, &[0; 64]).set_len(PRIMARY + 8);
    assert_damaged(&image, "does not protect the GPT");
    let image = gpt();
    image.write(446, &[0; 64]).write(PRIMARY + 40, &[0xa5]);
    assert_eq!(image.damage(), Vec::<String>::new(), "remains that no disk makes whole");
    assert_eq!(image.table().partitions(), []);
}

fn mbr() -> Image {
    let image = Image::new(LEN);
    image.sfdisk(
        "label: dos\nstart=2048,size=4096,type=83\nstart=8192,size=40960,type=5\nstart=65536,size=4096,type=83\n\
         start=10240,size=4096\nstart=16384,size=4096\n",
    );
    image.assert_clean();
    image
}

/// Byte positions in a slot of a record at a sector.
fn slot(sector: u64, slot: u64, field: u64) -> u64 {
    sector * 512 + 446 + (slot - 1) * 16 + field
}

#[test]
fn mbr_damage() {
    for (at, bytes, words, sfdisk_too) in [
        (slot(0, 1, 0), &[0x7f][..], "slot 1 of the MBR has boot indicator 0x7f", false),
        (slot(0, 1, 4), &[0], "slot 1 of the MBR has type 0, but 4096 sectors", false),
        (
            slot(0, 1, 12),
            &16_384_u32.to_le_bytes(),
            "partition 2 begins at 4194304, inside partition 1",
            true,
        ),
        (slot(0, 3, 12), &u32::MAX.to_le_bytes(), "partition 3 ends at", true),
        (slot(0, 3, 4), &[0x0f], "2 extended partitions", false),
        (slot(0, 1, 8), &0_u32.to_le_bytes(), "partition 1 begins at 0, inside the MBR", false),
        (
            slot(8192, 1, 12),
            &60_000_u32.to_le_bytes(),
            "partition 5 is not inside the extended partition",
            true,
        ),
        (
            slot(8192, 1, 12),
            &7_000_u32.to_le_bytes(),
            "partition 6 begins at 8388608, inside partition 5",
            true,
        ),
        (slot(8192, 2, 8), &0_u32.to_le_bytes(), "comes back to sector 8192", false),
        (slot(14_336, 2, 4), &[5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], "comes back to sector 8192", false),
        (slot(8192, 2, 8), &u32::MAX.to_le_bytes(), "lies outside the extended partition", false),
        (slot(8192, 2, 8), &100_u32.to_le_bytes(), "the EBR at sector 8292 has no boot signature", false),
        (
            slot(8192, 3, 4),
            &[0x83, 0, 0, 0, 0, 48, 0, 0, 1, 0, 0, 0],
            "more than one partition and one link",
            false,
        ),
        (8192 * 512 + 510, &[0], "the EBR at sector 8192 has no boot signature", false),
    ] {
        let image = mbr();
        image.write(at, bytes);
        assert_damaged(&image, words);
        if sfdisk_too {
            sfdisk_objects(&image);
        }
    }
    let image = mbr();
    image.set_len(8192 * 512);
    assert_damaged(&image, "the EBR at sector 8192 lies beyond the disk");
}

#[test]
fn a_long_chain_is_bounded() {
    let image = Image::new(LEN);
    image.sfdisk("label: dos\nstart=2048,size=100000,type=5\n");
    for number in 0..2000_u32 {
        let mut ebr = [0_u8; 512];
        ebr[446 + 16 + 4] = 5;
        ebr[446 + 16 + 8..][..4].copy_from_slice(&(number + 1).to_le_bytes());
        ebr[446 + 16 + 12] = 1;
        ebr[510..].copy_from_slice(&[0x55, 0xaa]);
        image.write((2048 + u64::from(number)) * 512, &ebr);
    }
    let error = table::check(&image.disk(), &Limits::default()).unwrap_err();
    assert!(error.to_string().contains("extended boot records: 1025, the limit is 1024"), "{error}");
}

fn nothing(image: &Image) {
    assert_eq!(table::read(&image.disk(), &Limits::default()).unwrap(), None);
    assert_eq!(table::check(&image.disk(), &Limits::default()).unwrap(), []);
}

#[test]
fn what_is_no_table() {
    for len in [0, 1, 511, 512, 4096, LEN] {
        nothing(&Image::new(len));
    }
    let ext = Image::new(LEN);
    ext.tool("mkfs.ext4", &["-q"], "");
    nothing(&ext);
    ext.write(510, &[0x55, 0xaa]);
    nothing(&ext);
    ext.write(440, &[0xb8; 70]);
    nothing(&ext);
    let swap = Image::new(LEN);
    swap.tool("mkswap", &[], "");
    swap.write(510, &[0x55, 0xaa]);
    nothing(&swap);
    let pv = Image::new(LEN);
    pv.write(512, b"LABELONE").write(510, &[0x55, 0xaa]);
    nothing(&pv);
    let fat = Image::new(LEN);
    fat.tool("mkfs.vfat", &[], "");
    assert_eq!(fat.bytes(510, 2), [0x55, 0xaa]);
    nothing(&fat);
    let ntfs = Image::new(LEN);
    ntfs.write(3, b"NTFS    ").write(510, &[0x55, 0xaa]);
    nothing(&ntfs);
}

#[test]
fn a_table_over_the_remains_of_a_filesystem() {
    let image = Image::new(LEN);
    image.tool("mkfs.ext4", &["-q"], "");
    image.tool("sfdisk", &["--quiet", "--wipe", "never"], "label: dos\n2048,40960,83\n");
    assert_eq!(image.bytes(1080, 2), b"\x53\xef");
    image.assert_clean();
    assert_eq!(image.table().partitions().len(), 1);
    let empty = Image::new(LEN);
    empty.sfdisk("label: dos\n");
    empty.assert_clean();
    assert_eq!(empty.table().partitions(), []);
}
