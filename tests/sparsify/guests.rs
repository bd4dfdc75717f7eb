//! What guests leave: who of them is believed about what is free, and who is not.

use super::*;

/// Extents that nobody has, and filesystems in volumes of several runs.
#[test]
fn volume_groups() {
    let dir = tempfile::tempdir().unwrap();
    let image = crate::groups::disk(dir.path());
    let expected = dir.path().join("expected");
    let [partition] = partitions(&image, ondisk::SectorSize::B512).try_into().unwrap();
    let pv = Span::new(partition.start, partition.len).unwrap();
    let used = extents(&image, pv);
    let volumes: Vec<Span> = used.iter().map(|one| one.span).collect();
    let end = volumes.iter().map(|span| span.end()).max().unwrap();
    let mut free: SpanSet = Span::between(end, Offset::new(end.get() + (20 << 20))).into_iter().collect();
    patch(&image, end.get(), &noise(3, 20 << 20));
    for one in used.iter().filter(|one| one.volume != "swap") {
        free.extend(scribble(&image, one.span.start()).iter());
    }
    hollow(&image, &free, &expected);
    let told = document(&image, "sparsify @");
    assert_eq!(told["notes"].as_array().unwrap().len(), 0, "{told}");
    assert_equal(&image, &expected, "what was free");
    for one in used.iter().filter(|one| one.volume != "swap") {
        assert_clean(&image, one.span.start());
    }
    let devices = [Loop::span(&image, pv.start(), pv.len())];
    testkit::lvm::Lvm::on(&devices).assert_clean("vg-0");
}

/// Swap is empty, unless a system sleeps in it: then nobody knows what else it remembers.
#[test]
fn swap() {
    let disk = Disk::new("ext4-1k");
    let image = disk.path("image.raw");
    let script = "start=104448, size=20480, type=swap\n";
    copy_sparse(&disk.raw, &image);
    File::options().write(true).open(&image).unwrap().set_len(80 << 20).unwrap();
    run("sgdisk", ["-e".as_ref(), image.as_os_str()]);
    let mut sfdisk = testkit::tool::tool("sh");
    let line = format!("printf '{script}' | sfdisk -q -a {}", image.display());
    testkit::tool::done(sfdisk.arg("-c").arg(line));
    let at = 104_448 * 512;
    run("mkswap", [Loop::span(&image, Offset::new(at), Len::mib(10)).path()]);
    patch(&image, at + (1 << 20), &noise(9, 5 << 20));
    let asleep = disk.path("asleep.raw");
    copy_sparse(&image, &asleep);
    patch(&asleep, at + 4086, b"S1SUSPEND\0");
    let before = seen(&asleep).digest;
    let told = document(&asleep, "sparsify @");
    assert!(told["notes"][0].as_str().unwrap().contains("hibernated"), "{told}");
    assert_eq!(seen(&asleep).digest, before);
    let head = |path: &Path| {
        let mut bytes = vec![0; 64 << 10];
        File::open(path).unwrap().read_exact_at(&mut bytes, at).unwrap();
        bytes
    };
    let was = head(&image);
    ends(0, &image, "sparsify @");
    assert_eq!(head(&image), was);
    let mut bytes = vec![0; 5 << 20];
    File::open(&image).unwrap().read_exact_at(&mut bytes, at + (1 << 20)).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0));
}

/// A guest that was switched off: its journal is heeded, and its orphans find all that they need.
#[test]
fn a_dirty_journal() {
    for name in ["ext4-4k", "ext3-1k", "ext4-orphan-file"] {
        let dir = tempfile::tempdir().unwrap();
        let [image, twin] = ["image.raw", "twin.raw"].map(|name| dir.path().join(name));
        make(flavor(name), Len::mib(64), Fill::Lived, &image);
        stop_while_mounted(&image, Stop::Committed, |root| {
            let mut kept = Vec::new();
            for i in 0..12 {
                let path = root.join(format!("big{i}"));
                // In many pieces: the map of a file takes blocks of its own.
                let file = File::create(&path).unwrap();
                for at in 0..60_u64 {
                    file.write_all_at(&noise(at, 4096), at * 12288).unwrap();
                }
                file.sync_all().unwrap();
                kept.push(File::open(&path).unwrap());
                std::fs::remove_file(&path).unwrap();
                if i % 3 > 0 {
                    kept.pop();
                }
            }
            kept
        });
        copy_sparse(&image, &twin);
        assert_eq!(document(&image, "sparsify @")["changed"], true, "{name}");
        for path in [&image, &twin] {
            recover(path);
            assert_clean(path, Offset::ZERO);
        }
        let manifest = |path: &Path| Manifest::of(Mount::read_only(path).path());
        manifest(&twin).assert_same(&manifest(&image));
    }
}

/// Damage: what the filesystem says is not believed.
#[test]
fn a_damaged_filesystem_gives_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image.raw");
    make(flavor("ext4-1k"), Len::mib(64), Fill::Tree, &image);
    scribble(&image, Offset::ZERO);
    let _ = debugfs(&image, Offset::ZERO, true, "clri /big");
    let before = seen(&image);
    let told = document(&image, "sparsify @");
    assert!(told["notes"][0].as_str().unwrap().contains("damaged"), "{told}");
    assert_eq!(seen(&image).digest, before.digest);
    // The same where it is only marked so.
    make(flavor("ext4-1k"), Len::mib(64), Fill::Tree, &image);
    scribble(&image, Offset::ZERO);
    let _ = debugfs(&image, Offset::ZERO, true, "ssv state 2");
    let before = seen(&image);
    assert!(document(&image, "sparsify @")["notes"][0].is_string());
    assert_eq!(seen(&image).digest, before.digest);
}

/// A partition table with two owners of the same bytes.
#[test]
fn partitions_that_overlap_give_nothing() {
    let disk = Disk::new("ext4-1k");
    let image = disk.path("image.raw");
    let bytes = std::fs::read(&disk.raw).unwrap();
    std::fs::write(&image, &bytes).unwrap();
    // The same filesystem behind a table of another kind: two partitions in one place.
    let entry = |start: u32, len: u32| {
        let mut entry = [0_u8; 16];
        entry[4] = 0x83;
        entry[8..12].copy_from_slice(&start.to_le_bytes());
        entry[12..].copy_from_slice(&len.to_le_bytes());
        entry
    };
    patch(&image, 446, &[entry(2048, 98304), entry(4096, 8192), [0; 16], [0; 16]].concat());
    patch(&image, 512, &[0; 512]);
    let len = image.metadata().unwrap().len();
    patch(&image, len - 512, &[0; 512]);
    let before = seen(&image).digest;
    let told = document(&image, "sparsify @");
    assert!(told["notes"][0].as_str().unwrap().contains("partition table"), "{told}");
    assert_eq!(seen(&image).digest, before);
}
