//! What lies around an image: limits of the file system and of the process, folders, owners, other people, signals.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use ondisk::{Len, Offset};
use testkit::images::{Fill, flavor, make};
use testkit::oracle::{Mount, assert_clean, qemu_convert};
use testkit::tool::{copy_sparse, interruptible, output, run, said, tool};

use crate::crash::injected;
use crate::disks::{KINDS, Scheme, contain};
use crate::kit::{IMGTOOL, assert_told, beside, ends, on, seen, until_listening, words};

fn guest(dir: &Path) -> PathBuf {
    let image = dir.join("guest.raw");
    make(flavor("ext4-1k"), Len::mib(32), Fill::Tree, &image);
    image
}

/// A file system of its own, in a file.
fn small_ext4(dir: &Path, mib: u64) -> Mount {
    let image = dir.join("host.img");
    fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
    run("mke2fs", ["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", image.to_str().unwrap()]);
    Mount::new(&image, "rw,loop")
}

/// The same refusal from a dry run and from the change, and nothing is touched, not even a time.
fn refused(image: &Path, line: &str, help: &str) {
    let (before, files) = (seen(image), beside(image));
    for line in [format!("{line} -n"), line.to_owned(), format!("{line} --json")] {
        let out = on(image, &line);
        assert_told(&out, 3, image, &line);
        assert!(said(&out).contains(help), "{line}: {}", said(&out));
        assert_eq!((seen(image), beside(image)), (before.clone(), files.clone()), "{line}");
    }
}

/// Files of ext4 with blocks of 4 KiB have less than 16 TiB.
#[test]
fn longer_than_the_file_system_lets_a_file_be() {
    let dir = tempfile::tempdir().unwrap();
    let host = small_ext4(dir.path(), 200);
    let image = guest(host.path());
    refused(&image, "grow @ 20T --disk-only", "help: grow it less");
    refused(&image, "grow @ 20T --disk-only", "a file can have 17592186040320");
    ends(0, &image, "grow @ 1T --disk-only");
    assert_eq!(image.metadata().unwrap().len(), 1 << 40);
}

fn limited(image: &Path, bytes: u64, line: &str) -> Output {
    let limit = [format!("--fsize={bytes}"), IMGTOOL.to_owned()];
    output("prlimit", limit.into_iter().chain(words(image, line)))
}

#[test]
fn longer_than_the_process_may_write() {
    let dir = tempfile::tempdir().unwrap();
    let image = guest(dir.path());
    let (before, files) = (seen(&image), beside(&image));
    for (limit, line) in [(48 << 20, "grow @ +64M"), (48 << 20, "grow @ +64M -n"), (1 << 20, "grow @ +64M")] {
        let out = limited(&image, limit, line);
        assert_told(&out, 3, &image, line);
        assert!(said(&out).contains("ulimit -f"), "{}", said(&out));
        assert_eq!((seen(&image), beside(&image)), (before.clone(), files.clone()));
    }
    let out = limited(&image, 96 << 20, "grow @ +64M");
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert_clean(&image, Offset::ZERO);
}

/// On a file system whose blocks run out: the reservation finds out, before anything is written.
#[test]
fn no_space_on_ext4() {
    let dir = tempfile::tempdir().unwrap();
    let host = small_ext4(dir.path(), 120);
    let raw = dir.path().join("disk.raw");
    Scheme::Gpt.disk(flavor("ext4-1k"), Fill::Tree, Len::mib(48), &raw);
    for kind in [KINDS[0], KINDS[2], KINDS[5]] {
        let image = contain(&raw, kind, host.path());
        run("sync", ["-f", host.path().to_str().unwrap()]);
        let ballast = host.path().join("ballast");
        let stat = rustix::fs::statvfs(host.path()).unwrap();
        let room = (stat.f_bavail * stat.f_frsize).saturating_sub(300 << 10);
        run("fallocate", ["-l", &room.to_string(), ballast.to_str().unwrap()]);
        let (before, files) = (seen(&image), beside(&image));
        assert_told(&on(&image, "grow @ +40G"), 5, &image, kind.0);
        assert_eq!((seen(&image).digest, seen(&image).len), (before.digest, before.len), "{kind:?}");
        assert_eq!(beside(&image), files, "{kind:?}");
        fs::remove_file(&ballast).unwrap();
        ends(0, &image, "grow @ +64M");
        ends(0, &image, "check @");
        fs::remove_file(&image).unwrap();
    }
}

struct Bind(PathBuf);

impl Bind {
    /// Shows `from` at `to`.
    fn new(from: &Path, to: &Path) -> Self {
        run("mount", ["--bind".as_ref(), from.as_os_str(), to.as_os_str()]);
        Self(to.to_owned())
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        output("umount", [&self.0]);
    }
}

/// The image can be written, its folder cannot.
#[test]
fn a_folder_without_room_for_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let [real, locked, side] = ["real", "locked", "side"].map(|name| dir.path().join(name));
    [&real, &locked, &side].into_iter().for_each(|folder| fs::create_dir(folder).unwrap());
    let image = guest(&real);
    let _folder = Bind::new(&real, &locked);
    run("mount", ["-o", "remount,bind,ro", locked.to_str().unwrap()]);
    let seen_there = locked.join("guest.raw");
    let _file = Bind::new(&image, &seen_there);
    refused(&seen_there, "grow @ +64M", "help: let the journal lie elsewhere with --journal PATH");
    let journal = side.join("journal");
    ends(0, &seen_there, &format!("grow @ +64M -n --journal {}", journal.display()));
    ends(0, &seen_there, &format!("grow @ +64M --journal {}", journal.display()));
    assert!(!journal.exists());
    assert_clean(&image, Offset::ZERO);
}

/// Root changes an image of somebody else: what is left when the power goes is not root's.
#[test]
fn the_journal_is_whose_the_image_is() {
    for mode in [0o640, 0o600, 0o664] {
        let dir = tempfile::tempdir().unwrap();
        let image = guest(dir.path());
        chown(&image, Some(12345), Some(23456)).unwrap();
        fs::set_permissions(&image, fs::Permissions::from_mode(mode)).unwrap();
        let killed = injected(&image, "grow @ +64M", "ftruncate", "signal=KILL:when=1");
        assert!(!killed.status.success(), "{}", said(&killed));
        let journal = beside(&image).into_iter().find(|path| *path != image).unwrap();
        let theirs = journal.metadata().unwrap();
        assert_eq!((theirs.uid(), theirs.gid(), theirs.mode() & 0o7777), (12345, 23456, mode));
        // Its owner finishes it; the program and the folder are lent to him.
        chown(dir.path(), Some(12345), None).unwrap();
        let lent = dir.path().join("imgtool");
        fs::copy(IMGTOOL, &lent).unwrap();
        let as_owner = ["--reuid=12345", "--regid=23456", "--clear-groups"].map(str::to_owned);
        let line = [lent.to_str().unwrap().to_owned()].into_iter().chain(words(&image, "recover @"));
        let out = output("setpriv", as_owner.into_iter().chain(line));
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        assert!(!journal.exists());
        assert_clean(&image, Offset::ZERO);
    }
}

/// Somebody does something to the image while the change is planned.
fn meanwhile(image: &Path, line: &str, work: impl FnOnce()) -> Output {
    let mut strace = tool("strace");
    // The sandbox is entered when the image is open and nothing of it has been looked at.
    strace.args(["-f", "-o", "/dev/null", "-e", "inject=seccomp:delay_enter=2000000:when=1", IMGTOOL]);
    let child =
        strace.args(words(image, line)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1200));
    work();
    child.wait_with_output().unwrap()
}

#[test]
fn replaced_or_written_while_the_change_is_planned() {
    let dir = tempfile::tempdir().unwrap();
    let image = guest(dir.path());
    let other = tempfile::tempdir_in(dir.path()).unwrap().keep().join("new.raw");
    copy_sparse(&image, &other);
    let before = seen(&image);
    let out = meanwhile(&image, "grow @ +64M", || fs::rename(&other, &image).unwrap());
    assert_told(&out, 3, &image, "replaced");
    assert_eq!(seen(&image).digest, before.digest);
    let out = meanwhile(&image, "grow @ +64M", || {
        let file = fs::File::options().write(true).open(&image).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"x", 31 << 20).unwrap();
    });
    assert_told(&out, 3, &image, "written to");
    assert_eq!(seen(&image).len, before.len);
    ends(0, &image, "grow @ +64M");
}

/// Each file that the disk is read from is watched.
#[test]
fn a_parent_or_a_part_that_changes_makes_a_conversion_fail() {
    let dir = tempfile::tempdir().unwrap();
    let base = guest(dir.path());
    let [middle, top] = ["middle.qcow2", "top.qcow2"].map(|name| dir.path().join(name));
    for (below, format, image) in [(&base, "raw", &middle), (&middle, "qcow2", &top)] {
        let names = [below, image].map(|path| path.to_str().unwrap());
        run("qemu-img", ["create", "-q", "-f", "qcow2", "-F", format, "-b", names[0], names[1]]);
    }
    let flat = dir.path().join("flat.vmdk");
    qemu_convert(&base, "raw", &flat, "vmdk", &["subformat=monolithicFlat"]);
    let part = dir.path().join("flat-flat.vmdk");
    for (image, touched) in [(&top, None), (&top, Some(&base)), (&top, Some(&middle)), (&flat, Some(&part))] {
        let mut child =
            Command::new(IMGTOOL).args(words(image, "convert @ -")).stdout(Stdio::piped()).spawn();
        let child = child.as_mut().unwrap();
        let mut read = child.stdout.take().unwrap();
        // The pipe is full long before the disk has gone through it.
        read.read_exact(&mut [0; 1]).unwrap();
        if let Some(path) = touched {
            fs::File::options().write(true).open(path).unwrap().set_modified(UNIX_EPOCH).unwrap();
        }
        let rest = std::io::copy(&mut read, &mut std::io::sink()).unwrap();
        assert_eq!(rest + 1, 32 << 20);
        let want = if touched.is_some() { 3 } else { 0 };
        assert_eq!(child.wait().unwrap().code(), Some(want), "{touched:?}");
    }
}

fn interrupted(image: &Path, line: &str, call: &str) -> Output {
    let mut strace = tool("strace");
    let inject = format!("inject={call}:signal=INT:when=1");
    strace.args(["-f", "-o", "/dev/null", "-e", &inject, IMGTOOL]).args(words(image, line)).output().unwrap()
}

/// The operator loses patience: while it is looked at, planned, prepared, or being finished.
#[test]
fn interrupts() {
    let dir = tempfile::tempdir().unwrap();
    let whole = guest(dir.path());
    for call in ["seccomp", "fsync", "fallocate", "ftruncate", "unlinkat"] {
        let folder = tempfile::tempdir_in(dir.path()).unwrap();
        let image = folder.path().join("guest.raw");
        copy_sparse(&whole, &image);
        let before = seen(&image);
        let out = interrupted(&image, "grow @ +64M", call);
        match out.status.code() {
            // Too late to stop: then it is done.
            Some(0) => assert_eq!(seen(&image).len, 96 << 20, "{call}"),
            Some(130) => {
                assert_told(&out, 130, &image, call);
                assert_eq!((seen(&image).digest, seen(&image).len), (before.digest, before.len), "{call}");
            }
            other => panic!("{call}: {other:?} {}", said(&out)),
        }
        assert_eq!(beside(&image), std::slice::from_ref(&image), "{call}");
        ends(0, &image, "recover @");
        ends(0, &image, "check @");
    }
    // Long looks: a disk full of data.
    let long = dir.path().join("long.raw");
    run("fallocate", ["-l", "2G", long.to_str().unwrap()]);
    fs::write(dir.path().join("noise"), testkit::images::noise(1, 64 << 20)).unwrap();
    for at in 0..32 {
        testkit::images::place(&dir.path().join("noise"), &long, Offset::new(at << 26));
    }
    for line in ["digest @ -j 1", "compare @ @ -j 1"] {
        let mut command = interruptible(IMGTOOL);
        command.args(words(&long, line)).stderr(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn().unwrap();
        until_listening(&child);
        let sent = rustix::process::kill_process(
            rustix::process::Pid::from_child(&child),
            rustix::process::Signal::INT,
        );
        sent.unwrap();
        let out = child.wait_with_output().unwrap();
        assert_told(&out, 130, &long, line);
    }
}
