//! Another format around the same bytes: judged by qemu, there and back, and at every instant in between.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use container::qcow2::Create as Qcow2;
use container::{Container, Create, Error, Format, in_place, vhd};
use disk::{Cancel, Change, CommitOptions, Cx, Image, Limits, OpenOptions, Quiet, ReadAt, Sparse};
use ondisk::guid::Uuid;
use ondisk::{Len, Offset};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use testkit::images::noise;
use testkit::oracle::{assert_qemu_check, qemu_convert, qemu_same};
use testkit::sim::{Knobs, sweep};
use testkit::tool::{copy_sparse, output, run};

fn cx(cancel: &Cancel) -> Cx<'_> {
    Cx { progress: &Quiet, cancel, limits: Limits::default(), now: 1_800_000_000 }
}

fn open(file: &dyn ReadAt, format: Format) -> Container<&dyn ReadAt> {
    Container::open(file, format, &Limits::default()).unwrap()
}

fn plan(file: &dyn ReadAt, format: Format, new: &Create) -> Result<Change, Error> {
    in_place::plan(&open(file, format), new, &Limits::default())
}

fn convert(path: &Path, format: Format, new: &Create) {
    let how = OpenOptions { write: true, ..OpenOptions::default() };
    let mut image = Image::open(path, &how).unwrap();
    let change = plan(&image, format, new).unwrap();
    let cancel = Cancel::new();
    image.commit(&change, &CommitOptions::default(), &cx(&cancel)).unwrap();
}

fn vhd(len: Len, kind: vhd::create::New) -> Create {
    Create::Vhd(vhd::create::Spec { len, uuid: Uuid([7; 16]), now: 1_700_000_000, kind, hidden: false })
}

fn fixed(len: Len) -> Create {
    vhd(len, vhd::create::New::Fixed)
}

fn dynamic(len: Len) -> Create {
    vhd(len, vhd::create::New::Dynamic)
}

/// A disk of which these blocks of 2 MiB hold so many KiB each.
fn blocks(path: &Path, len: u64, stored: &[(u64, usize)]) {
    let file = File::create(path).unwrap();
    file.set_len(len).unwrap();
    for &(index, kib) in stored {
        // At the end of the block, where its neighbour would like to have a bitmap.
        let at = ((index + 1) * (2 << 20)).min(len) - (kib as u64) * 1024;
        file.write_all_at(&noise(at, kib * 1024), at).unwrap();
    }
}

/// How many bytes move.
fn moved(path: &Path, len: u64) -> u64 {
    let file = Image::open(path, &OpenOptions::default()).unwrap();
    let change = plan(&file, Format::Raw, &dynamic(Len::new(len))).unwrap();
    assert!(change.carried.is_empty());
    change.moves.iter().map(|one| one.from.len().get()).sum()
}

/// Blocks whose neighbour before them is empty stay, of neighbours those that hold more.
#[test]
fn a_dynamic_vhd_around_its_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let [raw, image] = ["disk.raw", "image"].map(|name| dir.path().join(name));
    let stored = [(0, 64), (1, 400), (3, 200), (4, 40), (5, 300), (6, 12), (9, 8), (12, 2048), (14, 2048)];
    for (len, last) in [(32 << 20, 16), (33 << 20, 1024), ((33 << 20) + 512, 900), ((31 << 20) - 512, 4)] {
        let stored: Vec<_> = stored.into_iter().chain([((len - 1) >> 21, last)]).collect();
        blocks(&raw, len, &stored);
        // Those at 0, 4 and 6; and one of the last two where both are stored.
        let pair = if (len - 1) >> 21 == 15 { last.min(2048) as u64 + 4 } else { 0 };
        let moving = moved(&raw, len);
        let least = (64 + 40 + 12) << 10;
        assert!((least..=least + (pair << 10)).contains(&moving), "{len}: {moving}");
        copy_sparse(&raw, &image);
        let before = image.metadata().unwrap().blocks();
        convert(&image, Format::Raw, &dynamic(Len::new(len)));
        let after = image.metadata().unwrap().blocks();
        // A bitmap of each block, and the tables.
        assert!(after <= before + 8 * (2 * stored.len() as u64 + 4), "{before} blocks have become {after}");
        assert!(qemu_same(&raw, "raw", &image, "vpc"), "{len}");
        run("vhdiinfo", [&image]);
        {
            let file = Image::open(&image, &OpenOptions::default()).unwrap();
            assert!(open(&file, Format::Vhd).check().unwrap().is_clean(), "{len}");
            let again = plan(&file, Format::Vhd, &dynamic(Len::new(len))).unwrap();
            assert!(again.is_empty());
        }
        convert(&image, Format::Vhd, &Create::Raw(Len::new(len)));
        assert!(same_bytes(&raw, &image), "{len}");
        let back = image.metadata().unwrap().blocks();
        assert!(back <= before + 64, "{before} blocks have become {back}");
        convert(&image, Format::Raw, &fixed(Len::new(len)));
        convert(&image, Format::Vhd, &dynamic(Len::new(len)));
        assert!(qemu_same(&raw, "raw", &image, "vpc"), "{len}");
    }
}

/// A disk with data at its beginning and end, and islands.
fn disk(path: &Path, len: u64) {
    let file = File::create(path).unwrap();
    file.set_len(len).unwrap();
    for (at, n) in [(0, 5000), (70_000, 4096), (1 << 20, 300_000), (len - 3000, 3000)] {
        file.write_all_at(&noise(at, n), at).unwrap();
    }
}

fn same_bytes(a: &Path, b: &Path) -> bool {
    output("cmp", [a, b]).status.success()
}

#[test]
fn there_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let [raw, image] = ["disk.raw", "image"].map(|name| dir.path().join(name));
    for len in [4 << 20, (9 << 20) + 512, (5 << 20) - 512] {
        disk(&raw, len);
        for (version, bits, extended) in
            [(3, 16, false), (2, 16, false), (3, 9, false), (3, 12, false), (3, 21, false), (3, 16, true)]
        {
            let what = format!("{len} bytes, version {version}, clusters of 2^{bits}, {extended}");
            let new =
                Qcow2 { version, cluster_bits: bits, extended_l2: extended, ..Qcow2::new(Len::new(len)) };
            copy_sparse(&raw, &image);
            let before = image.metadata().unwrap().blocks();
            convert(&image, Format::Raw, &Create::Qcow2(new));
            assert_qemu_check(&image, "qcow2");
            assert!(qemu_same(&raw, "raw", &image, "qcow2"), "{what}");
            convert(&image, Format::Qcow2, &Create::Raw(Len::new(len)));
            assert!(same_bytes(&raw, &image), "{what}");
            let after = image.metadata().unwrap().blocks();
            assert!(after <= before + 64, "{what}: {before} blocks have become {after}");
        }
        convert(&image, Format::Raw, &fixed(Len::new(len)));
        assert!(qemu_same(&raw, "raw", &image, "vpc"), "{len}");
        run("vhdiinfo", [&image]);
        convert(&image, Format::Vhd, &Create::Qcow2(Qcow2::new(Len::new(len))));
        assert_qemu_check(&image, "qcow2");
        assert!(qemu_same(&raw, "raw", &image, "qcow2"));
        convert(&image, Format::Qcow2, &fixed(Len::new(len)));
        assert!(qemu_same(&raw, "raw", &image, "vpc"));
        convert(&image, Format::Vhd, &Create::Raw(Len::new(len)));
        assert!(same_bytes(&raw, &image));
    }
}

/// A tail that is no sector is padded.
#[test]
fn an_odd_end() {
    let dir = tempfile::tempdir().unwrap();
    let [raw, image] = ["disk.raw", "image"].map(|name| dir.path().join(name));
    disk(&raw, (3 << 20) + 77);
    let len = Len::new((3 << 20) + 512);
    for new in [Create::Qcow2(Qcow2::new(len)), fixed(len), dynamic(len)] {
        copy_sparse(&raw, &image);
        convert(&image, Format::Raw, &new);
        let format = new.format();
        convert(&image, format, &Create::Raw(len));
        File::options().write(true).open(&image).unwrap().set_len((3 << 20) + 77).unwrap();
        assert!(same_bytes(&raw, &image));
    }
}

/// What others have laid out in their own way.
#[test]
fn others_become_raw() {
    let dir = tempfile::tempdir().unwrap();
    let [raw, image] = ["disk.raw", "image"].map(|name| dir.path().join(name));
    disk(&raw, 20 << 20);
    for (format, options) in [
        ("qcow2", &[][..]),
        ("qcow2", &["compat=0.10", "cluster_size=4096"]),
        ("qcow2", &["extended_l2=on"]),
        ("qcow2", &["preallocation=metadata"]),
        ("vpc", &["force_size=on"]),
    ] {
        qemu_convert(&raw, "raw", &image, format, options);
        convert(&image, format.parse().unwrap(), &Create::Raw(Len::mib(20)));
        assert!(same_bytes(&raw, &image), "{format} {options:?}");
    }
}

#[test]
fn refusals() {
    let dir = tempfile::tempdir().unwrap();
    let [raw, image] = ["disk.raw", "image"].map(|name| dir.path().join(name));
    disk(&raw, 4 << 20);
    let new = Create::Raw(Len::mib(4));
    let refused = |format: Format, new: &Create| {
        let file = Image::open(&image, &OpenOptions::default()).unwrap();
        match plan(&file, format, new) {
            Err(error @ Error::Refused { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let name = image.to_str().unwrap();
    qemu_convert(&raw, "raw", &image, "qcow2", &[]);
    run("qemu-img", ["snapshot", "-c", "s", name]);
    assert!(refused(Format::Qcow2, &new).contains("1 snapshots"));
    let base = raw.to_str().unwrap();
    run("qemu-img", ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, name]);
    {
        let file = Image::open(&image, &OpenOptions::default()).unwrap();
        let mut child = open(&file, Format::Qcow2);
        let below = Image::open(&raw, &OpenOptions::default()).unwrap();
        let below = Container::open(below, Format::Raw, &Limits::default()).unwrap();
        child.set_parent(Box::new(below), None).unwrap();
        let error = in_place::plan(&child, &new, &Limits::default()).unwrap_err();
        assert!(error.to_string().contains("parent"), "{error}");
    }
    run("qemu-img", ["convert", "-c", "-O", "qcow2", base, name]);
    assert!(refused(Format::Qcow2, &new).contains("compressed"));
    blocks(&image, 10 << 20, &[(0, 2048), (1, 1024), (2, 1024), (3, 512), (4, 8)]);
    let said = refused(Format::Raw, &dynamic(Len::mib(10)));
    assert!(said.contains("1 MiB of 2.5 MiB would have to move"), "{said}");
}

/// Too much for a journal.
#[test]
fn what_lies_elsewhere_is_copied_instead() {
    let dir = tempfile::tempdir().unwrap();
    let [raw, image] = ["disk.raw", "image"].map(|name| dir.path().join(name));
    let file = File::create(&raw).unwrap();
    file.set_len(300 << 20).unwrap();
    for at in 0..280_u64 {
        file.write_all_at(&noise(at, 1 << 20), at << 20).unwrap();
    }
    qemu_convert(&raw, "raw", &image, "qcow2", &[]);
    let file = Image::open(&image, &OpenOptions::default()).unwrap();
    let error = plan(&file, Format::Qcow2, &Create::Raw(Len::mib(300))).unwrap_err();
    assert!(error.to_string().contains("through the journal"), "{error}");
}

/// Before or after, whatever happens, and the disk is the same in both.
#[test]
fn every_state_is_before_or_after() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    disk(&raw, 2 << 20);
    let len = Len::mib(2);
    let small = Qcow2 { cluster_bits: 12, ..Qcow2::new(len) };
    sweep_all(
        &raw,
        &[
            Create::Qcow2(small),
            fixed(len),
            Create::Raw(len),
            fixed(len),
            Create::Qcow2(Qcow2::new(len)),
            Create::Raw(len),
        ],
    );
    // One block moves for the tables, one for its neighbour, one stays; and all of them back.
    let len = Len::new((5 << 20) - 512);
    blocks(&raw, len.get(), &[(0, 8), (1, 4), (2, 16)]);
    sweep_all(&raw, &[dynamic(len), Create::Raw(len)]);
}

/// Sweeps one conversion after the other.
fn sweep_all(raw: &Path, steps: &[Create]) {
    let image = raw.with_file_name("image");
    copy_sparse(raw, &image);
    let load = |path: &Path| Sparse::load(&Image::open(path, &OpenOptions::default()).unwrap()).unwrap();
    let read = |file: &dyn ReadAt, format: Format| {
        let disk = open(file, format);
        assert!(disk.check().unwrap().is_clean());
        let mut bytes = vec![0; disk.len().to_usize()];
        disk.read_at(Offset::ZERO, &mut bytes).unwrap();
        bytes
    };
    let want = read(&load(raw), Format::Raw);
    let mut format = Format::Raw;
    for new in steps {
        let base = load(&image);
        let change = plan(&base, format, new).unwrap();
        let mut turn = [format, new.format()].into_iter();
        let knobs =
            Knobs { pairs: 20, random: 20, mixes: 40, nested_every: 40, faults: false, ..Knobs::quick() };
        let report = sweep(&base, &change, &knobs, &mut |recovered| {
            let format = turn.next().unwrap();
            assert!(read(recovered, format) == want, "{format}");
        });
        report.assert_clean();
        assert!(report.before > 0 && report.after > 0, "{report:?}");
        convert(&image, format, new);
        format = new.format();
    }
    assert!(same_bytes(raw, &image));
}
