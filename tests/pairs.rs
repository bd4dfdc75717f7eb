//! `delta create`: files that were written anew are compressed with their older version, which is found by their names.

use std::fs::{File, create_dir_all, write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ondisk::{Len, Span};
use testkit::guest::{partition, put};
use testkit::images::noise;
use testkit::tool::{copy_data, copy_sparse, run};

use crate::groups::{PV, PV_LEN, on_group, runs};
use crate::kit::{ends, seen, text};

const START: u64 = 1 << 20;
const LEN: u64 = 32 << 20;
/// Bytes of each file: longer than what is compared with what lies beside it.
const FILE: usize = 300 << 10;

/// Bytes that can be compressed a little.
fn old(seed: u64) -> Vec<u8> {
    noise(seed, FILE).into_iter().map(|byte| byte & 0x3f).collect()
}

/// The same with every 24th byte changed: nowhere are there 32 bytes as they were.
fn new(seed: u64) -> Vec<u8> {
    let mut bytes = old(seed);
    bytes.iter_mut().step_by(24).for_each(|byte| *byte ^= 0x20);
    bytes
}

/// A disk with one partition that has these files.
fn disk(dir: &Path, name: &str, files: &[(&str, Vec<u8>)]) -> PathBuf {
    let [disk, fs, root] = [name, "fs", "root"].map(|part| dir.join(name.to_owned() + part));
    for (path, bytes) in files {
        let path = root.join(path);
        create_dir_all(path.parent().unwrap()).unwrap();
        write(path, bytes).unwrap();
    }
    File::create(&fs).unwrap().set_len(LEN).unwrap();
    run("mke2fs", ["-q", "-t", "ext4", "-b", "4096", "-d", text(&root), text(&fs)]);
    let file = File::create(&disk).unwrap();
    file.set_len(START + LEN + (1 << 20)).unwrap();
    partition(&disk, "label: dos\n2048,65536,L\n");
    copy_data(&File::open(&fs).unwrap(), 0..LEN, &file, START);
    disk
}

/// The filesystem of such a disk, in the two parts of a logical volume.
fn in_group(dir: &Path, name: &str) -> PathBuf {
    let disk = dir.join(name.to_owned() + "vg");
    File::create(&disk).unwrap().set_len(PV + PV_LEN + (1 << 20)).unwrap();
    partition(&disk, &format!("label: gpt\nstart=2048, size={}", PV_LEN / 512));
    on_group(&disk, |lvm| {
        lvm.create("vg", &[], &["-s", "1m"]);
        lvm.lvcreate(&["-l", "5", "-n", "root", "vg"]);
        lvm.lvcreate(&["-l", "3", "-n", "other", "vg"]);
        lvm.run(&["lvextend", "-q", "--driverloaded", "n", "-l", "32", "vg/root"]);
    });
    let runs: Vec<Span> =
        runs(&disk, "root").into_iter().inspect(|run| assert!(run.len() < Len::new(LEN))).collect();
    put(&dir.join(name.to_owned() + "fs"), &disk, &runs);
    disk
}

/// Makes the patch as predicted, and the target of it; how large the patch is.
fn made(bases: &[&Path], target: &Path, more: &str) -> u64 {
    let [patch, out] = ["p", "out"].map(|name| target.with_extension(name));
    let from: Vec<String> = bases.iter().map(|base| format!("--base {}", text(base))).collect();
    let from = from.join(" ");
    let line = format!("delta create --json {from} @ -o {} {more}", text(&patch));
    let told = |more: &str| -> u64 {
        let told: serde_json::Value =
            serde_json::from_str(&ends(0, target, &format!("{line} {more}"))).unwrap();
        told["size"].as_u64().unwrap()
    };
    let (foretold, size) = (told("-n -j 1"), told("-j 2"));
    assert_eq!((foretold, size), (size, patch.metadata().unwrap().len()));
    ends(0, &patch, &format!("delta apply {from} @ -o {}", text(&out)));
    assert_eq!(seen(&out).digest, seen(target).digest);
    [patch, out].iter().for_each(|path| std::fs::remove_file(path).unwrap());
    size
}

/// A disk and a later one, of which three files have other bytes.
fn pair(dir: &Path) -> [PathBuf; 2] {
    let base = disk(
        dir,
        "base",
        &[
            ("srv/kept", noise(7, 1 << 20)),
            ("srv/changed", old(1)),
            ("usr/lib/libfoo.so.1.2", old(2)),
            ("usr/lib/modules/6.1.0-55/drivers/foo.ko", old(3)),
            ("usr/other/6/foo.ko", old(4)),
        ],
    );
    let target = disk(
        dir,
        "target",
        &[
            ("a/new", noise(8, 2 << 20)),
            ("srv/changed", new(1)),
            ("usr/lib/libfoo.so.1.3", new(2)),
            ("usr/lib/modules/6.1.0-56/drivers/foo.ko", new(3)),
        ],
    );
    [base, target]
}

/// What of a patch are not the bytes that nothing makes smaller.
fn of_files(size: u64) -> u64 {
    size.saturating_sub(2 << 20)
}

/// Bytes of the files; without an older version they take three quarters of that.
const ALL: u64 = 3 * FILE as u64;

#[test]
fn older_versions_are_found_and_damage_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let [base, target] = pair(dir.path());
    for more in ["", "--level 3", "--codec xz", "--drop-free", "--memory 64M"] {
        let paired = of_files(made(&[&base], &target, more));
        assert!(paired < ALL / 2, "{more}: {paired}");
    }
    // The superblock, then the root's inode table and folders do not have their checksums.
    for (side, at, len) in
        [(0, START + 1024 + 0x78, 5), (1, START + 1024 + 0x78, 5), (0, START + 8192, 2 << 20)]
    {
        let damaged = [&base, &target].map(|path| {
            let copy = path.with_extension("damaged");
            copy_sparse(path, &copy);
            copy
        });
        let file = File::options().write(true).open(&damaged[side]).unwrap();
        file.write_all_at(&noise(9, len), at).unwrap();
        let unpaired = of_files(made(&[&damaged[0]], &damaged[1], ""));
        assert!(unpaired > ALL / 2, "{side}, {at}: {unpaired}");
    }
}

#[test]
fn older_versions_are_found_in_groups_and_on_any_base() {
    let dir = tempfile::tempdir().unwrap();
    let [base, target] = pair(dir.path());
    let other = disk(dir.path(), "other", &[("srv/other", noise(10, 1 << 20))]);
    let [base_vg, target_vg] = ["base", "target"].map(|name| in_group(dir.path(), name));
    for (bases, target) in [
        (vec![base_vg.as_path()], &target_vg),
        (vec![&base], &target_vg),
        (vec![&base_vg], &target),
        (vec![&other, &base], &target),
        (vec![&base_vg, &other], &target_vg),
    ] {
        let paired = of_files(made(&bases, target, ""));
        assert!(paired < ALL / 2, "{bases:?}, {}: {paired}", target.display());
    }
    let unpaired = of_files(made(&[&other], &target_vg, ""));
    assert!(unpaired > ALL / 2, "{unpaired}");
}
