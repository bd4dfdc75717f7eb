//! An image that somebody holds is not written, whoever it is and however he holds it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ondisk::{Len, SectorSize};
use testkit::images::{Fill, flavor, make};
use testkit::oracle::{Loop, Mount};
use testkit::tool::{copy_sparse, tool};

use crate::kit::{IMGTOOL, assert_told, beside, ends, on, seen};

fn image(dir: &Path) -> std::path::PathBuf {
    let image = dir.join("held.raw");
    make(flavor("ext4-1k"), Len::mib(32), Fill::Tree, &image);
    image
}

fn assert_held(image: &Path, by: &str) {
    let (before, files) = (seen(image), beside(image));
    for line in ["grow @ +64M", "grow @ +64M --json", "grow @ +64M -n", "fs replay @"] {
        let out = on(image, line);
        assert_told(&out, 3, image, line);
        assert!(String::from_utf8_lossy(&out.stderr).contains("in use"), "{by}: {line}");
    }
    for line in ["info @", "digest @", "fs ls @ /"] {
        ends(0, image, line);
    }
    assert_eq!(seen(image), before, "{by}");
    assert_eq!(beside(image), files, "{by}");
}

/// A process of another program that is killed with the value.
struct Holder(Child);

impl Holder {
    /// Waits for a line from the child, which says that it holds the image.
    fn new(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut byte = [0];
        child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
        Self(child)
    }

    fn shell(script: &str, image: &Path) -> Self {
        Self::new(Command::new("sh").args(["-c", script, "sh"]).arg(image))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn held_by_descriptors_locks_devices_and_mounts() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path());
    for (by, script) in [
        ("a reader", "exec 9< \"$1\"; echo; read end"),
        ("a writer", "exec 9<> \"$1\"; echo; read end"),
        ("flock", "exec 9< \"$1\"; flock -x 9; echo; read end"),
        ("flock -s", "exec 9< \"$1\"; flock -s 9; echo; read end"),
    ] {
        let holder = Holder::shell(script, &image);
        assert_held(&image, by);
        drop(holder);
    }
    let device = Loop::whole(&image, SectorSize::B512);
    assert_held(&image, "a loop device");
    drop(device);
    let mount = Mount::new(&image, "ro,noload,loop");
    assert_held(&image, "a mount");
    drop(mount);
    ends(0, &image, "grow @ +64M");
}

/// qemu's own locks, on the image and below a qcow2 overlay.
#[test]
fn held_by_qemu() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path());
    let qcow2 = dir.path().join("held.qcow2");
    testkit::oracle::qemu_convert(&image, "raw", &qcow2, "qcow2", &[]);
    for (file, format) in [(&image, "raw"), (&qcow2, "qcow2")] {
        let mut qemu = tool("qemu-io");
        let mut holder = Holder::new(qemu.args(["-f", format]).arg(file));
        holder.0.stdin.as_mut().unwrap().write_all(b"read 0 512\n").unwrap();
        assert_held(file, "qemu-io");
        drop(holder);
        ends(0, file, "grow @ +64M");
    }
}

/// While we hold it, nobody starts with it, and `--force` says what it skips.
#[test]
fn force_is_told_and_locks_are_ours() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path());
    let holder = File::open(&image).unwrap();
    let out = on(&image, "grow @ +64M --force");
    assert_eq!(out.status.code(), Some(0), "{}", testkit::tool::said(&out));
    drop(holder);
    let copy = dir.path().join("copy.raw");
    copy_sparse(&image, &copy);
    testkit::oracle::assert_clean(&copy, ondisk::Offset::ZERO);
}

/// Somebody whom the caller may not look into: only the kernel's lease tells of him.
#[test]
fn held_by_another_user() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path());
    let nobody = 65534;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    chown(dir.path(), Some(nobody), Some(nobody)).unwrap();
    chown(&image, Some(nobody), Some(nobody)).unwrap();
    let program = dir.path().join("imgtool");
    std::fs::copy(IMGTOOL, &program).unwrap();
    let grow = || Command::new(&program).arg("grow").arg(&image).arg("+64M").uid(nobody).gid(nobody).output();
    let before = seen(&image);
    let holder = Holder::shell("exec 9< \"$1\"; echo; read end", &image);
    let out = grow().unwrap();
    assert_told(&out, 3, &image, "held by root");
    assert!(testkit::tool::said(&out).contains("cannot be seen"), "{}", testkit::tool::said(&out));
    assert_eq!(seen(&image), before);
    drop(holder);
    let out = grow().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", testkit::tool::said(&out));
    testkit::oracle::assert_clean(&image, ondisk::Offset::ZERO);
}

/// Who opens the image while it is written waits until it is whole, and does not stop the writer.
#[test]
fn newcomers_wait() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path());
    let slow = ["-f", "-qq", "-o", "/dev/null", "-e", "inject=fsync:delay_enter=1000000"];
    let mut writer =
        tool("strace").args(slow).arg(IMGTOOL).arg("grow").arg(&image).arg("+64M").spawn().unwrap();
    let journal = dir.path().join("held.raw.imgtool-journal");
    while !journal.exists() {
        assert!(writer.try_wait().unwrap().is_none(), "the change went by unseen");
        std::thread::sleep(Duration::from_millis(5));
    }
    let seen = File::open(&image).unwrap();
    assert!(!journal.exists(), "opened in the middle of the change");
    assert_eq!(seen.metadata().unwrap().len(), 96 << 20);
    assert!(writer.wait().unwrap().success());
    testkit::oracle::assert_clean(&image, ondisk::Offset::ZERO);
}
