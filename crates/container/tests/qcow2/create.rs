//! Images of our making, in qemu's eyes.

use crate::kit::*;
use container::Format;
use container::qcow2::{Backing, Compression, Create};
use disk::{Disk, MemDisk};
use ondisk::{Len, Offset};
use testkit::tool::run;

#[test]
fn all_kinds() {
    let lab = Lab::new();
    let plain = |len| Create::new(Len::new(len));
    let kinds = [
        plain(SIZE),
        plain(0),
        Create { version: 2, ..plain(SIZE) },
        Create { version: 2, cluster_bits: 9, ..plain(SIZE) },
        Create { cluster_bits: 9, refcount_order: 6, ..plain(100 << 30) },
        Create { cluster_bits: 21, refcount_order: 0, ..plain(8 << 40) },
        Create { cluster_bits: 14, extended_l2: true, lazy_refcounts: true, ..plain(SIZE) },
        Create { compression: Compression::Zstd, ..plain(SIZE) },
        Create { hidden: true, ..plain(0) },
    ];
    for kind in kinds {
        let mut file = MemDisk::new(Len::ZERO);
        kind.plan().unwrap().apply(&mut file).unwrap();
        let image = lab.path("image.qcow2");
        std::fs::write(&image, file.to_vec()).unwrap();
        assert_clean(&image, &format!("{kind:?}"));
        let facts = open(load(&image)).facts();
        assert_eq!(facts.virtual_size, kind.len);
        assert_eq!((facts.version, facts.cluster_size.get()), (kind.version, 1 << kind.cluster_bits));
        assert_eq!(facts.compression, kind.compression);
        if kind.len.get() == SIZE {
            qemu_io(&image, &["write -P 3 0 1M", "write -P 4 6M 512"]);
            change(&lab, &image, |disk| disk.write_at(Offset::new(77), b"ours").unwrap());
            assert_clean(&image, &format!("{kind:?}"));
            assert!(content(&lab, &image)[77..81] == *b"ours");
        }
    }
}

#[test]
fn a_child_states_the_format_of_its_parent() {
    let lab = Lab::new();
    let base = lab.lived_in("base.qcow2", "compat=1.1");
    for version in [2, 3] {
        let backing = Some(Backing { name: "base.qcow2".into(), format: Format::Qcow2 });
        let hidden = version == 3;
        let plan = Create { version, backing, hidden, ..Create::new(Len::new(SIZE)) }.plan().unwrap();
        let mut file = MemDisk::new(Len::ZERO);
        plan.apply(&mut file).unwrap();
        let child = lab.path("child.qcow2");
        std::fs::write(&child, file.to_vec()).unwrap();
        assert_clean(&child, "child");
        assert!(content(&lab, &child) == content(&lab, &base));
        let info = run("qemu-img", ["info", text(&child)]);
        assert!(info.contains("backing file format: qcow2"), "{info}");
        assert_eq!(open(load(&child)).facts().hidden, hidden);
        let parent = open(load(&child)).parent_ref().unwrap();
        assert_eq!((parent.names, parent.format), (vec!["base.qcow2".into()], Some(Format::Qcow2)));
    }
}

#[test]
fn a_device_full_of_old_bytes() {
    let mut device = MemDisk::from_bytes(&vec![0xee; 4 << 20]);
    Create { cluster_bits: 9, ..Create::new(Len::gib(1)) }.plan().unwrap().apply(&mut device).unwrap();
    let mut disk = open(device);
    assert!(disk.check().unwrap().is_clean());
    disk.write_at(Offset::new(1000), b"x").unwrap();
    assert!(disk.check().unwrap().is_clean());
}

#[test]
fn options_that_do_not_go_together() {
    let plain = Create::new(Len::gib(1));
    for bad in [
        Create { len: Len::new(100), ..plain.clone() },
        Create { cluster_bits: 22, ..plain.clone() },
        Create { cluster_bits: 13, extended_l2: true, ..plain.clone() },
        Create { version: 2, refcount_order: 3, ..plain.clone() },
        Create { refcount_order: 7, ..plain.clone() },
        Create { cluster_bits: 9, len: Len::gib(129), ..plain.clone() },
        Create { backing: Some(Backing { name: "x".repeat(1024), format: Format::Raw }), ..plain.clone() },
        Create {
            cluster_bits: 9,
            backing: Some(Backing { name: "x".repeat(500), format: Format::Raw }),
            ..plain
        },
    ] {
        assert!(bad.plan().is_err(), "{bad:?}");
    }
}
