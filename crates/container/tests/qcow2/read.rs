//! Whatever qemu writes, we read.

use crate::kit::*;
use container::{BlockStatus, Mapped};
use disk::{Limits, ReadAt};
use ondisk::{Len, Offset, Span};
use testkit::tool::run;

fn assert_reads_as(image: &std::path::Path, expected: &[u8], what: &str) {
    let disk = open(load(image));
    assert_eq!(disk.len().get(), expected.len() as u64, "{what}");
    assert!(whole(&disk) == expected, "{what}: content differs");
    let mut random = Random(5);
    for _ in 0..200 {
        let at = random.below(expected.len() as u64);
        let len = random.below(100_000).min(expected.len() as u64 - at);
        let mut buf = vec![0xee; len as usize];
        disk.read_at(Offset::new(at), &mut buf).unwrap();
        assert!(buf == expected[at as usize..(at + len) as usize], "{what}: {at}+{len}");
    }
    let map = disk.extents(Span::whole(disk.len())).unwrap();
    let mut at = 0;
    for extent in map.iter() {
        assert_eq!(extent.span.start().get(), at, "{what}");
        at = extent.span.end().get();
        let bytes = &expected[extent.span.start().get() as usize..at as usize];
        assert!(!extent.kind.reads_zero() || bytes.iter().all(|b| *b == 0), "{what}: {extent:?}");
    }
    assert_eq!(at, expected.len() as u64, "{what}");
    assert_first_runs(&disk, what);
}

/// Run by run, however long each is, the disk is what its map says.
fn assert_first_runs(disk: &impl Mapped, what: &str) {
    let mut runs: Vec<BlockStatus> = Vec::new();
    let mut rest = Span::whole(disk.len());
    while !rest.is_empty() {
        let run = disk.first(rest).unwrap();
        assert!(run.span.start() == rest.start() && !run.span.is_empty(), "{what}: {run:?}");
        rest = Span::between(run.span.end(), rest.end()).unwrap();
        match runs.last_mut().and_then(|last| last.joined(run).map(|joined| (last, joined))) {
            Some((last, joined)) => *last = joined,
            None => runs.push(run),
        }
    }
    assert_eq!(runs, disk.status(Span::whole(disk.len())).unwrap(), "{what}");
}

#[test]
fn all_kinds_of_images() {
    let lab = Lab::new();
    for kind in KINDS {
        let image = lab.lived_in("image.qcow2", kind);
        assert_reads_as(&image, &content(&lab, &image), kind);
    }
}

#[test]
fn compressed_clusters() {
    let lab = Lab::new();
    for kind in [
        "compat=0.10",
        "compat=1.1",
        "cluster_size=512",
        "cluster_size=2M",
        "compression_type=zstd",
        "compression_type=zstd,cluster_size=4k",
        "extended_l2=on,cluster_size=16k",
        "refcount_bits=64",
    ] {
        let image = lab.compressed("image.qcow2", kind);
        assert_reads_as(&image, &content(&lab, &image), kind);
    }
}

#[test]
fn children_read_their_parents() {
    let lab = Lab::new();
    for (kind, size) in [("compat=1.1", SIZE), ("compat=0.10", SIZE * 2), ("extended_l2=on", SIZE / 2)] {
        let base = lab.lived_in("base.qcow2", "cluster_size=4k");
        let child = lab.path("child.qcow2");
        let options = format!("{kind},backing_file=base.qcow2,backing_fmt=qcow2");
        run("qemu-img", ["create", "-q", "-f", "qcow2", "-o", &options, text(&child), &size.to_string()]);
        qemu_io(
            &child,
            &["write -P 0xaa 64k 1k", "write -P 0xab 2M 200k", "write -z 0 5k", "write -z 1000k 99k"],
        );
        let mut disk = open(load(&child));
        let error = disk.read_at(Offset::new(300 << 10), &mut [0; 512]).unwrap_err();
        assert!(error.to_string().contains("base.qcow2"), "{error}");
        let parent = disk.parent_ref().unwrap();
        assert_eq!(
            (parent.names, parent.format),
            (vec!["base.qcow2".into()], Some(container::Format::Qcow2))
        );
        disk.set_parent(Box::new(open(load(&base))));
        assert!(whole(&disk) == content(&lab, &child), "{kind}");
        assert_first_runs(&disk, kind);
    }
}

/// `qemu-img map` tells the same, sector by sector.
#[test]
fn the_map_is_that_of_qemu() {
    let lab = Lab::new();
    for kind in KINDS {
        let image = lab.lived_in("image.qcow2", kind);
        let disk = open(load(&image));
        let ours = disk.status(Span::whole(disk.len())).unwrap();
        let theirs = run("qemu-img", ["map", "--output=json", "-f", "qcow2", text(&image)]);
        let number = |line: &str, key: &str| -> Option<u64> {
            let rest = line.split_once(&format!("\"{key}\": "))?.1;
            rest.split([',', '}']).next()?.trim().parse().ok()
        };
        let mut at = 0;
        for line in theirs.lines().filter(|line| line.contains("\"start\"")) {
            let (start, len) = (number(line, "start").unwrap(), number(line, "length").unwrap());
            assert_eq!(start, at, "{kind}");
            for sector in (start..start + len).step_by(512) {
                let here = Span::new(Offset::new(sector), Len::new(512)).unwrap();
                let own: &BlockStatus = ours.iter().find(|status| status.span.contains(here)).unwrap();
                assert_eq!(
                    own.present,
                    line.contains("\"present\": true"),
                    "{kind}, {sector}: {own:?} {line}"
                );
                // qemu looks for holes of the file in what is stored; the offset counts.
                if own.data && line.contains("\"data\": true") {
                    let place = number(line, "offset").map(|offset| offset + sector - start);
                    let own_place = own.offset.map(|o| o.get() + sector - own.span.start().get());
                    assert_eq!(own_place, place, "{kind}, {sector}: {line}");
                }
                assert!(own.data || line.contains("\"zero\": true"), "{kind}, {sector}: {own:?} {line}");
                assert!(!own.zero || line.contains("\"zero\": true"), "{kind}, {sector}: {own:?} {line}");
            }
            at = start + len;
        }
        assert_eq!(at, disk.len().get(), "{kind}");
    }
}

#[test]
fn facts_are_those_of_qemu() {
    let lab = Lab::new();
    let image = lab.lived_in("image.qcow2", "compat=1.1,lazy_refcounts=on,refcount_bits=32,cluster_size=32k");
    run("qemu-img", ["bitmap", "--add", "-g", "64k", text(&image), "changes"]);
    let facts = open(load(&image)).facts();
    assert_eq!((facts.version, facts.refcount_bits, facts.cluster_size.get()), (3, 32, 32768));
    assert!(facts.lazy_refcounts && !facts.extended_l2 && !facts.dirty && !facts.corrupt);
    let names: Vec<_> = facts.snapshots.iter().map(|s| (s.id.as_str(), s.name.as_str(), s.size)).collect();
    assert_eq!(names, [("1", "first", Some(Len::new(SIZE))), ("2", "second", Some(Len::new(SIZE)))]);
    let bitmaps: Vec<_> =
        facts.bitmaps.iter().map(|b| (b.name.as_str(), b.granularity.get(), b.auto, b.in_use)).collect();
    assert_eq!(bitmaps, [("changes", 65536, true, false)]);
}

#[test]
fn what_we_cannot_read_is_refused_by_name() {
    let lab = Lab::new();
    let refusal = |name: &str, edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(lab.path(name)).unwrap();
        edit(&mut bytes);
        let opened = container::qcow2::Qcow2::open(disk::MemDisk::from_bytes(&bytes), &Limits::default());
        opened.err().map(|error| error.to_string()).unwrap_or_default()
    };
    lab.create("plain.qcow2", "compat=1.1", SIZE);
    let unknown = refusal("plain.qcow2", &|bytes| bytes[72 + 6] |= 1);
    assert!(unknown.contains("incompatible feature bit 8"), "{unknown}");
    let dirty_named = refusal("plain.qcow2", &|bytes| {
        bytes[72 + 6] |= 1;
        // The feature table of qemu begins with its name for incompatible bit 0; give that name to bit 8.
        let table = bytes.windows(4).position(|w| w == 0x6803_f857_u32.to_be_bytes()).unwrap() + 8;
        bytes[table + 1] = 8;
    });
    assert!(dirty_named.contains("'dirty bit'"), "{dirty_named}");
    assert!(refusal("plain.qcow2", &|bytes| bytes[7] = 1).contains("version 1"));
    assert!(refusal("plain.qcow2", &|bytes| bytes[35] = 1).contains("AES"));
    assert!(refusal("plain.qcow2", &|bytes| bytes[23] = 22).contains("cluster_bits is 22"));
    assert!(refusal("plain.qcow2", &|bytes| bytes[36] = 1).contains("l1_size"));
    let data = lab.path("data.raw");
    lab.create("external.qcow2", &format!("data_file={}", text(&data)), SIZE);
    assert!(refusal("external.qcow2", &|_| ()).contains("external data file"));
}
