//! VMDK: every kind that qemu makes, and streams, ESX extents and tables as the products write them.

use crate::kit::{Kit, assert_reads, complaint, le32, le64, open, open_bytes, patched, put};
use container::{Container, Facts, Format};
use testkit::vmdk::{GRAIN, deflate, stream};

fn fields(disk: &Container<impl disk::ReadAt>) -> Box<container::foreign::Facts> {
    match disk.facts() {
        Facts::Foreign(facts) => facts,
        other => panic!("{other:?}"),
    }
}

#[test]
fn as_qemu_makes_them() {
    let kit = Kit::new();
    for options in [
        "subformat=monolithicSparse",
        "subformat=monolithicSparse,zeroed_grain=on",
        "subformat=monolithicFlat",
        "subformat=twoGbMaxExtentSparse",
        "subformat=twoGbMaxExtentFlat",
        "subformat=streamOptimized",
    ] {
        let image = kit.convert(Format::Vmdk, options);
        let disk = open(&image, Format::Vmdk).unwrap();
        assert_reads(&disk, &kit.bytes, options);
        let kind = options.split(['=', ',']).nth(1).unwrap();
        assert!(fields(&disk).title.contains(kind), "{:?}", fields(&disk));
        let is_stream = kind == "streamOptimized";
        let compressed = disk.map().any(|run| run.is_ok_and(|run| run.data && run.offset.is_none()));
        assert_eq!(compressed, is_stream);
    }
}

#[test]
fn streams_with_a_footer() {
    let kit = Kit::new();
    for padding in [0, 512, 10_000] {
        let image = stream(&kit.bytes, padding);
        let disk = open_bytes(&image, Format::Vmdk).unwrap();
        assert_reads(&disk, &kit.bytes, &format!("{padding} bytes behind the footer"));
        assert_eq!(disk.parts(), Vec::<String>::new(), "its own descriptor names nothing");
        if padding == 0 {
            let path = kit.path("stream.vmdk");
            std::fs::write(&path, &image).unwrap();
            assert_eq!(kit.by_qemu(&path, Format::Vmdk), kit.bytes);
        }
    }
    // More than one table.
    let mut long = vec![0; 80 << 20];
    long[33 << 20..34 << 20].fill(7);
    long[(80 << 20) - 5..].fill(9);
    assert_reads(&open_bytes(&stream(&long, 0), Format::Vmdk).unwrap(), &long, "three tables");
}

#[test]
fn streams_that_were_cut_off_or_damaged_are_refused() {
    let kit = Kit::new();
    let image = stream(&kit.bytes, 0);
    for len in [512, 1536, image.len() / 2, image.len() - 1024] {
        assert!(complaint(&image[..len], Format::Vmdk).contains("not complete"), "{len}");
    }
    let first = 1536;
    for (at, bytes, part) in [
        (first, &[1][..], "says that it is that of 1"),
        (first + 8, &[0xff; 4], "not possible"),
        (first + 8, &[0; 4], "not possible"),
        (first + 12, &[0], "damaged"),
        (first + 400, &[0xee; 30], "its compressed data"),
    ] {
        let told = complaint(&patched(&image, at, bytes), Format::Vmdk);
        assert!(told.contains(part), "{at}: {told}");
    }
    let large = patched(&image, image.len() - 1024 + 20, &[0, 0x40]);
    assert!(complaint(&large, Format::Vmdk).contains("compressed grains of 16384 sectors"));
    // A grain that unpacks to more than a grain.
    let bomb = deflate(&vec![0; 64 << 20]);
    let mut exploding = image.clone();
    put(&mut exploding, first + 8, &(bomb.len() as u32).to_le_bytes());
    put(&mut exploding, first + 12, &bomb[..bomb.len().min(60_000)]);
    let told = complaint(&exploding, Format::Vmdk);
    assert!(told.contains("VMDK grain"), "{told}");
}

#[test]
fn sent_as_text_it_is_refused() {
    let kit = Kit::new();
    let image = std::fs::read(kit.convert(Format::Vmdk, "")).unwrap();
    assert!(complaint(&patched(&image, 73, b"\n \n\n"), Format::Vmdk).contains("sent as text"));
}

#[test]
fn either_directory_will_do_and_a_difference_is_told() {
    let kit = Kit::new();
    let image = std::fs::read(kit.convert(Format::Vmdk, "")).unwrap();
    let (second, first) = (le64(&image, 48) as usize * 512, le64(&image, 56) as usize * 512);
    assert!(second != 0 && first != 0 && first != second);
    let lost = patched(&image, 56, &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    assert_reads(&open_bytes(&lost, Format::Vmdk).unwrap(), &kit.bytes, "the second directory");
    let table = le32(&image, second) as usize * 512;
    let told = complaint(&patched(&image, table, &[0x99]), Format::Vmdk);
    assert!(told.contains("copies of grain table 0 differ"), "{told}");
}

#[test]
fn grains_of_zeros_need_their_flag() {
    let kit = Kit::new();
    let image = std::fs::read(kit.convert(Format::Vmdk, "zeroed_grain=on")).unwrap();
    let table = le32(&image, le64(&image, 56) as usize * 512) as usize * 512;
    let zeroed = patched(&image, table, &1_u32.to_le_bytes());
    let mut expected = kit.bytes.clone();
    expected[..GRAIN].fill(0);
    let disk = open_bytes(&zeroed, Format::Vmdk).unwrap();
    let first = disk.map().next().unwrap().unwrap();
    assert!(first.present && first.zero);
    let mut head = vec![0; GRAIN];
    disk::ReadAt::read_at(&disk, ondisk::Offset::ZERO, &mut head).unwrap();
    assert_eq!(head, expected[..GRAIN]);
    let without = patched(&zeroed, 8, &[3]);
    assert!(
        complaint(&without, Format::Vmdk).contains("used twice"),
        "{}",
        complaint(&without, Format::Vmdk)
    );
}

/// ESX's extents: `COWD`, tables of 4096 entries, grains of a sector.
#[test]
fn extents_of_esx() {
    let kit = Kit::new();
    let (grain, sectors) = (512, kit.bytes.len() / 512);
    let tables = sectors.div_ceil(4096);
    let mut file = b"COWD".to_vec();
    for word in [1, 3, sectors as u32, 1, 4, tables as u32, 0] {
        file.extend(u32::to_le_bytes(word));
    }
    file.resize(2048 + 512, 0);
    let mut tables_at = Vec::new();
    for table in kit.bytes.chunks(4096 * grain) {
        let at = file.len();
        tables_at.extend(((at / 512) as u32).to_le_bytes());
        file.resize(at + 4096 * 4, 0);
        for (index, sector) in table.chunks(grain).enumerate() {
            if sector.iter().any(|byte| *byte != 0) {
                let place = ((file.len() / 512) as u32).to_le_bytes();
                put(&mut file, at + index * 4, &place);
                file.extend(sector);
            }
        }
    }
    put(&mut file, 2048, &tables_at);
    let alone = kit.path("alone.vmdk");
    std::fs::write(&alone, &file).unwrap();
    assert_reads(&open(&alone, Format::Vmdk).unwrap(), &kit.bytes, "COWD");
    let head =
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"vmfsSparse\"\n";
    let one = kit.path("one.vmdk");
    std::fs::write(&one, format!("{head}RW {sectors} VMFSSPARSE \"alone.vmdk\"\n")).unwrap();
    assert_eq!(kit.by_qemu(&one, Format::Vmdk), kit.bytes);
    let text = format!(
        "{head}RW {sectors} VMFSSPARSE \"alone.vmdk\"\nRW 100 ZERO\nRW 2 FLAT \"disk.raw\" {}\n",
        sectors - 2
    );
    let path = kit.path("vm.vmdk");
    std::fs::write(&path, text).unwrap();
    let expected = [&kit.bytes[..], &[0; 51_200], &kit.bytes[kit.bytes.len() - 1024..]].concat();
    assert_reads(&open(&path, Format::Vmdk).unwrap(), &expected, "three extents");
}

#[test]
fn descriptors_that_lead_nowhere() {
    let kit = Kit::new();
    let head = "# Disk DescriptorFile\nCID=1\nparentCID=ffffffff\n";
    for (text, part) in [
        (format!("{head}RW 10 FLAT \"/etc/shadow\"\n"), "'/etc/shadow'"),
        (head.to_owned(), "no extents"),
        (format!("{head}RW 18446744073709551615 ZERO\n"), "no extent"),
        (format!("{head}{}", "RW 18014398509481983 ZERO\n".repeat(3)), "2^63"),
        (
            "# Disk DescriptorFile\nCID=1\nparentCID=5\nparentFileNameHint=\"a.vmdk\"\nRW 1 ZERO".to_owned(),
            "'a.vmdk'",
        ),
        ("not a descriptor at all".to_owned(), "neither a header nor a descriptor"),
    ] {
        let told = complaint(text.as_bytes(), Format::Vmdk);
        assert!(told.contains(part), "{text}: {told}");
    }
    let image = std::fs::read(kit.convert(Format::Vmdk, "")).unwrap();
    let (l1, flags) = (le64(&image, 56) as usize * 512, 8);
    let table = le32(&image, l1) as usize * 512;
    for (at, bytes, part) in [
        (4, &[9][..], "version 9"),
        (20, &[3, 0, 0, 0, 0, 0, 0, 0], "grains of 3 sectors"),
        (20, &[0; 8], "grains of 0 sectors"),
        (12, &[0xff; 8], "capacity"),
        (12, &[0, 0, 0, 0, 0xff, 0, 0, 0], "does not lie in the file"),
        (44, &[0; 4], "0 entries"),
        (44, &[0xff; 4], "4294967295 entries"),
        (flags + 2, &[1], "compression 0"),
        (36, &[0xff; 8], "behind byte 2^64"),
        (36, &[0xff, 0xff, 0xff], "too many"),
        (table, &[0, 0, 0, 0x70], "behind the end of the file"),
        (l1, &[0, 0, 0, 0x70], "does not lie in the file"),
    ] {
        let told = complaint(&patched(&image, at, bytes), Format::Vmdk);
        assert!(told.contains(part), "{at}: {told}");
    }
    let second = le32(&image, table + 4);
    assert!(second != 0);
    let twice = patched(&image, table, &second.to_le_bytes());
    assert!(complaint(&twice, Format::Vmdk).contains("used twice"));
}
