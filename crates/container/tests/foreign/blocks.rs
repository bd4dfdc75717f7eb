//! VDI, Parallels and QED.

use crate::kit::{Kit, assert_reads, complaint, file, le32, le64, limits, open, open_bytes, patched, put};
use container::{Container, Facts, Format};
use ondisk::Len;
use testkit::tool::run;

fn dirty(facts: &Facts) -> bool {
    let Facts::Foreign(facts) = facts else { panic!("{facts:?}") };
    facts.dirty
}

#[test]
fn as_qemu_makes_them() {
    let kit = Kit::new();
    for (format, options) in [
        (Format::Vdi, ""),
        (Format::Vdi, "static=on"),
        (Format::Parallels, ""),
        (Format::Parallels, "cluster_size=65536"),
        (Format::Qed, ""),
        (Format::Qed, "cluster_size=4096,table_size=2"),
        (Format::Qed, "cluster_size=1M,table_size=16"),
    ] {
        let image = kit.convert(format, options);
        let disk = open(&image, format).unwrap();
        assert_reads(&disk, &kit.bytes, &format!("{format} {options}"));
        assert_eq!(disk.format(), format);
        assert!(!dirty(&disk.facts()));
        assert!(disk.plan_grow(Len::gib(1)).unwrap_err().to_string().contains("only read"));
    }
}

#[test]
fn a_vdi_with_room_before_its_blocks_and_with_discarded_ones() {
    let kit = Kit::new();
    let mut image = std::fs::read(kit.convert(Format::Vdi, "")).unwrap();
    let (map, data) = (le32(&image, 340) as usize, le32(&image, 344) as usize);
    let mut expected = kit.bytes.clone();
    // A block that VirtualBox has discarded reads as zero.
    put(&mut image, map + 8, &0xffff_fffe_u32.to_le_bytes());
    expected[2 << 20..3 << 20].fill(0);
    let header = patched(&image[..data], 380, &512_u32.to_le_bytes());
    let blocks = image[data..].chunks(1 << 20).flat_map(|block| [&[0xaa; 512], block].concat());
    let extra: Vec<u8> = header.into_iter().chain(blocks).collect();
    let disk = open_bytes(&extra, Format::Vdi).unwrap();
    assert_reads(&disk, &expected, "with 512 bytes before each block");
}

#[test]
fn a_vdi_that_stands_on_another_is_refused_by_name() {
    let kit = Kit::new();
    let image = std::fs::read(kit.convert(Format::Vdi, "")).unwrap();
    let child = patched(&patched(&image, 76, &4_u32.to_le_bytes()), 440, &[7; 16]);
    assert!(complaint(&child, Format::Vdi).contains("07070707-0707-0707-0707-070707070707"));
    let undo = patched(&image, 76, &3_u32.to_le_bytes());
    assert!(complaint(&undo, Format::Vdi).contains("undo"));
    let old = patched(&image, 68, &1_u32.to_le_bytes());
    assert!(complaint(&old, Format::Vdi).contains("version 0.1"));
}

#[test]
fn parallels_of_the_first_version_count_in_sectors() {
    let kit = Kit::new();
    let mut image = std::fs::read(kit.convert(Format::Parallels, "cluster_size=65536")).unwrap();
    put(&mut image, 0, b"WithoutFreeSpace");
    for entry in 0..le32(&image, 32) as usize {
        let at = 64 + entry * 4;
        let sectors = le32(&image, at) * 128;
        put(&mut image, at, &sectors.to_le_bytes());
    }
    // The high half of the size means nothing there.
    put(&mut image, 40, &[9; 4]);
    let disk = open_bytes(&image, Format::Parallels).unwrap();
    assert_reads(&disk, &kit.bytes, "version 1");
    let path = kit.path("v1.parallels");
    std::fs::write(&path, &image).unwrap();
    assert_eq!(kit.by_qemu(&path, Format::Parallels), kit.bytes);
}

#[test]
fn parallels_in_use_and_with_a_short_bat() {
    let kit = Kit::new();
    let image = std::fs::read(kit.convert(Format::Parallels, "")).unwrap();
    let open_one = patched(&image, 44, &0x746f_6e59_u32.to_le_bytes());
    let disk = open_bytes(&open_one, Format::Parallels).unwrap();
    assert_reads(&disk, &kit.bytes, "in use");
    assert!(dirty(&disk.facts()));
    assert!(complaint(&open_one, Format::Parallels).contains("marked as open"));
    // A disk that was made longer, and not written to since.
    let mut longer = patched(&image, 36, &(40_u64 << 11).to_le_bytes());
    let mut expected = kit.bytes.clone();
    expected.resize(40 << 20, 0);
    put(&mut longer, 48, &2048_u32.to_le_bytes());
    assert_reads(&open_bytes(&longer, Format::Parallels).unwrap(), &expected, "short BAT");
    assert!(complaint(&longer, Format::Parallels).contains("6 entries for 40 clusters"));
}

#[test]
fn qed_over_a_base_and_with_clusters_of_zeros() {
    let kit = Kit::new();
    let names = ["base.raw", "top.qed"].map(|name| kit.path(name).to_str().unwrap().to_owned());
    std::fs::write(&names[0], vec![0x77; 4 << 20]).unwrap();
    run("qemu-img", ["create", "-q", "-f", "qed", "-b", "base.raw", "-F", "raw", &names[1], "6M"]);
    run("qemu-io", ["-f", "qed", "-c", "write -P 1 1M 70k", "-c", "write -z 2M 128k", &names[1]]);
    let top = kit.path("top.qed");
    let mut disk = open(&top, Format::Qed).unwrap();
    let parent = disk.parent_ref().unwrap();
    assert_eq!((parent.names, parent.format), (vec!["base.raw".to_owned()], Some(Format::Raw)));
    let missing = disk.map().next().unwrap().unwrap_err();
    assert!(missing.to_string().contains("'base.raw'"), "{missing}");
    disk.set_parent(Box::new(Container::Raw(file(&kit.path("base.raw")))), None).unwrap();
    let expected = kit.by_qemu(&top, Format::Qed);
    assert_eq!((expected[0], expected[1 << 20], expected[2 << 20], expected[5 << 20]), (0x77, 1, 0, 0));
    assert_reads(&disk, &expected, "over a base");
    let depths: Vec<_> = disk.map().map(|run| run.unwrap().depth).collect();
    assert!(depths.contains(&0) && depths.contains(&1), "{depths:?}");
    let alone = Container::open(file(&kit.path("disk.raw")), Format::Raw, &limits()).unwrap();
    assert!(
        open(&kit.convert(Format::Qed, ""), Format::Qed).unwrap().set_parent(Box::new(alone), None).is_err()
    );
}

#[test]
fn qed_that_was_not_closed_is_read_and_told() {
    let kit = Kit::new();
    let image = std::fs::read(kit.convert(Format::Qed, "")).unwrap();
    let dirty_one = patched(&image, 16, &2_u64.to_le_bytes());
    let disk = open_bytes(&dirty_one, Format::Qed).unwrap();
    assert_reads(&disk, &kit.bytes, "not closed");
    assert!(dirty(&disk.facts()));
    let unknown = patched(&image, 16, &8_u64.to_le_bytes());
    assert!(complaint(&unknown, Format::Qed).contains("features 0x8"));
}

#[test]
fn what_lies_is_found() {
    let kit = Kit::new();
    let vdi = std::fs::read(kit.convert(Format::Vdi, "")).unwrap();
    let parallels = std::fs::read(kit.convert(Format::Parallels, "")).unwrap();
    let qed = std::fs::read(kit.convert(Format::Qed, "")).unwrap();
    let map = le32(&vdi, 340) as usize;
    let l1 = le64(&qed, 40) as usize;
    let l2 = le64(&qed, l1) as usize;
    let of = |format| match format {
        Format::Vdi => &vdi,
        Format::Qed => &qed,
        _ => &parallels,
    };
    for (format, at, bytes, part) in [
        (Format::Vdi, 64, &[0; 4][..], "signature is 0x0"),
        (Format::Vdi, 76, &[9], "unknown type 9"),
        (Format::Vdi, 376, &[1, 0, 0, 0], "blocks of 1 bytes"),
        (Format::Vdi, 376, &[0, 0, 0, 0x80], "blocks of 2147483648 bytes"),
        (Format::Vdi, 384, &[1, 0, 0, 0], "1 blocks of"),
        (Format::Vdi, 368, &[0xff; 8], "do not make a disk"),
        (Format::Vdi, 340, &[0xff; 4], "does not lie in the file"),
        (Format::Vdi, 380, &[0xff; 4], "before each block"),
        (Format::Vdi, map, &[0, 0, 0, 0x7f], "behind the end of the file"),
        (Format::Vdi, map, &[1, 0, 0, 0], "used twice"),
        (Format::Vdi, 388, &[77], "counts 77 blocks"),
        (Format::Parallels, 16, &[3], "version 3"),
        (Format::Parallels, 28, &[0; 4], "clusters of 0 sectors"),
        (Format::Parallels, 32, &[0xff; 4], "does not lie in the file"),
        (Format::Parallels, 64, &[0, 0, 0, 1], "behind the end of the file"),
        (Format::Parallels, 36, &[0xff; 8], "sectors"),
        (Format::Qed, 4, &[1, 0, 0, 0], "clusters of 1 bytes"),
        (Format::Qed, 8, &[17, 0, 0, 0], "tables of 17 clusters"),
        (Format::Qed, 48, &[0xff; 8], "is not possible"),
        (Format::Qed, 40, &[0xff; 8], "does not lie in the file"),
        (Format::Qed, l1, &[1], "where no cluster can be"),
        (Format::Qed, l2, &[0, 0, 0, 0, 0, 0, 1], "behind the end of the file"),
    ] {
        let told = complaint(&patched(of(format), at, bytes), format);
        assert!(told.contains(part), "{format} {at} {bytes:?}: {told}");
    }
    for format in [Format::Vdi, Format::Parallels, Format::Qed] {
        let image = of(format);
        for len in [0, 3, 63, 100, 511] {
            let told = complaint(&image[..len], format);
            assert!(
                told.contains("end") || told.contains("does not lie in the file"),
                "{format} {len}: {told}"
            );
        }
        let told = complaint(&image[..image.len() - 66_000], format);
        assert!(told.is_empty() || told.contains("end of the file"), "{format}: {told}");
        assert_eq!(
            told.is_empty(),
            format != Format::Qed,
            "the last blocks of the others reach behind the disk"
        );
    }
}
