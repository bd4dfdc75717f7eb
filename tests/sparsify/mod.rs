//! Giving space back: what was free reads as zero then, every other byte is as before, and the file takes no more space
//! than what is used. What is free is told by dumpe2fs and lvm2.

mod guests;

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use ondisk::{Len, Offset, Span, SpanSet};
use serde_json::Value;
use testkit::files::Manifest;
use testkit::guest::extents;
use testkit::images::{FLAVORS, Fill, flavor, make, noise};
use testkit::kernel::{Stop, recover, stop_while_mounted};
use testkit::oracle::{
    Loop, Mount, assert_clean, assert_qemu_check, debugfs, free_blocks, partitions, qemu_convert,
};
use testkit::tool::{copy_sparse, run, said};

use crate::crash::{CALLS, count, injected, some};
use crate::disks::{KINDS, Scheme, contain, content};
use crate::kit::{beside, document, each, ends, on, seen};
use crate::refused::{patch, refused};

const PIECE: u64 = 4096;

/// Writes noise into what is free, as a guest leaves it that has deleted files: at both ends of each run and in the
/// middle. Says what was free.
fn scribble(raw: &Path, at: Offset) -> SpanSet {
    let free: SpanSet = free_blocks(raw, at).into_iter().collect();
    let file = File::options().write(true).open(raw).unwrap();
    for span in free.iter() {
        let (start, len) = (span.start().get(), span.len().get());
        for part in [start, start + len / 2, (start + len).saturating_sub(64 << 10).max(start)] {
            let len = (start + len - part).min(64 << 10);
            file.write_all_at(&noise(part, usize::try_from(len).unwrap()), part).unwrap();
        }
    }
    free
}

/// What a disk must read as when its free pieces are zero and nothing else has changed.
fn hollow(raw: &Path, free: &SpanSet, to: &Path) {
    copy_sparse(raw, to);
    let file = File::options().write(true).open(to).unwrap();
    let len = file.metadata().unwrap().len();
    for span in free.iter() {
        let start = span.start().get().next_multiple_of(PIECE);
        let end = if span.end().get() == len { len } else { span.end().get() / PIECE * PIECE };
        for at in (start..end).step_by(1 << 20) {
            let n = usize::try_from((end - at).min(1 << 20)).unwrap();
            file.write_all_at(&vec![0; n], at).unwrap();
        }
    }
}

fn assert_equal(a: &Path, b: &Path, what: &str) {
    let out = testkit::tool::output("cmp", [a, b]);
    assert!(out.status.success(), "{what}: {}", said(&out));
}

fn allocated(path: &Path) -> u64 {
    path.metadata().unwrap().blocks() * 512
}

/// What is stored of a raw file that is written anew without its zeros.
fn least(raw: &Path, dir: &Path) -> u64 {
    let copy = dir.join("least");
    copy_sparse(raw, &copy);
    let least = allocated(&copy);
    std::fs::remove_file(copy).unwrap();
    least
}

/// Every flavour: exactly the free blocks become holes.
#[test]
fn exactly_what_is_free() {
    let all = FLAVORS;
    each(all.len(), |i| {
        let flavor = &all[i];
        let dir = tempfile::tempdir().unwrap();
        let [image, expected] = ["image.raw", "expected"].map(|name| dir.path().join(name));
        make(flavor, flavor.usual_len(), Fill::Lived, &image);
        let free = scribble(&image, Offset::ZERO);
        hollow(&image, &free, &expected);
        let before = allocated(&image);
        let told = document(&image, "sparsify @");
        assert_eq!(told["changed"], true, "{}: {told}", flavor.name);
        assert_eq!(told["notes"].as_array().unwrap().len(), 0, "{}: {told}", flavor.name);
        assert_equal(&image, &expected, flavor.name);
        assert_clean(&image, Offset::ZERO);
        let (now, least) = (allocated(&image), least(&expected, dir.path()));
        assert!(now < before && now <= least + (least >> 6) + (64 << 10), "{}: {now}, {least}", flavor.name);
        let after = seen(&image);
        assert_eq!(document(&image, "sparsify @ --check")["changed"], false);
        assert_eq!(seen(&image), after, "{}: repeated, it touches nothing", flavor.name);
    });
}

struct Disk {
    dir: tempfile::TempDir,
    raw: PathBuf,
    expected: PathBuf,
    free: SpanSet,
}

impl Disk {
    /// A partition with a filesystem, and noise in what is free and where no partition is.
    fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [raw, expected] = ["disk.raw", "expected"].map(|name| dir.path().join(name));
        Scheme::Gpt.disk(flavor(name), Fill::Lived, Len::mib(48), &raw);
        let (at, len) = Scheme::Gpt.span(&raw);
        let mut free = scribble(&raw, at);
        for outside in [100 << 10, at.get() + len.get() + 4096] {
            patch(&raw, outside, &noise(outside, 9000));
        }
        // A swath of the disk that a guest has emptied.
        let big = free.iter().max_by_key(|span| span.len()).unwrap();
        patch(&raw, big.start().get(), &noise(1, big.len().to_usize()));
        free.insert(big);
        hollow(&raw, &free, &expected);
        Self { dir, raw, expected, free }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A sparse qcow2 image whose filesystem is clean and has the files that it had.
    fn assert_files(&self, image: &Path) {
        let raw = self.path("now.raw");
        content(image, "qcow2", &raw);
        let (at, len) = Scheme::Gpt.span(&raw);
        assert_clean(&raw, at);
        let manifest = |raw: &Path| Manifest::of(Mount::read_only_at(raw, at, len).path());
        manifest(&self.raw).assert_same(&manifest(&raw));
    }

    /// What is in use is as before. What is free reads as zero; where blocks lie askew in their file it may be as before
    /// at the ends of each run.
    fn assert_content(&self, image: &Path, format: &str, askew: bool) {
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap();
        let [mut raw, expected, masked] = ["now", "want", "masked"].map(|name| dir.path().join(name));
        content(image, format, &raw);
        if askew {
            hollow(&raw, &self.free, &masked);
            raw = masked;
        }
        copy_sparse(&self.expected, &expected);
        // A VHD may be longer by what its geometry needs.
        let len = raw.metadata().unwrap().len();
        File::options().write(true).open(&expected).unwrap().set_len(len).unwrap();
        assert_equal(&raw, &expected, &format!("{}", image.display()));
    }
}

/// Whether blocks do not lie where pieces of the file begin.
fn is_askew(kind: (&str, &str, &[&str])) -> bool {
    kind.1 == "vpc" && kind.2 != ["subformat=fixed"]
}

/// Judges of containers that are not ours.
fn judge(image: &Path, format: &str) {
    match format {
        "qcow2" => assert_qemu_check(image, format),
        "vpc" => drop(run("vhdiinfo", [image])),
        _ => {}
    }
}

/// How long a qcow2 file is at most that has no free clusters between those in use: its data, and its tables.
fn packed(image: &Path) -> u64 {
    let said = |what: &str| -> Value {
        let text = run("qemu-img", [what, "--output=json", image.to_str().unwrap()]);
        serde_json::from_str(&text).unwrap()
    };
    let data = said("check")["allocated-clusters"].as_u64().unwrap();
    (data + data / 32 + 16) * said("info")["cluster-size"].as_u64().unwrap()
}

#[test]
fn in_every_container() {
    let disk = Disk::new("ext4-4k");
    let least = least(&disk.expected, disk.dir.path());
    let more: [(&str, &str, &[&str]); 3] = [
        ("qcow2", "qcow2", &["extended_l2=on"]),
        ("qcow2", "qcow2", &["cluster_size=2M"]),
        ("qcow2", "qcow2", &["cluster_size=1024"]),
    ];
    for kind in KINDS.into_iter().chain(more) {
        let image = contain(&disk.raw, kind, disk.dir.path());
        let before = (seen(&image), allocated(&image));
        let foreseen = document(&image, "sparsify @ -n");
        assert_eq!((seen(&image), allocated(&image)), before, "{kind:?}");
        let told = document(&image, "sparsify @ --check");
        let (now, said) = (allocated(&image), told["after"]["actual-size"].as_u64().unwrap());
        assert_eq!(now, said, "{kind:?}");
        let predicted = foreseen["after"]["actual-size"].as_u64().unwrap();
        // Clusters smaller than the pieces of a file leave more when they move together than was foreseen.
        let beyond = kind.2 == ["cluster_size=1024"] && now < predicted;
        assert!(beyond || now.abs_diff(predicted) <= 256 << 10, "{kind:?}: {now}, foreseen {predicted}");
        assert_eq!(foreseen["after"]["file-size"], told["after"]["file-size"], "{kind:?}");
        // Tables take whole clusters.
        let tables = if kind.2 == ["cluster_size=2M"] { 12 << 20 } else { 1 << 20 };
        assert!(now <= least + (least >> 5) + tables, "{kind:?}: {now} for {least}");
        let file = image.metadata().unwrap().len();
        let most = match kind.1 {
            "qcow2" => packed(&image),
            // A block behind another one stays a block.
            "vpc" if kind.2 != ["subformat=fixed"] => before.0.len - 1,
            _ => before.0.len,
        };
        assert!(file <= most, "{kind:?}: {file} bytes, at most {most} expected");
        judge(&image, kind.1);
        disk.assert_content(&image, kind.1, is_askew(kind));
        ends(0, &image, "check @");
        let after = seen(&image);
        let again = document(&image, "sparsify @");
        assert_eq!(again["changed"], false, "{kind:?}: {again}");
        assert_eq!(seen(&image), after, "{kind:?}");
        std::fs::remove_file(image).unwrap();
    }
}

#[test]
fn compressed_clusters() {
    let disk = Disk::new("ext4-1k");
    let image = disk.path("image.qcow2");
    let paths = [&disk.raw, &image].map(|path| path.to_str().unwrap());
    run("qemu-img", ["convert", "-c", "-O", "qcow2"].into_iter().chain(paths));
    let before = (allocated(&image), seen(&image).len);
    assert!(document(&image, "sparsify @")["dropped"].as_u64().unwrap() > 10);
    let now = (allocated(&image), seen(&image).len);
    assert!(now.0 < before.0 && now.1 < before.1, "{now:?} of {before:?}");
    assert!(now.1 <= now.0 + (256 << 10), "{now:?}: what lies last has not moved");
    judge(&image, "qcow2");
    assert_eq!(document(&image, "sparsify @")["changed"], false);
    // Clusters that are free in part stay compressed: only whole ones have gone.
    disk.assert_files(&image);
}

#[test]
fn what_is_reserved_is_foreseen() {
    let (disk, none) = (Disk::new("ext4-1k"), rustix::fs::FallocateFlags::empty());
    let file = File::options().write(true).open(&disk.raw).unwrap();
    rustix::fs::fallocate(file, none, 0, seen(&disk.raw).len).unwrap();
    let told = ["sparsify @ -n", "sparsify @"].map(|line| document(&disk.raw, line)["given-back"].as_u64());
    assert!(told[0].unwrap().abs_diff(told[1].unwrap()) <= 256 << 10, "{told:?}: foreseen, and done");
}

/// What a snapshot has stays.
#[test]
fn beside_snapshots() {
    let disk = Disk::new("ext4-1k");
    let image = contain(&disk.raw, KINDS[5], disk.dir.path());
    let name = image.to_str().unwrap();
    run("qemu-img", ["snapshot", "-c", "before", name]);
    assert_eq!(document(&image, "sparsify @")["dropped"], 0, "all is shared");
    judge(&image, "qcow2");
    // Written anew, it is not.
    run("qemu-io", ["-c", "write -P 7 1M 2M", "-c", "write -P 8 30M 6M", "-f", "qcow2", name]);
    let [now, then] = ["active", "then"].map(|name| disk.path(name));
    let snapshot = |to: &Path| {
        let to = to.to_str().unwrap();
        run("qemu-img", ["convert", "-l", "snapshot.name=before", "-f", "qcow2", "-O", "raw", name, to]);
    };
    snapshot(&now);
    ends(0, &image, "sparsify @");
    snapshot(&then);
    assert_equal(&now, &then, "the snapshot");
    judge(&image, "qcow2");
}

/// What lies below shows through nowhere.
#[test]
fn over_a_backing_file() {
    let disk = Disk::new("ext4-1k");
    let base = disk.path("base.raw");
    copy_sparse(&disk.raw, &base);
    let file = File::options().write(true).open(&base).unwrap();
    for at in 8..40_u64 {
        file.write_all_at(&noise(at, 300 << 10), at << 20).unwrap();
    }
    for compat in ["0.10", "1.1"] {
        let image = disk.path("child.qcow2");
        let paths = [&base, &disk.raw, &image].map(|path| path.to_str().unwrap());
        let options = format!("backing_fmt=raw,compat={compat}");
        let line =
            ["convert", "-f", "raw", "-O", "qcow2", "-B", paths[0], "-o", &options, paths[1], paths[2]];
        run("qemu-img", line);
        let before = allocated(&image);
        ends(0, &image, "sparsify @");
        assert!(allocated(&image) < before);
        judge(&image, "qcow2");
        disk.assert_files(&image);
        std::fs::remove_file(image).unwrap();
    }
}

/// A child gives back only what nothing of its parent would take the place of.
#[test]
fn differencing_images() {
    let disk = Disk::new("ext4-1k");
    let parent = disk.path("parent.vhd");
    qemu_convert(&disk.raw, "raw", &parent, "vpc", &["force_size=on"]);
    let child = disk.path("child.vhd");
    ends(0, &child, &format!("create @ --backing {}", parent.display()));
    write_noise(&child, &parent, &disk.free);
    let [before, after, masked, want] = ["before", "after", "masked", "want"].map(|name| disk.path(name));
    ends(0, &child, &format!("convert @ {} -O raw", before.display()));
    let taken = (allocated(&child), seen(&parent));
    let told = document(&child, "sparsify @ --check");
    assert_eq!(told["changed"], true, "{told}");
    assert!(allocated(&child) < taken.0, "{told}");
    assert_eq!(seen(&parent), taken.1);
    ends(0, &child, "check @");
    ends(0, &child, &format!("convert @ {} -O raw", after.display()));
    hollow(&after, &disk.free, &masked);
    hollow(&before, &disk.free, &want);
    assert_equal(&masked, &want, "what is in use");
    let (at, _) = Scheme::Gpt.span(&after);
    assert_clean(&after, at);
    assert_eq!(document(&child, "sparsify @")["changed"], false);
}

/// Writes into what is free on the disk of a child.
fn write_noise(child: &Path, parent: &Path, free: &SpanSet) {
    use disk::Disk as _;
    let limits = disk::Limits::default();
    let open = |path: &Path, write: bool| {
        disk::Image::open(path, &disk::OpenOptions { write, ..disk::OpenOptions::default() }).unwrap()
    };
    let mut image = open(child, true);
    let below = container::Container::open(open(parent, false), container::Format::Vhd, &limits).unwrap();
    let id = below.uuid();
    let mut overlay = disk::Overlay::new(&image, &limits);
    let mut vhd = container::Container::open(&mut overlay, container::Format::Vhd, &limits).unwrap();
    vhd.set_parent(Box::new(below), id).unwrap();
    for span in free.iter() {
        let len = span.len().to_usize().min(1 << 20);
        vhd.write_at(span.start(), &noise(span.start().get(), len)).unwrap();
    }
    drop(vhd);
    let change = overlay.into_change().unwrap();
    let cancel = disk::Cancel::new();
    let cx = disk::Cx { progress: &disk::Quiet, cancel: &cancel, limits, now: 1_800_000_000 };
    image.commit(&change, &disk::CommitOptions::default(), &cx).unwrap();
}

#[test]
fn taken_back() {
    let disk = Disk::new("ext4-1k");
    for kind in KINDS {
        let image = contain(&disk.raw, kind, disk.dir.path());
        let before = seen(&image);
        let undo = disk.path("undo");
        ends(0, &image, &format!("sparsify @ --undo {}", undo.display()));
        disk.assert_content(&image, kind.1, is_askew(kind));
        judge(&image, kind.1);
        ends(0, &image, &format!("recover @ --undo {}", undo.display()));
        assert_eq!((seen(&image).digest, seen(&image).len), (before.digest, before.len), "{kind:?}");
        for path in [undo, image] {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn refusals() {
    let disk = Disk::new("ext4-1k");
    let fixed = contain(&disk.raw, KINDS[1], disk.dir.path());
    let footer = fixed.metadata().unwrap().len() - 512;
    let mut bytes = vec![0; 512];
    File::open(&fixed).unwrap().read_exact_at(&mut bytes, footer).unwrap();
    for (at, what) in [(84, "saved"), (85, "hidden")] {
        let mut bytes = bytes.clone();
        bytes[at] = 1;
        testkit::vhd::seal(&mut bytes, 64);
        patch(&fixed, footer, &bytes);
        refused(3, &fixed, "sparsify @");
        assert!(said(&on(&fixed, "sparsify @")).contains(what));
    }
    let looped = Loop::whole(&disk.raw, ondisk::SectorSize::B512);
    let out = on(looped.path(), "sparsify @ -f raw --journal /nowhere/journal");
    assert_ne!(out.status.code(), Some(0), "{}", said(&out));
    drop(looped);
    let qcow2 = disk.path("image.img");
    qemu_convert(&disk.raw, "raw", &qcow2, "qcow2", &[]);
    refused(3, &qcow2, "sparsify @");
}

/// A copy without what is free; the image stays as it is.
#[test]
fn to_a_new_file() {
    let disk = Disk::new("ext4-1k");
    let least = least(&disk.expected, disk.dir.path());
    for kind in [KINDS[0], KINDS[3], KINDS[5]] {
        let image = contain(&disk.raw, kind, disk.dir.path());
        let before = seen(&image);
        for (ending, format) in [("raw", "raw"), ("qcow2", "qcow2"), ("vhd", "vpc")] {
            let to = disk.path(&format!("new.{ending}"));
            ends(0, &image, &format!("sparsify @ {} -n", to.display()));
            assert!(!to.exists(), "{kind:?} {ending}");
            ends(0, &image, &format!("sparsify @ {}", to.display()));
            disk.assert_content(&to, format, false);
            judge(&to, format);
            let now = allocated(&to);
            assert!(now <= least + (least >> 5) + (1 << 20), "{kind:?} {ending}: {now} for {least}");
            ends(3, &image, &format!("sparsify @ {}", to.display()));
            ends(2, &image, &format!("sparsify @ {} --undo u", disk.path("other").display()));
            std::fs::remove_file(to).unwrap();
        }
        assert_eq!(seen(&image), before, "{kind:?}");
        std::fs::remove_file(image).unwrap();
    }
}

/// Killed at any call that writes: what is left is whole, and repeated it comes to the same.
#[test]
fn killed_at_every_call() {
    let disk = Disk::new("ext4-1k");
    let kinds = [KINDS[0], KINDS[3], KINDS[6]];
    for kind in kinds {
        let dir = disk.path("killed");
        std::fs::create_dir_all(&dir).unwrap();
        let base = contain(&disk.raw, kind, &dir);
        let line = "sparsify @";
        each(CALLS.len(), |i| {
            let calls = CALLS[i];
            let copy = || {
                let dir = tempfile::tempdir_in(disk.dir.path()).unwrap();
                let image = dir.path().join(base.file_name().unwrap());
                copy_sparse(&base, &image);
                (dir, image)
            };
            let (_dir, image) = copy();
            for n in some(count(&image, line, calls), 4) {
                let (_dir, image) = copy();
                let kill = format!("signal=KILL:when={n}");
                let out = injected(&image, line, calls, &kill);
                let what = format!("{} {calls} {kill}", image.display());
                assert!(!out.status.success(), "{what}: {}", said(&out));
                if beside(&image).len() > 1 {
                    assert_eq!(on(&image, line).status.code(), Some(6), "{what}");
                    ends(0, &image, "recover @");
                }
                ends(0, &image, "check @");
                judge(&image, kind.1);
                ends(0, &image, line);
                judge(&image, kind.1);
                disk.assert_content(&image, kind.1, is_askew(kind));
            }
        });
        std::fs::remove_dir_all(dir).unwrap();
    }
}
