//! `delta create --stats`: whose the literal bytes of a patch are.

use std::fs::{File, write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ondisk::Offset;
use serde_json::Value;
use testkit::guest::partition;
use testkit::images::noise;
use testkit::oracle::{debugfs, free_blocks};
use testkit::tool::{copy_data, copy_sparse, run};

use crate::kit::{ends, text};

const START: u64 = 1 << 20;
const SWAP: u64 = 40 << 20;

/// A disk with a filesystem, swap, and space behind both; and what became of it.
fn disks(dir: &Path) -> (PathBuf, PathBuf) {
    let [base, target, fs, files] = ["base.raw", "target.raw", "fs", "files"].map(|name| dir.join(name));
    std::fs::create_dir_all(files.join("srv/deep")).unwrap();
    write(files.join("srv/kept"), noise(1, 1 << 20)).unwrap();
    File::create(&fs).unwrap().set_len(32 << 20).unwrap();
    run("mke2fs", ["-q", "-t", "ext4", "-b", "4096", "-d", text(&files), text(&fs)]);
    let disk = File::create(&base).unwrap();
    disk.set_len(64 << 20).unwrap();
    partition(&base, "label: dos\n2048,65536,L\n81920,16384,S\n");
    copy_data(&File::open(&fs).unwrap(), 0..32 << 20, &disk, START);
    let swap = dir.join("swap");
    File::create(&swap).unwrap().set_len(8 << 20).unwrap();
    run("mkswap", ["-q", text(&swap)]);
    copy_data(&File::open(&swap).unwrap(), 0..8 << 20, &disk, SWAP);
    copy_sparse(&base, &target);
    write(dir.join("new"), noise(2, 3 << 20)).unwrap();
    let written = debugfs(
        &target,
        Offset::new(START),
        true,
        &format!("cd /srv/deep\nwrite {} changed\n", text(&dir.join("new"))),
    );
    assert!(written.contains("Allocated"), "{written}");
    let free =
        free_blocks(&target, Offset::new(START)).into_iter().rfind(|span| span.len().get() > 40_960).unwrap();
    let disk = File::options().write(true).open(&target).unwrap();
    for (at, bytes) in [
        (free.start().get(), noise(3, 40_960)),
        (SWAP + 70_000, noise(4, 100_000)),
        (60 << 20, noise(5, 50_000)),
    ] {
        disk.write_all_at(&bytes, at).unwrap();
    }
    (base, target)
}

fn told(base: &Path, target: &Path, more: &str) -> Value {
    let line =
        format!("delta create --json --stats --base @ {} -n -o {}.p {more}", text(target), text(target));
    serde_json::from_str(&ends(0, base, &line)).unwrap()
}

#[test]
fn by_kind_and_by_file() {
    let dir = tempfile::tempdir().unwrap();
    let (base, target) = disks(dir.path());
    let signature = dir.path().join("sig");
    ends(0, &base, &format!("delta signature @ -o {}", text(&signature)));
    let upon = format!(
        "delta create --json --stats --signature {} {} -n -o {}.p",
        text(&signature),
        text(&target),
        text(&target)
    );
    let upon: Value = serde_json::from_str(&ends(0, &base, &upon)).unwrap();
    for told in [told(&base, &target, ""), told(&base, &target, "--level 19"), upon] {
        let (stats, owners) = (&told["stats"], &told["owners"]);
        let uses = owners["uses"].as_object().unwrap();
        let sum = |what: &str| uses.values().map(|amount| amount[what].as_u64().unwrap()).sum::<u64>();
        assert_eq!(
            (stats["literal"].as_u64(), stats["packed"].as_u64()),
            (Some(sum("literal")), Some(sum("packed")))
        );
        let literal = |what: &str| uses[what]["literal"].as_u64().unwrap();
        // Only blocks are compared where there is a signature.
        let about = |what: &str, bytes: u64| {
            assert!((bytes..bytes + 12_288).contains(&literal(what)), "{what}: {told:#}")
        };
        about("file-data", 3 << 20);
        about("free-blocks", 40_960);
        about("swap", 100_000);
        about("outside-filesystems", 50_000);
        for what in ["directories", "inode-tables", "bitmaps", "other-metadata"] {
            assert!((1..=20_000).contains(&literal(what)), "{what}: {told:#}");
        }
        assert_eq!(literal("journal"), 0);
        let files = owners["files"].as_array().unwrap();
        assert_eq!(files.len(), 1, "{told:#}");
        assert_eq!(
            (&files[0]["path"], &files[0]["volume"]),
            (&"/srv/deep/changed".into(), &"partition 1".into())
        );
        // Its share of a frame in which other bytes are compressed.
        let packed = files[0]["packed"].as_u64().unwrap();
        assert!(packed.abs_diff(3 << 20) < 20_000, "{told:#}");
        assert_eq!(owners["notes"], serde_json::json!([]));
    }
    let said =
        ends(0, &base, &format!("delta create --stats --base @ {} -n -o {}.p", text(&target), text(&target)));
    assert!(said.contains("partition 1: /srv/deep/changed") && said.contains("free blocks"), "{said}");
    // Nobody asked.
    let line = format!("delta create --json --base @ {} -n -o {}.p", text(&target), text(&target));
    let told: Value = serde_json::from_str(&ends(0, &base, &line)).unwrap();
    assert_eq!(told["owners"], Value::Null);
}

#[test]
fn what_cannot_be_read_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (base, target) = disks(dir.path());
    // The superblock does not have its checksum.
    let disk = File::options().write(true).open(&target).unwrap();
    disk.write_all_at(b"label", START + 1024 + 0x78).unwrap();
    let notes = |told: &Value| told["owners"]["notes"].to_string();
    let damaged = told(&base, &target, "");
    assert!(
        notes(&damaged).contains("partition 1") && notes(&damaged).contains("no filesystem"),
        "{damaged:#}"
    );
    assert_eq!(damaged["owners"]["uses"]["file-data"]["literal"], 0);
    // None at all.
    for name in ["a", "b"] {
        write(dir.path().join(name), noise(u64::from(name.as_bytes()[0]), 1 << 20)).unwrap();
    }
    let none = told(&dir.path().join("a"), &dir.path().join("b"), "");
    assert!(notes(&none).contains("no filesystem"), "{none:#}");
    assert_eq!(none["owners"]["uses"]["outside-filesystems"]["literal"], 1 << 20);
}
