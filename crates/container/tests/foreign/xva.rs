//! XVA: archives by GNU tar, with every oddity of the exporter.

use crate::kit::{Kit, assert_reads, complaint, file, limits, open_bytes, patched};
use container::{Container, Error, Format, OpenWith};
use disk::MemDisk;
use ondisk::{Class, Classified};
use testkit::tool::run;
use testkit::xva::{Disk, MIB, Sums, archive, chunk, chunks, ova, uuid};

#[test]
fn exports_of_one_disk() {
    let kit = Kit::new();
    let dir = kit.dir.path();
    let disk = Disk { folder: "Ref:10", name: "root", number: "0", len: kit.bytes.len() };
    let ova = ova(&[disk]);
    for (sums, what) in [(Sums::Sha1, "SHA-1"), (Sums::Xxh64, "XXH64"), (Sums::None, "none")] {
        let names = chunks(dir, "Ref:10", &kit.bytes, sums);
        assert!(
            names.iter().any(|name| name.ends_with('3')) && !names.iter().any(|name| name.ends_with('4'))
        );
        let image = archive(dir, &ova, &names);
        let disk = open_bytes(&image, Format::Xva).unwrap();
        assert_reads(&disk, &kit.bytes, what);
        let run = disk.map().next().unwrap().unwrap();
        assert_eq!(
            &image[run.offset.unwrap().get() as usize..][..700],
            &kit.bytes[..700],
            "where the map says"
        );
        assert_eq!(complaint(&image, Format::Xva).contains("no checksum"), sums == Sums::None);
    }
}

/// To keep an idle connection alive, the exporter writes chunks without bytes: each takes a number, and no place.
#[test]
fn empty_chunks_take_no_place() {
    let kit = Kit::new();
    let dir = kit.dir.path();
    let ova = ova(&[Disk { folder: "Ref:10", name: "root", number: "0", len: kit.bytes.len() }]);
    let mut names = Vec::new();
    let part = |i: usize| kit.bytes.chunks(MIB).nth(i).unwrap();
    names.extend(chunk(dir, "Ref:10", 0, part(0), Sums::Sha1));
    names.extend(chunk(dir, "Ref:10", 1, part(1), Sums::Sha1));
    names.extend(chunk(dir, "Ref:10", 2, b"", Sums::Sha1));
    names.extend(chunk(dir, "Ref:10", 3, part(2), Sums::Sha1));
    names.extend(chunk(dir, "Ref:10", 4, part(3), Sums::Sha1));
    names.extend(chunk(dir, "Ref:10", 6, b"", Sums::Sha1));
    names.extend(chunk(dir, "Ref:10", 7, part(5), Sums::Sha1));
    assert!(part(4).iter().all(|byte| *byte == 0));
    let image = archive(dir, &ova, &names);
    assert_reads(&open_bytes(&image, Format::Xva).unwrap(), &kit.bytes, "empty chunks");
}

#[test]
fn of_several_disks_one_is_chosen() {
    let kit = Kit::new();
    let dir = kit.dir.path();
    let other = vec![0x11; 3 * MIB + 512];
    let disks = [("Ref:12", "data \u{1b}[31m", "1", other.len()), ("Ref:11", "root", "0", kit.bytes.len())];
    let disks = disks.map(|(folder, name, number, len)| Disk { folder, name, number, len });
    let ova = ova(&disks).replace('\u{1b}', "&#9;");
    let mut names = chunks(dir, "Ref:12", &other, Sums::Xxh64);
    names.extend(chunks(dir, "Ref:11", &kit.bytes, Sums::Xxh64));
    let image = archive(dir, &ova, &names);
    let Err(Error::Choose { disks }) = open_bytes(&image, Format::Xva) else { panic!() };
    assert_eq!(disks.iter().map(|disk| disk.device.as_str()).collect::<Vec<_>>(), ["0", "1"]);
    assert_eq!(disks[1].name, "data \\x09[31m");
    let choose = |name: &str| {
        let with = OpenWith { disk: Some(name.to_owned()), parts: Vec::new() };
        Container::open_with(MemDisk::from_bytes(&image), Format::Xva, &with, &limits())
    };
    for name in ["root", "0", "xvda", "Ref:11", &uuid(1), &uuid(1).to_ascii_uppercase()] {
        assert_reads(&choose(name).unwrap(), &kit.bytes, name);
    }
    assert_reads(&choose("xvdb").unwrap(), &other, "the other one");
    let unknown = choose("xvdc").err().unwrap();
    assert!(unknown.class() == Class::Usage && unknown.to_string().contains("'root'"), "{unknown}");
    let with = OpenWith { disk: Some("x".to_owned()), parts: Vec::new() };
    let raw = Container::open_with(file(&kit.convert(Format::Vdi, "")), Format::Vdi, &with, &limits());
    assert_eq!(raw.err().unwrap().class(), Class::Usage);
}

#[test]
fn what_is_damaged_or_missing_is_told() {
    let kit = Kit::new();
    let dir = kit.dir.path();
    let ova = ova(&[Disk { folder: "Ref:10", name: "root", number: "0", len: kit.bytes.len() }]);
    let names = chunks(dir, "Ref:10", &kit.bytes, Sums::Sha1);
    let image = archive(dir, &ova, &names);
    let second = 512 + ova.len().next_multiple_of(512) + 512 + MIB + 1024;
    let told = complaint(&patched(&image, second + 600, &[0xee]), Format::Xva);
    assert!(told.contains("its checksum is"), "{told}");
    assert!(complaint(&patched(&image, second + 30, &[0xee]), Format::Xva).contains("tar header"));
    // Cut off anywhere, and at the end of a member.
    for len in [second + 100, second + 512 + 1000, second, second + 512 + MIB] {
        let told = complaint(&image[..len], Format::Xva);
        assert!(told.contains("cut off"), "{len}: {told}");
    }
    let lost: Vec<_> = names[..names.len() - 2].to_vec();
    let told = complaint(&archive(dir, &ova, &lost), Format::Xva);
    assert!(told.contains("not in the archive, and read as zero"), "{told}");
    let swapped = [&names[2..4], &names[..2], &names[4..]].concat();
    let told = complaint(&archive(dir, &ova, &swapped), Format::Xva);
    assert!(told.contains("comes behind"), "{told}");
    assert!(complaint(&archive(dir, &ova, &[]), Format::Xva).contains("no data of Ref:10"));
    let small = ova.replace(&kit.bytes.len().to_string(), "1048576");
    assert!(complaint(&archive(dir, &small, &names), Format::Xva).contains("ends behind the disk"));
    for (old, new, part) in [
        ("<name>objects</name>", "<name>things</name>", "no objects"),
        (kit.bytes.len().to_string().as_str(), "-1", "has no size"),
        ("<?xml", "xml", "ova.xml"),
        ("Ref:10", "Ref:11", "no data of Ref:11"),
    ] {
        let told = complaint(&archive(dir, &ova.replace(old, new), &names), Format::Xva);
        assert!(told.contains(part), "{new}: {told}");
    }
    std::fs::write(dir.join("other"), "x").unwrap();
    run("tar", ["-cf", dir.join("o.tar").to_str().unwrap(), "-C", dir.to_str().unwrap(), "other"]);
    let told = complaint(&std::fs::read(dir.join("o.tar")).unwrap(), Format::Xva);
    assert!(told.contains("not ova.xml"), "{told}");
}

/// As tar itself would: other members, folders, names with `./` in front and members in between change nothing.
#[test]
fn other_members_are_passed_over() {
    let kit = Kit::new();
    let dir = kit.dir.path();
    let ova = ova(&[Disk { folder: "Ref:10", name: "root", number: "0", len: kit.bytes.len() }]);
    let mut names = chunks(dir, "Ref:10", &kit.bytes, Sums::Sha1);
    std::fs::create_dir(dir.join("empty")).unwrap();
    std::fs::write(dir.join("Ref:100"), "no folder").unwrap();
    names.splice(4..4, ["empty".to_owned(), "Ref:100".to_owned()]);
    let names: Vec<_> = names.iter().map(|name| format!("./{name}")).collect();
    let image = archive(dir, &ova, &names);
    assert_reads(&open_bytes(&image, Format::Xva).unwrap(), &kit.bytes, "other members");
}

#[test]
fn a_hundred_thousand_members_are_gone_through_soon() {
    let kit = Kit::new();
    let dir = kit.dir.path();
    let ova = ova(&[Disk { folder: "Ref:10", name: "root", number: "0", len: 512 }]);
    let image = archive(dir, &ova, &chunk(dir, "Ref:10", 0, &[1; 512], Sums::None));
    let start = 512 + ova.len().next_multiple_of(512);
    let member = image[start..start + 1024].to_vec();
    let mut bomb = image[..start].to_vec();
    for number in 0..100_000 {
        let mut header = member[..512].to_vec();
        header[..15].copy_from_slice(format!("Ref:10/{number:08}").as_bytes());
        header[124..136].copy_from_slice(b"00000000000\0");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bomb.extend(if number == 0 { &member[..] } else { &header[..] });
    }
    bomb.extend([0; 1024]);
    let begun = std::time::Instant::now();
    assert_reads_head(&bomb);
    assert!(begun.elapsed().as_secs() < 5);
}

fn assert_reads_head(image: &[u8]) {
    let disk = open_bytes(image, Format::Xva).unwrap();
    let mut bytes = vec![0; 512];
    disk::ReadAt::read_at(&disk, ondisk::Offset::ZERO, &mut bytes).unwrap();
    assert_eq!(bytes, [1; 512]);
}
