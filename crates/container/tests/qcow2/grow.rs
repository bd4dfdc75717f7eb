//! Growing: the content stays, the new range is zero, qemu finds nothing wrong.

use crate::kit::*;
use container::qcow2::GrowPlan;
use disk::{Disk, Limits, MemDisk, Overlay, ReadAt};
use ondisk::{Len, Offset, Span};
use std::path::Path;
use testkit::tool::run;

fn grow(lab: &Lab, image: &Path, plan: GrowPlan) {
    let base = load(image);
    let mut overlay = Overlay::new(&base, &Limits::default());
    plan.apply(&mut overlay).unwrap();
    commit(lab, image, &overlay.into_change().unwrap());
}

fn virtual_size(image: &Path) -> u64 {
    let info = run("qemu-img", ["info", "--output=json", text(image)]);
    // Newer versions tell of the file before they tell of the disk in it.
    let rest = info.rsplit_once("\"virtual-size\": ").unwrap().1;
    rest.split(',').next().unwrap().trim().parse().unwrap()
}

fn assert_grown(lab: &Lab, image: &Path, old: &[u8], to: u64, what: &str) {
    assert_clean(image, what);
    assert_eq!(virtual_size(image), to, "{what}");
    let disk = open(load(image));
    assert_eq!(disk.len().get(), to);
    assert!(disk.check().unwrap().is_clean());
    let raw = lab.path("expected.raw");
    std::fs::write(&raw, old).unwrap();
    std::fs::OpenOptions::new().write(true).open(&raw).unwrap().set_len(to).unwrap();
    run("qemu-img", ["compare", "-f", "qcow2", "-F", "raw", text(image), text(&raw)]);
}

#[test]
fn all_kinds_at_many_sizes() {
    let lab = Lab::new();
    for kind in KINDS {
        let image = lab.lived_in("image.qcow2", kind);
        if kind.contains("0.10") {
            let error = open(load(&image)).plan_grow(Len::gib(1)).unwrap_err();
            assert!(error.to_string().contains("snapshots"), "{error}");
            run("qemu-img", ["snapshot", "-d", "first", text(&image)]);
            run("qemu-img", ["snapshot", "-d", "second", text(&image)]);
        }
        let old = content(&lab, &image);
        for to in [SIZE + 512, SIZE + 70_000 * 512, 300 << 20, 1 << 30] {
            let plan = open(load(&image)).plan_grow(Len::new(to)).unwrap();
            assert_eq!(plan.new_len().get(), to);
            assert!(!plan.sentences().is_empty());
            grow(&lab, &image, plan);
            assert_grown(&lab, &image, &old, to, &format!("{kind}, {to}"));
        }
        change(&lab, &image, |disk| disk.write_at(Offset::new((1 << 30) - 5), b"final").unwrap());
        assert_clean(&image, kind);
    }
}

#[test]
fn snapshots_keep_their_content_and_size() {
    let lab = Lab::new();
    let image = lab.lived_in("image.qcow2", "cluster_size=4k");
    let old = ["first", "second"].map(|name| snapshot_content(&lab, &image, name));
    let plan = open(load(&image)).plan_grow(Len::mib(64)).unwrap();
    grow(&lab, &image, plan);
    assert_clean(&image, "grown");
    for (old, name) in old.iter().zip(["first", "second"]) {
        // qemu reads a snapshot up to the size that the disk has now.
        let now = snapshot_content(&lab, &image, name);
        assert!(now[..old.len()] == *old && now[old.len()..].iter().all(|b| *b == 0), "{name}");
    }
    let sizes: Vec<_> = open(load(&image)).facts().snapshots.iter().map(|s| s.size).collect();
    assert_eq!(sizes, [Some(Len::new(SIZE)); 2]);
}

#[test]
fn very_large_disks() {
    let lab = Lab::new();
    for (kind, to) in [
        ("compat=1.1", 1_u64 << 50),
        ("cluster_size=2M", (1 << 62) - (1 << 30)),
        ("cluster_size=512", 100 << 30),
    ] {
        let image = lab.create("image.qcow2", kind, SIZE);
        qemu_io(&image, &["write -P 1 0 1M"]);
        match open(load(&image)).plan_grow(Len::new(to)) {
            Ok(plan) => {
                grow_unread(&image, plan);
                assert_clean(&image, kind);
                assert_eq!(virtual_size(&image), to, "{kind}");
            }
            Err(error) => {
                assert!(kind.contains("2M") || error.to_string().contains("can hold"), "{kind}: {error}")
            }
        }
    }
    let image = lab.create("image.qcow2", "cluster_size=512", SIZE);
    let error = open(load(&image)).plan_grow(Len::gib(129)).unwrap_err().to_string();
    assert!(error.contains("can hold"), "{error}");
}

fn grow_unread(image: &Path, plan: GrowPlan) {
    let mut file = load(image);
    plan.apply(&mut file).unwrap();
    std::fs::write(image, file.to_vec()).unwrap();
}

/// The parent is larger than its child: its bytes must not appear in the new range.
#[test]
fn the_parent_does_not_show() {
    let lab = Lab::new();
    let base = lab.create("base.qcow2", "compat=1.1", 16 << 20);
    qemu_io(&base, &["write -P 0xbb 0 16M"]);
    for kind in ["compat=1.1", "compat=0.10", "extended_l2=on", "cluster_size=512"] {
        let child = lab.path("child.qcow2");
        let options = format!("{kind},backing_file=base.qcow2,backing_fmt=qcow2");
        run("qemu-img", ["create", "-q", "-f", "qcow2", "-o", &options, text(&child), &SIZE.to_string()]);
        qemu_io(&child, &["write -P 0xcc 2M 1M"]);
        let old = content(&lab, &child);
        let mut disk = open(load(&child));
        assert!(disk.plan_grow(Len::mib(64)).is_err(), "without the parent nobody knows");
        disk.set_parent(Box::new(open(load(&base))));
        for to in [SIZE + 512, 7 << 20, 64 << 20] {
            let mut disk = open(load(&child));
            disk.set_parent(Box::new(open(load(&base))));
            let plan = disk.plan_grow(Len::new(to)).unwrap();
            grow(&lab, &child, plan);
            assert_clean(&child, kind);
            let now = content(&lab, &child);
            assert!(now[..old.len()] == old && now[old.len()..].iter().all(|b| *b == 0), "{kind}, {to}");
            assert_eq!(now.len() as u64, to);
        }
    }
}

/// Bytes that an earlier, larger disk has left in the last cluster and behind do not come back.
#[test]
fn leftovers_do_not_come_back() {
    let lab = Lab::new();
    let image = lab.create("image.qcow2", "compat=1.1", 4 << 20);
    qemu_io(&image, &["write -P 0xdd 0 4M"]);
    let mut bytes = std::fs::read(&image).unwrap();
    bytes[24..32].copy_from_slice(&((1_u64 << 20) + 512).to_be_bytes());
    std::fs::write(&image, &bytes).unwrap();
    let old = content(&lab, &image);
    let plan = open(load(&image)).plan_grow(Len::mib(8)).unwrap();
    grow(&lab, &image, plan);
    assert_grown(&lab, &image, &old, 8 << 20, "leftovers");
}

#[test]
fn nothing_to_do_and_impossible_wishes() {
    let lab = Lab::new();
    let image = lab.lived_in("image.qcow2", "compat=1.1");
    let disk = open(load(&image));
    let plan = disk.plan_grow(Len::new(SIZE)).unwrap();
    assert!(plan.is_empty() && plan.sentences().is_empty());
    assert!(disk.plan_grow(Len::new(SIZE - 512)).is_err());
    assert_eq!(disk.plan_grow(Len::new(SIZE + 1)).unwrap().new_len().get(), SIZE + 512);
    assert_eq!(disk.plan_grow(Len::gib(3)).unwrap(), disk.plan_grow(Len::gib(3)).unwrap());
}

/// A device does not become longer; the free clusters behind the image are taken, stale bytes in them do not show.
#[test]
fn on_a_device_full_of_old_bytes() {
    let lab = Lab::new();
    let image = lab.create("image.qcow2", "cluster_size=4k", 1 << 20);
    qemu_io(&image, &["write -P 9 0 300k"]);
    let old = content(&lab, &image);
    let mut bytes = std::fs::read(&image).unwrap();
    bytes.resize(bytes.len().next_multiple_of(4096), 0);
    bytes.resize(16 << 20, 0xee);
    let mut device = MemDisk::from_bytes(&bytes);
    let plan = open(&device).plan_grow(Len::gib(50)).unwrap();
    plan.apply(&mut device).unwrap();
    assert_eq!(device.len().get(), 16 << 20);
    let mut disk = open(device);
    disk.write_at(Offset::new(20 << 30), b"x").unwrap();
    let mut buf = vec![0; 4096];
    disk.read_at(Offset::new(20 << 30), &mut buf).unwrap();
    assert!(buf[0] == b'x' && buf[1..].iter().all(|b| *b == 0));
    assert!(
        disk.extents(Span::between(Offset::new(1 << 20), Offset::new(20 << 30)).unwrap()).unwrap().all_zero()
    );
    std::fs::write(&image, disk.into_file().to_vec()).unwrap();
    assert_clean(&image, "device");
    let mut head = vec![0; old.len()];
    open(load(&image)).read_at(Offset::ZERO, &mut head).unwrap();
    assert!(head == old);
}
