//! Where images go besides plain files: devices, and file systems that share blocks.

use super::*;

#[test]
fn onto_a_block_device() {
    let dir = tempfile::tempdir().unwrap();
    let raw = raw(dir.path());
    let bytes = fs::read(&raw).unwrap();
    let backing = dir.path().join("device");
    fs::write(&backing, noise(8, 24 << 20)).unwrap();
    let before = fs::read(&backing).unwrap();
    let device = Loop::whole(&backing, SectorSize::B512);
    for line in ["-O raw", "-O raw -y -O vhd", "-y -O vhd --keep-chain", "-n -O vhd"] {
        let mut args = vec!["convert", text(&raw), text(device.path())];
        args.extend(line.split_whitespace());
        let want = if line.contains("-n") {
            0
        } else if line.matches("-O").count() == 2 {
            2
        } else {
            3
        };
        code(want, &args);
    }
    assert!(fs::read(device.path()).unwrap() == before, "nothing was confirmed");
    code(0, &["convert", "-y", "-q", text(&raw), text(device.path())]);
    let now = fs::read(device.path()).unwrap();
    assert!(now[..bytes.len()] == bytes && now[bytes.len()..] == before[bytes.len()..]);
    fs::write(device.path(), &before).unwrap();
    code(0, &["convert", "-y", "-q", "-O", "qcow2", text(&raw), text(device.path())]);
    assert_qemu_check(device.path(), "qcow2");
    assert!(qemu_same(&raw, "raw", device.path(), "qcow2"));
    let large = dir.path().join("large.raw");
    fs::write(&large, noise(9, (24 << 20) + 512)).unwrap();
    for format in ["raw", "qcow2", "vhd", "vhd-fixed"] {
        code(3, &["convert", "-y", "-O", format, text(&large), text(device.path())]);
    }
    assert!(qemu_same(&raw, "raw", device.path(), "qcow2"), "what does not fit changes nothing");
}

/// As XenServer's volumes hold them: the footer in the last sector of the device, wherever the blocks end.
#[test]
fn a_vhd_on_a_block_device() {
    let dir = tempfile::tempdir().unwrap();
    let raw = raw(dir.path());
    let backing = dir.path().join("device");
    for format in ["vhd", "vhd-fixed"] {
        fs::write(&backing, noise(8, 24 << 20)).unwrap();
        let device = Loop::whole(&backing, SectorSize::B512);
        code(0, &["convert", "-y", "-q", "-O", format, text(&raw), text(device.path())]);
        assert!(qemu_same(&raw, "raw", device.path(), "vpc"), "{format}");
        run("vhdiinfo", [device.path()]);
        code(0, &["check", "-f", "vhd", text(device.path())]);
        code(0, &["compare", "-f", "vhd", text(device.path()), text(&raw)]);
        drop(device);
        // The same bytes as a file have room that nobody needs.
        code(1, &["check", "-f", "vhd", text(&backing)]);
        assert!(fs::read(&backing).unwrap().ends_with(&[0; 300]));
    }
    // One sector less than needed.
    let need = (raw.metadata().unwrap().len().next_multiple_of(512) + 512).next_multiple_of(4096);
    File::options().write(true).open(&backing).unwrap().set_len(need - 4096).unwrap();
    let device = Loop::whole(&backing, SectorSize::B512);
    code(3, &["convert", "-y", "-O", "vhd-fixed", text(&raw), text(device.path())]);
}

/// Where a file system can share blocks, raw disks take no time and no space.
#[test]
fn blocks_are_shared_where_that_is_possible() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk.xfs");
    File::create(&disk).unwrap().set_len(320 << 20).unwrap();
    run("mkfs.xfs", ["-q", "-m", "reflink=1", text(&disk)]);
    let mount = Mount::read_write(&disk);
    let free = || rustix::fs::statvfs(mount.path()).map(|fs| fs.f_bfree * fs.f_frsize).unwrap();
    let source = mount.path().join("disk.raw");
    let bytes = noise(4, (40 << 20) + 300);
    fs::write(&source, &bytes).unwrap();
    run("sync", [&source]);
    let before = free();
    let [raw, fixed, back] = ["a.raw", "b.vhd", "c.raw"].map(|name| mount.path().join(name));
    convert(&source, &raw, "");
    convert(&raw, &fixed, "-O vhd-fixed");
    convert(&fixed, &back, "-f vhd -O raw");
    assert!(before - free() < 8 << 20, "{} bytes more", before - free());
    judge(&fixed, "vpc", &raw);
    let mut whole = bytes;
    whole.resize(whole.len().next_multiple_of(512), 0);
    assert!(fs::read(&raw).unwrap() == whole && fs::read(&back).unwrap() == whole);
}
