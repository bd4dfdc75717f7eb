//! VHDX: as qemu makes them, with sectors of 4096 bytes, and with logs that are to be replayed.

use crate::kit::{Kit, assert_reads, complaint, le32, le64, open, open_bytes, patched, put};
use container::{Facts, Format};
use testkit::tool::run;
use testkit::vhdx::{Entry, HEADERS, REGIONS, with_log};

/// Where a region begins, by the first word of its name.
fn region(image: &[u8], word: u32) -> usize {
    let entries = (0..le32(image, REGIONS[0] + 8) as usize).map(|i| REGIONS[0] + 16 + i * 32);
    let entry = entries.into_iter().find(|at| le32(image, *at) == word).unwrap();
    le64(image, entry + 16) as usize
}

fn bat(image: &[u8]) -> usize {
    region(image, 0x2dc2_7766)
}

/// Where an item of the metadata begins, by the first word of its name.
fn item(image: &[u8], word: u32) -> usize {
    let at = region(image, 0x8b7c_a206);
    let entry = (0..10).map(|i| at + 32 + i * 32).find(|entry| le32(image, *entry) == word).unwrap();
    at + le32(image, entry + 16) as usize
}

fn is_dirty(image: &[u8]) -> bool {
    match open_bytes(image, Format::Vhdx).unwrap().facts() {
        Facts::Foreign(facts) => facts.dirty,
        other => panic!("{other:?}"),
    }
}

#[test]
fn as_qemu_makes_them() {
    let kit = Kit::new();
    for options in
        ["", "subformat=fixed", "block_size=1M", "block_size=1M,block_state_zero=off", "log_size=4M"]
    {
        let image = kit.convert(Format::Vhdx, options);
        assert_reads(&open(&image, Format::Vhdx).unwrap(), &kit.bytes, options);
    }
}

#[test]
fn one_header_and_one_region_table_will_do() {
    let kit = Kit::new();
    let image = std::fs::read(kit.convert(Format::Vhdx, "block_size=1M")).unwrap();
    for (header, table) in HEADERS.into_iter().zip(REGIONS) {
        let torn = patched(&patched(&image, header + 100, &[1]), table + 100, &[1]);
        let disk = open_bytes(&torn, Format::Vhdx).unwrap();
        let mut bytes = vec![0; kit.bytes.len()];
        disk::ReadAt::read_at(&disk, ondisk::Offset::ZERO, &mut bytes).unwrap();
        assert!(bytes == kit.bytes);
    }
    for both in [HEADERS, REGIONS] {
        let gone = patched(&patched(&image, both[0] + 100, &[1]), both[1] + 100, &[1]);
        assert!(complaint(&gone, Format::Vhdx).contains("checksum is"));
    }
}

#[test]
fn sectors_of_4096_bytes() {
    let kit = Kit::new();
    let mut image = std::fs::read(kit.convert(Format::Vhdx, "block_size=1M")).unwrap();
    let sector = item(&image, 0x8141_bf1d);
    put(&mut image, sector, &4096_u32.to_le_bytes());
    let size = item(&image, 0x2fa5_4224);
    put(&mut image, size, &(5_u64 << 20).to_le_bytes());
    assert_reads(&open_bytes(&image, Format::Vhdx).unwrap(), &kit.bytes[..5 << 20], "4096");
    // The same size in sectors that do not divide it.
    put(&mut image, size, &((5_u64 << 20) + 512).to_le_bytes());
    assert!(complaint(&image, Format::Vhdx).contains("a disk of 5243392 bytes"));
}

#[test]
fn logs_are_replayed() {
    let kit = Kit::new();
    let image = std::fs::read(kit.convert(Format::Vhdx, "block_size=1M")).unwrap();
    let (bat, len) = (bat(&image), image.len() as u64);
    let table = image[bat..bat + 4096].to_vec();
    let lost = patched(&image, bat, &[0; 4096]);
    let stale =
        Entry { number: 3, tail: 0, data: &[(bat as u64, &[0xff; 4096])], zeros: &[], len: (len, len) };
    let first = Entry {
        number: 0x1_0000_0007,
        tail: 40_960,
        data: &[(bat as u64, &[0x66; 4096])],
        zeros: &[(bat as u64, 4096)],
        len: (len, len),
    };
    let second = Entry { number: 0x1_0000_0008, data: &[(bat as u64, &table)], zeros: &[], ..first };
    let at = 40_960;
    let entries = [(0, stale.bytes()), (at, first.bytes()), (at + first.bytes().len(), second.bytes())];
    let dirty = with_log(&lost, &entries);
    assert_reads(&open_bytes(&dirty, Format::Vhdx).unwrap(), &kit.bytes, "a log of two entries");
    assert!(is_dirty(&dirty) && !is_dirty(&image));
    // qemu replays it in the file.
    let path = kit.path("dirty.vhdx");
    std::fs::write(&path, &dirty).unwrap();
    run("qemu-io", ["-f", "vhdx", "-c", "read 0 512", path.to_str().unwrap()]);
    assert!(kit.by_qemu(&path, Format::Vhdx) == kit.bytes);
    assert!(!is_dirty(&std::fs::read(&path).unwrap()));

    // Around the end of the circle.
    let log = le32(&image, HEADERS[0] + 68) as usize;
    let around = Entry { tail: (log - 4096) as u32, ..second };
    let around = with_log(&lost, &[(log - 4096, around.bytes())]);
    assert_reads(&open_bytes(&around, Format::Vhdx).unwrap(), &kit.bytes, "around the end");

    // The newest entry is torn: the one before it is the end.
    let whole = Entry { number: 7, tail: 0, data: &[(bat as u64, &table)], zeros: &[], len: (len, len) };
    let next = Entry { number: 8, data: &[(bat as u64, &[9; 4096])], ..whole };
    let mut torn = next.bytes();
    torn[5000] ^= 1;
    let torn = with_log(&lost, &[(0, whole.bytes()), (whole.bytes().len(), torn)]);
    assert_reads(&open_bytes(&torn, Format::Vhdx).unwrap(), &kit.bytes, "a torn entry");

    // A log that lengthens the file: what is not there reads as zero.
    let longer = Entry { len: (len, len + (4 << 20)), ..whole };
    let mut table = table.clone();
    put(&mut table, 8 * 4, &(len.next_multiple_of(1 << 20) | 6).to_le_bytes());
    let longer = with_log(&lost, &[(0, Entry { data: &[(bat as u64, &table)], ..longer }.bytes())]);
    let mut expected = kit.bytes.clone();
    expected[4 << 20..5 << 20].fill(0);
    assert_reads(&open_bytes(&longer, Format::Vhdx).unwrap(), &expected, "behind the end");
}

#[test]
fn a_killed_qemu_leaves_what_it_had_promised() {
    let kit = Kit::new();
    let path = kit.convert(Format::Vhdx, "block_size=1M");
    let name = path.to_str().unwrap();
    testkit::tool::output(
        "qemu-io",
        ["-f", "vhdx", "-c", "write -P 5 4M 1M", "-c", "flush", "-c", "abort", name],
    );
    let mut expected = kit.bytes.clone();
    expected[4 << 20..5 << 20].fill(5);
    assert_reads(&open(&path, Format::Vhdx).unwrap(), &expected, "killed");
}

#[test]
fn logs_that_lie_are_refused() {
    let kit = Kit::new();
    let image = std::fs::read(kit.convert(Format::Vhdx, "block_size=1M")).unwrap();
    let (bat, len) = (bat(&image) as u64, image.len() as u64);
    let good = Entry { number: 7, tail: 0, data: &[], zeros: &[(bat, 4096)], len: (len, len) };
    let empty = "no valid entries";
    for (entry, part) in [
        (Entry { tail: 4096, ..good }, empty),
        (Entry { tail: 1, ..good }, empty),
        (Entry { tail: u32::MAX - 4095, ..good }, empty),
        (Entry { number: 0, ..good }, empty),
        (Entry { zeros: &[(bat + 1, 4096)], ..good }, empty),
        (Entry { zeros: &[(bat, 100)], ..good }, empty),
        (Entry { zeros: &[(bat, u64::MAX - 4095)], ..good }, empty),
        (Entry { data: &[(1 << 63, &[0; 4096])], ..good }, empty),
        (Entry { len: (len + 1, len), ..good }, "when the log was written"),
    ] {
        let told = complaint(&with_log(&image, &[(0, entry.bytes())]), Format::Vhdx);
        assert!(told.contains(part), "{told}");
    }
    // Zeros as far as numbers go cost nothing, and take the metadata with them.
    let all = Entry { zeros: &[(1 << 20, (1 << 61) - (1 << 20))], ..good };
    assert!(complaint(&with_log(&image, &[(0, all.bytes())]), Format::Vhdx).contains("metadata"));
    // Every sector claims to begin an entry that fills the log.
    let mut sector = good.bytes()[..4096].to_vec();
    put(&mut sector, 8, &(1_u32 << 20).to_le_bytes());
    let claims: Vec<_> = (0..256).map(|i| (i * 4096, sector.clone())).collect();
    let start = std::time::Instant::now();
    assert!(complaint(&with_log(&image, &claims), Format::Vhdx).contains("VHDX log"));
    assert!(start.elapsed().as_secs() < 5);
}

#[test]
fn a_child_is_refused_by_its_parents_name() {
    let kit = Kit::new();
    let mut image = std::fs::read(kit.convert(Format::Vhdx, "block_size=1M")).unwrap();
    let flags = item(&image, 0xcaa1_6737) + 4;
    put(&mut image, flags, &2_u32.to_le_bytes());
    assert!(complaint(&image, Format::Vhdx).contains("differencing"));
    // A locator, in the place of an item that nobody needs.
    let metadata = region(&image, 0x8b7c_a206);
    let entry = (0..10).map(|i| metadata + 32 + i * 32).find(|at| le32(&image, *at) == 0xcda3_48c7).unwrap();
    let id = [0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c];
    put(&mut image, entry, &id);
    let [key, value] = ["relative_path", ".\\base.vhdx"]
        .map(|text| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>());
    let mut locator = vec![0; 18];
    locator.extend(1_u16.to_le_bytes());
    locator.extend(32_u32.to_le_bytes());
    locator.extend((32 + key.len() as u32).to_le_bytes());
    locator.extend((key.len() as u16).to_le_bytes());
    locator.extend((value.len() as u16).to_le_bytes());
    locator.extend([key, value].concat());
    put(&mut image, entry + 16, &[0, 0, 2, 0]);
    put(&mut image, entry + 20, &(locator.len() as u32).to_le_bytes());
    put(&mut image, metadata + 0x2_0000, &locator);
    let told = complaint(&image, Format::Vhdx);
    assert!(told.contains("base.vhdx'"), "{told}");
}

#[test]
fn what_lies_is_found() {
    let kit = Kit::new();
    let image = std::fs::read(kit.convert(Format::Vhdx, "block_size=1M")).unwrap();
    let (bat, size, block) = (bat(&image), item(&image, 0x2fa5_4224), item(&image, 0xcaa1_6737));
    let (sector, metadata) = (item(&image, 0x8141_bf1d), region(&image, 0x8b7c_a206));
    for (at, bytes, part) in [
        (0, &[0][..], "no signature"),
        (size, &[0; 8], "a disk of 0 bytes"),
        (size, &[1, 0, 0, 0, 0, 0, 0, 0], "a disk of 1 bytes"),
        (size, &[0, 0, 0, 0, 0, 0x80, 0, 0], "a disk of"),
        (size, &[0, 0, 0, 0, 0, 0x40, 0, 0], "do not fit into its region"),
        (block, &[1, 0, 0, 0], "blocks of 1 bytes"),
        (sector, &[0, 4], "sectors of 1024 bytes"),
        (metadata, &[0], "no signature"),
        (metadata + 10, &[0xff, 0xff], "65535 items"),
        (metadata + 32, &[1], "required"),
        (metadata + 32 + 16, &[1, 0, 0, 0], "does not lie in its region"),
        (bat, &[6, 0, 0, 0, 0, 0, 0, 0], "among the headers"),
        (bat, &[6, 0, 0, 0, 0, 0, 0, 0x70], "behind the end of the file"),
        (bat, &[7, 0, 0xf0], "needs a parent"),
        (bat, &[4], "does not exist"),
        (bat, &image[bat + 8..bat + 16], "used twice"),
    ] {
        let told = complaint(&patched(&image, at, bytes), Format::Vhdx);
        assert!(told.contains(part), "{at} {bytes:?}: {told}");
    }
    for len in [0, 100, 65_536, 200_000, 1 << 20, 3 << 20] {
        assert!(!complaint(&image[..len], Format::Vhdx).is_empty(), "{len}");
    }
}
