//! Killed at every system call that writes, failing at every one, and out of space: before or after, nothing else.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ondisk::{Len, Offset};
use testkit::images::{Fill, flavor};
use testkit::oracle::{assert_clean, assert_qemu_check, qemu_convert};
use testkit::tool::{copy_sparse, output, run, said};

use crate::disks::{KINDS, Scheme, contain};
use crate::kit::{IMGTOOL, beside, each, ends, on, seen, words};

/// The system calls by which the program changes anything.
pub const CALLS: [&str; 6] = ["pwrite64", "fsync", "fdatasync", "ftruncate", "fallocate", "unlink,unlinkat"];

/// Runs the program with something done to it at one of `calls`. No other call is written down, which takes time. (With
/// `--seccomp-bpf` none would be stopped at either, but signals are not injected then.)
pub fn injected(image: &Path, line: &str, calls: &str, what: &str) -> std::process::Output {
    let log = image.parent().unwrap().join("strace");
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:{what}"));
    let options = ["-f", "-o", log.to_str().unwrap(), "-e", &trace, "-e", &inject, IMGTOOL];
    let out = output("strace", options.map(str::to_owned).into_iter().chain(words(image, line)));
    std::fs::remove_file(log).unwrap();
    out
}

pub fn count(image: &Path, line: &str, calls: &str) -> usize {
    let log = image.parent().unwrap().join("calls");
    let options = ["-f", "--seccomp-bpf", "-e", &format!("trace={calls}"), "-o", log.to_str().unwrap()]
        .map(str::to_owned);
    let out = output("strace", options.into_iter().chain([IMGTOOL.to_owned()]).chain(words(image, line)));
    assert!(out.status.success(), "{}", said(&out));
    let lines = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(log).unwrap();
    lines.lines().filter(|line| line.contains('(')).count()
}

/// Two files that differ in nothing but the time that superblocks were written (and thus their checksums), and in the
/// MiB at `apart`, if there is one.
fn same_but_times(a: &Path, b: &Path, apart: Option<u64>) -> bool {
    let [a, b] = [a, b].map(|path| std::fs::File::open(path).unwrap());
    let len = a.metadata().unwrap().len();
    if len != b.metadata().unwrap().len() {
        return false;
    }
    let mut at = 0;
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    while at < len {
        let n = usize::try_from((len - at).min(1 << 20)).unwrap();
        a.read_exact_at(&mut left[..n], at).unwrap();
        b.read_exact_at(&mut right[..n], at).unwrap();
        if left[..n] != right[..n]
            && apart != Some(at)
            && !left[..n].chunks(512).zip(right[..n].chunks(512)).all(|(a, b)| like(a, b))
        {
            return false;
        }
        at += 1 << 20;
    }
    true
}

/// The first half of a superblock but for its times, its second half but for the checksum, or equal sectors.
fn like(a: &[u8], b: &[u8]) -> bool {
    let rest = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        if bytes.len() == 512 && bytes[56..58] == [0x53, 0xef] {
            bytes[0x2c..0x34].fill(0);
        }
        if bytes.len() == 512 && bytes[0x100..0x1fc].iter().all(|byte| *byte == 0) {
            bytes[0x1fc..].fill(0);
        }
        bytes
    };
    a == b || rest(a) == rest(b)
}

struct Case {
    dir: tempfile::TempDir,
    before: PathBuf,
    after: PathBuf,
    /// Where LVM's text lies, which tells the time as well.
    apart: Option<u64>,
}

const LINE: &str = "grow @ +96M";

fn case(kind: (&str, &str, &[&str]), scheme: Scheme, name: &str) -> Case {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    scheme.disk(flavor(name), Fill::Tree, Len::mib(48), &raw);
    grown(dir, &raw, kind, None)
}

/// A volume group in a raw disk.
fn group_case() -> Case {
    let dir = tempfile::tempdir().unwrap();
    let raw = crate::groups::disk(dir.path());
    grown(dir, &raw, KINDS[0], Some(crate::groups::PV))
}

fn grown(dir: tempfile::TempDir, raw: &Path, kind: (&str, &str, &[&str]), apart: Option<u64>) -> Case {
    let before = contain(raw, kind, dir.path());
    let after = dir.path().join(format!("after.{}", kind.0));
    copy_sparse(&before, &after);
    ends(0, &after, LINE);
    Case { dir, before, after, apart }
}

impl Case {
    /// A copy in a folder of its own.
    fn copy(&self) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap();
        let image = dir.path().join(self.before.file_name().unwrap());
        copy_sparse(&self.before, &image);
        (dir, image)
    }

    fn assert_one_of_both(&self, image: &Path, what: &str) {
        let is = |other: &Path| same_but_times(image, other, self.apart);
        assert!(is(&self.before) || is(&self.after), "{what}: neither before nor after");
        assert_eq!(beside(image), [image], "{what}: something is left beside the image");
    }
}

/// At most `most` numbers from 1 to `count`, evenly.
pub fn some(count: usize, most: usize) -> Vec<usize> {
    (1..=count).step_by(count.div_ceil(most).max(1)).collect()
}

#[test]
fn killed_at_every_call() {
    let cases = [
        case(KINDS[0], Scheme::Gpt, "ext4-1k"),
        case(KINDS[2], Scheme::Mbr, "ext3-centos5"),
        case(KINDS[5], Scheme::Logical, "ext4-4k"),
        group_case(),
    ];
    each(cases.len(), |i| {
        let case = &cases[i];
        for calls in CALLS {
            let (_dir, image) = case.copy();
            for n in some(count(&image, LINE, calls), 8) {
                let (_dir, image) = case.copy();
                let kill = format!("signal=KILL:when={n}");
                let what = format!("{} {calls} {kill}", image.display());
                let out = injected(&image, LINE, calls, &kill);
                assert!(!out.status.success(), "{what}: {}", said(&out));
                let pending = beside(&image).len() > 1;
                let code = on(&image, LINE).status.code();
                if pending {
                    assert_eq!(code, Some(6), "{what}: an interrupted change is found");
                    ends(0, &image, "info @");
                    ends(0, &image, "recover @");
                    case.assert_one_of_both(&image, &what);
                } else {
                    assert_eq!(code, Some(0), "{what}: repeating it works");
                }
                ends(0, &image, "recover @");
                ends(0, &image, "check @");
            }
        }
    });
}

#[test]
fn every_call_fails_once() {
    let case = case(KINDS[2], Scheme::Gpt, "ext4-1k");
    let faults = CALLS.iter().flat_map(|calls| [(calls, "EIO"), (calls, "ENOSPC")]).collect::<Vec<_>>();
    each(faults.len(), |i| {
        let (calls, error) = faults[i];
        let (_dir, image) = case.copy();
        for n in some(count(&image, LINE, calls), 6) {
            let (_dir, image) = case.copy();
            let fault = format!("error={error}:when={n}");
            let out = injected(&image, LINE, calls, &fault);
            let inject = format!("{calls}:{fault}");
            if !out.status.success() {
                crate::kit::assert_told(&out, 5, &image, &inject);
            }
            ends(0, &image, "recover @");
            case.assert_one_of_both(&image, &inject);
        }
    });
}

/// A filesystem that is too small for what the change needs.
#[test]
fn no_space() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    Scheme::Gpt.disk(flavor("ext4-1k"), Fill::Tree, Len::mib(48), &raw);
    let small = dir.path().join("small");
    std::fs::create_dir(&small).unwrap();
    run("mount", ["-t", "tmpfs", "-o", "size=14m", "tmpfs", small.to_str().unwrap()]);
    let _unmount = Unmount(small.clone());
    for (ending, format) in [("raw", "raw"), ("qcow2", "qcow2"), ("vhd", "vpc")] {
        let image = small.join(format!("disk.{ending}"));
        if format == "raw" {
            copy_sparse(&raw, &image)
        } else {
            qemu_convert(&raw, "raw", &image, format, &[])
        }
        let (before, files) = (seen(&image), beside(&image));
        let room = run("df", ["--output=avail", "-k", small.to_str().unwrap()]);
        let room: u64 = room.lines().last().unwrap().trim().parse().unwrap();
        let ballast = small.join("ballast");
        std::fs::write(&ballast, vec![1; usize::try_from(room.saturating_sub(200) * 1024).unwrap()]).unwrap();
        let out = on(&image, "grow @ +40G");
        crate::kit::assert_told(&out, 5, &image, "no space");
        std::fs::remove_file(&ballast).unwrap();
        assert_eq!((seen(&image).digest, seen(&image).len), (before.digest, before.len), "{format}");
        assert_eq!(beside(&image), files, "{format}");
        std::fs::remove_file(&image).unwrap();
    }
}

pub struct Unmount(pub PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        output("umount", [&self.0]);
    }
}

/// What a finished change has overwritten comes back, to the byte; the journal lies where it is told to.
#[test]
fn undo_and_a_journal_elsewhere() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let [raw, side] = ["disk.raw", "side"].map(|name| dir.path().join(name));
        std::fs::create_dir(&side).unwrap();
        Scheme::Gpt.disk(flavor("ext4-1k"), Fill::Tree, Len::mib(32), &raw);
        let image = contain(&raw, kind, dir.path());
        let (before, files) = (seen(&image), beside(&image));
        let side = side.display();
        ends(0, &image, &format!("grow @ +64M --undo {side}/undo --journal {side}/journal"));
        if kind.1 == "qcow2" {
            assert_qemu_check(&image, "qcow2");
        }
        let grown = seen(&image);
        assert_ne!(grown.digest, before.digest);
        assert_eq!(beside(&image), files);
        ends(3, &image, &format!("grow @ +64M --undo {side}/undo"));
        ends(3, &image, &format!("grow @ +64M -n --undo {side}/undo"));
        assert_eq!(seen(&image), grown, "an undo file is not overwritten");
        ends(0, &image, &format!("recover @ --undo {side}/undo"));
        let back = seen(&image);
        assert_eq!((back.digest, back.len), (before.digest, before.len), "{kind:?}");
    }
}

/// Killed while the journal lies elsewhere: it is found when named, and the image is finished.
#[test]
fn a_journal_elsewhere_is_found_when_named() {
    let case = case(KINDS[0], Scheme::Whole, "ext4-1k");
    let (dir, image) = case.copy();
    let journal = dir.path().join("elsewhere");
    std::fs::create_dir(&journal).unwrap();
    let line = format!("{LINE} --journal {}/journal", journal.display());
    let calls = count(&case.copy().1, LINE, "pwrite64");
    let kill = format!("signal=KILL:when={}", calls - 1);
    assert!(!injected(&image, &line, "pwrite64", &kill).status.success());
    ends(6, &image, &line);
    ends(0, &image, &format!("recover @ --journal {}/journal", journal.display()));
    assert!(same_but_times(&image, &case.after, case.apart));
    assert_clean(&image, Offset::ZERO);
}

/// Somebody has written to the image since: recovery refuses and lists where.
#[test]
fn foreign_writes_are_not_overwritten() {
    let case = case(KINDS[0], Scheme::Whole, "ext4-1k");
    let calls = count(&case.copy().1, LINE, "pwrite64");
    let (_dir, image) = case.copy();
    let kill = format!("signal=KILL:when={}", calls - 1);
    assert!(!injected(&image, LINE, "pwrite64", &kill).status.success());
    let file = std::fs::File::options().write(true).open(&image).unwrap();
    file.write_all_at(b"a guest was started in between", 1024 + 700).unwrap();
    drop(file);
    let changed = seen(&image);
    crate::kit::assert_told(&on(&image, "recover @"), 7, &image, "foreign");
    assert_eq!(seen(&image), changed);
}
