//! Real holders of an image: each must be found, and named where that is possible. Needs root for loop devices.
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use disk::{Image, OpenOptions};
use ondisk::{Class, Classified};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use testkit::tool::{output, run, tool};

/// A process that holds an image until it is dropped.
struct Busy(Child);

impl Busy {
    /// Starts it and waits until it has the image open.
    fn start(command: &mut Command, image: &Path) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let fds = PathBuf::from(format!("/proc/{}/fd", child.id()));
        let busy = Self(child);
        let links = || fds.read_dir().into_iter().flatten().flatten().map(|fd| fd.path().read_link());
        // qemu opens an image to probe it, closes it, and opens it again.
        let mut steady = 0;
        while steady < 30 {
            std::thread::sleep(Duration::from_millis(10));
            let open = links().any(|link| link.is_ok_and(|link| link == image));
            steady = if open { steady + 1 } else { 0 };
        }
        busy
    }

    /// Starts it and waits for its first line.
    fn ready(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the holder did not start");
        Self(child)
    }

    fn python(script: &str, image: &Path) -> Self {
        let script = format!(
            "import sys,os,mmap,fcntl,time\np=sys.argv[1]\n{script}\nprint('ready',flush=True)\ntime.sleep(60)"
        );
        Self::ready(tool("python3").args(["-c", &script]).arg(image))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn image() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    run("qemu-img", ["create", "-q", "-f", "qcow2", path.to_str().unwrap(), "64M"]);
    (dir, path)
}

fn open(path: &Path, force: bool) -> disk::Result<Image> {
    Image::open(path, &OpenOptions { write: true, force, ..OpenOptions::default() })
}

/// Refused, naming `who`; opened with force, and for reading; free again afterwards.
fn refused_while<T>(path: &Path, who: &str, holder: T) {
    let error = open(path, false).unwrap_err();
    assert_eq!(error.class(), Class::InUse, "{who}: {error}");
    assert!(error.to_string().contains(who), "{who}: {error}");
    drop(open(path, true).unwrap_or_else(|e| panic!("{who}, with force: {e}")));
    let reader = Image::open(path, &OpenOptions::default()).unwrap();
    assert!(reader.survey().in_use(), "{who}: a reader sees nothing");
    drop(reader);
    drop(holder);
    open(path, false).unwrap_or_else(|e| panic!("after {who}: {e}"));
}

#[test]
fn processes() {
    let (_dir, path) = image();
    drop(open(&path, false).unwrap());
    refused_while(&path, "python3", Busy::python("f=open(p,'r+b')", &path));
    refused_while(&path, "python3", Busy::python("f=open(p,'rb')", &path));
    let mapped = "f=open(p,'r+b'); m=mmap.mmap(f.fileno(),4096); f.close()";
    refused_while(&path, "python3", Busy::python(mapped, &path));
    let linked = "os.link(p,p+'.link'); f=open(p+'.link','r+b'); os.unlink(p+'.link')";
    refused_while(&path, "python3", Busy::python(linked, &path));
    refused_while(&path, "python3", Busy::python("f=open(p,'r+b'); fcntl.lockf(f,fcntl.LOCK_EX)", &path));
    let mut flock = tool("flock");
    let flock = flock.arg("--no-fork").arg(&path).args(["sleep", "60"]);
    // It becomes the program that it starts, which inherits the open file.
    refused_while(&path, "sleep (pid", Busy::start(flock, &path));
}

#[test]
fn qemu() {
    let (dir, path) = image();
    // Without a command it waits for one.
    refused_while(&path, "qemu-io", Busy::start(tool("qemu-io").arg(&path), &path));
    refused_while(&path, "qemu-io", Busy::start(tool("qemu-io").arg("-r").arg(&path), &path));
    let socket = dir.path().join("nbd");
    let mut nbd = tool("qemu-nbd");
    let nbd = nbd.args(["--persistent", "-f", "qcow2", "-k"]).arg(&socket).arg(&path);
    refused_while(&path, "qemu-nbd", Busy::start(nbd, &path));
}

#[test]
fn qemu_keeps_away_from_ours() {
    let (_dir, path) = image();
    let info = || output("qemu-img", ["info", path.to_str().unwrap()]).status.success();
    let resize = || output("qemu-img", ["resize", path.to_str().unwrap(), "+1M"]).status.success();
    let ours = open(&path, false).unwrap();
    assert!(!info() && !resize(), "qemu-img must refuse while we write");
    drop(ours);
    assert!(info() && resize());
    let ours = Image::open(&path, &OpenOptions::default()).unwrap();
    assert!(info(), "reading beside a reader");
    assert!(!resize(), "qemu-img must not resize while we read");
    drop(ours);
    assert!(resize());
}

#[test]
fn two_of_us() {
    let (_dir, path) = image();
    let ours = open(&path, false).unwrap();
    assert_eq!(open(&path, false).unwrap_err().class(), Class::InUse);
    drop(ours);
    let reader = Image::open(&path, &OpenOptions::default()).unwrap();
    assert_eq!(open(&path, false).unwrap_err().class(), Class::InUse);
    drop(Image::open(&path, &OpenOptions::default()).unwrap());
    drop(reader);
    open(&path, false).unwrap();
}

/// A plan takes time, and keeps nobody waiting: who has come when it is to be carried out, is found then.
#[test]
fn opened_between_plan_and_commit() {
    let (_dir, path) = image();
    let before = std::fs::read(&path).unwrap();
    let mut ours = open(&path, false).unwrap();
    let holder = Busy::python("f=open(p,'rb')", &path);
    let mut overlay = disk::Overlay::new(&ours, &disk::Limits::default());
    disk::Disk::write_at(&mut overlay, ondisk::Offset::ZERO, b"changed").unwrap();
    let change = overlay.into_change().unwrap();
    let mut commit = || {
        let cancel = disk::Cancel::new();
        ours.commit(&change, &disk::CommitOptions::default(), &testkit::sim::cx(&cancel))
    };
    let error = commit().unwrap_err();
    assert_eq!(error.class(), Class::InUse, "{error}");
    assert!(error.to_string().contains("python3"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    drop(holder);
    commit().unwrap();
    assert!(std::fs::read(&path).unwrap().starts_with(b"changed"));
}

/// A loop device that is detached when it is dropped.
struct Loop(String);

impl Loop {
    fn of(path: &Path) -> Self {
        Self(run("losetup", ["--find", "--show", path.to_str().unwrap()]).trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        run("losetup", ["--detach", &self.0]);
    }
}

struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        run("umount", [&self.0]);
    }
}

#[test]
fn loop_devices_and_mounts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fs.img");
    std::fs::File::create(&path).unwrap().set_len(8 << 20).unwrap();
    run("mke2fs", ["-q", "-F", path.to_str().unwrap()]);
    let device = Loop::of(&path);
    let name = device.0.clone();
    assert_eq!(open(Path::new(&name), false).unwrap().kind(), disk::DevKind::Block);
    let mount = dir.path().join("mnt");
    std::fs::create_dir(&mount).unwrap();
    run("mount", [name.as_ref(), mount.as_os_str()]);
    let mounted = Mount(mount);
    let error = open(Path::new(&name), false).unwrap_err();
    assert_eq!(error.class(), Class::InUse, "{error}");
    assert!(Image::open(Path::new(&name), &OpenOptions::default()).unwrap().survey().in_use());
    drop(mounted);
    drop(open(Path::new(&name), false).unwrap());
    refused_while(Path::new(&name), "python3", Busy::python("f=open(p,'r+b')", Path::new(&name)));
    let upper = Loop::of(Path::new(&name));
    let upper_name = upper.0.clone();
    refused_while(Path::new(&name), &upper_name, upper);
    refused_while(&path, &name, device);
}

#[test]
fn neither_file_nor_device() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    run("mkfifo", [&fifo]);
    for path in [fifo.as_path(), dir.path(), Path::new("/dev/null")] {
        let error = Image::open(path, &OpenOptions::default()).unwrap_err();
        assert_eq!(error.class(), Class::Unsupported, "{path:?}: {error}");
    }
    let missing = Image::open(&dir.path().join("missing"), &OpenOptions::default()).unwrap_err();
    assert_eq!(missing.class(), Class::Io);
}
