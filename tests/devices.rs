//! Block devices as images: as large as they are, and never written under somebody else.

use std::fs::File;
use std::path::Path;

use ondisk::{Len, SectorSize};
use testkit::files::Manifest;
use testkit::images::{Fill, flavor};
use testkit::oracle::{Loop, Mount, assert_clean, assert_qemu_check, assert_sgdisk_verify, qemu_convert};
use testkit::tool::said;

use crate::disks::{Scheme, content};
use crate::kit::{assert_told, document, ends, on, seen};

/// A raw disk with a GPT, in a file that has room for more behind it.
fn disk(dir: &Path, len: Len) -> std::path::PathBuf {
    let raw = dir.join("disk.raw");
    Scheme::Gpt.disk(flavor("ext4-1k"), Fill::Tree, Len::mib(48), &raw);
    File::options().write(true).open(&raw).unwrap().set_len(len.get()).unwrap();
    raw
}

/// What lies on a device grows into it; the device itself cannot, and needs a place for the journal.
#[test]
fn a_device_is_filled() {
    let dir = tempfile::tempdir().unwrap();
    let raw = disk(dir.path(), Len::mib(200));
    let journal = dir.path().join("journal");
    let files = Manifest::of(Mount::new(&raw, "ro,noload,noatime,loop,offset=1048576").path());
    let device = Loop::whole(&raw, SectorSize::B512);
    let grow = format!("grow @ max --journal {}", journal.display());
    let before = seen(&raw);
    for line in [format!("{grow} -n"), grow.replace("max", "150M -n")] {
        let code = if line.contains("max") { 0 } else { 3 };
        let out = on(device.path(), &line);
        assert_eq!(out.status.code(), Some(code), "{line}: {}", said(&out));
    }
    for line in ["grow @ max", "grow @ max -n"] {
        let out = on(device.path(), line);
        assert_told(&out, 3, device.path(), line);
        assert!(said(&out).contains("--journal"), "{}", said(&out));
    }
    for size in ["+1G", "20M", "201M"] {
        assert_told(&on(device.path(), &grow.replace("max", size)), 3, device.path(), size);
    }
    assert_eq!(seen(&raw).digest, before.digest);
    let told = document(device.path(), &grow);
    assert_eq!((&told["changed"], &told["after"]["virtual-size"]), (&true.into(), &(200_u64 << 20).into()));
    assert!(!journal.exists());
    assert_sgdisk_verify(device.path());
    ends(0, device.path(), "check @");
    assert_eq!(document(device.path(), &grow)["changed"], false, "there is nothing more to do");
    drop(device);
    let (at, len) = Scheme::Gpt.span(&raw);
    assert!(len > Len::mib(195), "{len}");
    assert_clean(&raw, at);
    files.assert_same(&Manifest::of(Mount::new(&raw, "ro,noload,noatime,loop,offset=1048576").path()));
}

/// A container on a device grows as far as its tables and the data that changes fit on the device.
#[test]
fn a_container_on_a_device() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    Scheme::Gpt.disk(flavor("ext4-1k"), Fill::Tree, Len::mib(48), &raw);
    for (room, code) in [(64 << 20, 0), (0, 3)] {
        let image = dir.path().join("disk.qcow2");
        qemu_convert(&raw, "raw", &image, "qcow2", &[]);
        let file = File::options().write(true).open(&image).unwrap();
        let len = file.metadata().unwrap().len();
        file.set_len(len + room).unwrap();
        let before = seen(&image);
        let device = Loop::whole(&image, SectorSize::B512);
        let line = format!("grow @ +1G -f qcow2 --journal {}/journal", dir.path().display());
        let planned = on(device.path(), &format!("{line} -n"));
        let out = on(device.path(), &line);
        assert_eq!(planned.status.code(), out.status.code(), "{}{}", said(&planned), said(&out));
        if code == 0 {
            assert_eq!(out.status.code(), Some(0), "{}", said(&out));
            ends(0, device.path(), "check @ -f qcow2");
        } else {
            assert_told(&out, code, device.path(), "a device that is full");
        }
        drop(device);
        if code == 0 {
            assert_qemu_check(&image, "qcow2");
            let after = dir.path().join("after.raw");
            content(&image, "qcow2", &after);
            assert_clean(&after, Scheme::Gpt.span(&after).0);
        } else {
            assert_eq!(seen(&image).digest, before.digest);
        }
    }
}

/// Mounted, part of another device, or claimed by somebody.
#[test]
fn a_device_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    Scheme::Whole.disk(flavor("ext4-1k"), Fill::Tree, Len::mib(48), &raw);
    File::options().write(true).open(&raw).unwrap().set_len(96 << 20).unwrap();
    let device = Loop::whole(&raw, SectorSize::B512);
    let refused = |by: &str| {
        let before = seen(&raw);
        for line in ["grow @ max", "grow @ max -n", "fs replay @"] {
            let line = format!("{line} --journal {}/journal", dir.path().display());
            let out = on(device.path(), &line);
            assert_told(&out, 3, device.path(), by);
            assert!(said(&out).contains("in use"), "{by}: {}", said(&out));
        }
        ends(0, device.path(), "info @");
        assert_eq!(seen(&raw).digest, before.digest, "{by}");
    };
    let mount = Mount::new(device.path(), "ro,noload");
    refused("a mount");
    drop(mount);
    let claim = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::EXCL | rustix::fs::OFlags::CLOEXEC;
    let claim = rustix::fs::open(device.path(), claim, rustix::fs::Mode::empty()).unwrap();
    refused("O_EXCL");
    drop(claim);
    let journal = dir.path().join("journal");
    ends(0, device.path(), &format!("grow @ max --journal {}", journal.display()));
    drop(device);
    assert_clean(&raw, ondisk::Offset::ZERO);
}
