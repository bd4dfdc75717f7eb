//! Chains whose merging takes several batches: killed at any time, taken back, refused.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use testkit::oracle::assert_qemu_check;
use testkit::tool::{copy_sparse, run, said};
use testkit::vhd::{Block, Image, content};

use crate::kit::{IMGTOOL, beside, document, ends, on, seen, words};

/// So little memory that the images here take several batches.
const LITTLE: &str = "--memory 1M";

/// `low` ← `mid` ← `top` of one format, with data in hundreds of places.
struct Chain {
    dir: tempfile::TempDir,
    format: &'static str,
}

impl Chain {
    fn new(format: &'static str) -> Self {
        let chain = Self { dir: tempfile::tempdir().unwrap(), format };
        if format == "vhd" {
            chain.make_vhds()
        } else {
            chain.make_qcow2s()
        }
        chain
    }

    fn make_qcow2s(&self) {
        let make = |name: &str, options: &[&str]| {
            let path = self.path(name);
            run(
                "qemu-img",
                ["create", "-q", "-f", "qcow2"].iter().chain(options).chain(&[path.to_str().unwrap(), "16M"]),
            );
        };
        let fill = |name: &str, writes: Vec<String>| {
            let path = self.path(name);
            let commands = writes.iter().flat_map(|write| ["-c", write]);
            run("qemu-io", ["-f", "qcow2"].into_iter().chain(commands).chain([path.to_str().unwrap()]));
        };
        make("low", &[]);
        fill("low", (0..16).map(|n| format!("write -P {} {n}M 700k", n + 1)).collect());
        make("mid", &["-o", "cluster_size=4096", "-b", "low.qcow2", "-F", "qcow2"]);
        fill("mid", (0..1000).map(|n| format!("write -P {} {}k 4k", 100 + n % 100, n * 16)).collect());
        make("top", &["-b", "mid.qcow2", "-F", "qcow2"]);
        fill("top", vec!["write -P 250 2500k 100k".to_owned()]);
    }

    fn make_vhds(&self) {
        let image = |name: &str, uuid: &[u8; 16], on: Option<([u8; 16], &str)>, blocks: Vec<Block>| {
            let image = Image {
                kind: if on.is_some() { 4 } else { 3 },
                uuid: *uuid,
                parent: on.map(|(uuid, name)| (uuid, locators(name))),
                blocks,
                ..Image::tap(16 << 20).with_block(64 << 10)
            };
            let mut bytes = image.build();
            if name != "top" && name != "side" {
                let end = bytes.len() - 512;
                for at in [0, end] {
                    bytes[at + 85] = 1;
                    testkit::vhd::seal(&mut bytes[at..at + 512], 64);
                }
            }
            std::fs::write(self.path(name), bytes).unwrap();
            image.uuid
        };
        let base = image("low", b"p the grand base", None, (0..80).map(|n| Block::whole(n * 3)).collect());
        let parts = (0..127).map(|n| Block { index: n * 2, sectors: vec![3..9, 40..100] }).collect();
        let mid = image("mid", b"c a child of it.", Some((base, "low.vhd")), parts);
        image(
            "top",
            b"l a leaf of that",
            Some((mid, "mid.vhd")),
            vec![Block { index: 4, sectors: vec![5..7, 9..10] }],
        );
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.{}", self.format))
    }

    fn copy(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for path in beside(&self.path("low")) {
            copy_sparse(&path, &dir.path().join(path.file_name().unwrap()));
        }
        Self { dir, ..*self }
    }

    fn digest(&self, name: &str) -> String {
        ends(0, &self.path(name), "digest @ -q").split_whitespace().next().unwrap().to_owned()
    }

    /// Both children, which never read otherwise, as long as they are there.
    fn digests(&self) -> Vec<String> {
        let names = ["top", "mid"].into_iter().filter(|name| self.path(name).exists());
        names.map(|name| self.digest(name)).collect()
    }

    fn recover(&self) {
        for path in ["top", "mid", "low"].map(|name| self.path(name)).iter().filter(|path| path.exists()) {
            ends(0, path, "recover @");
        }
    }
}

/// All the ways in which tapdisk names a parent.
fn locators(name: &str) -> Vec<([u8; 4], Vec<u8>)> {
    let windows: Vec<u8> = format!(".\\{name}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    vec![
        (*b"MacX", format!("file://./{name}").into_bytes()),
        (*b"W2ku", windows.clone()),
        (*b"W2ru", windows),
    ]
}

/// The locators of an image, as its header tells them.
fn located(path: &Path) -> Vec<([u8; 4], Vec<u8>)> {
    let file = std::fs::read(path).unwrap();
    let long = |at: usize| u64::from_be_bytes(file[at..at + 8].try_into().unwrap()) as usize;
    let word = |at: usize| u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let slots = (0..8).map(|slot| long(16) + 576 + slot * 24).filter(|&at| word(at) != 0);
    slots
        .map(|at| (file[at..at + 4].try_into().unwrap(), file[long(at + 16)..][..word(at + 8)].to_vec()))
        .collect()
}

#[test]
fn killed_at_any_time_of_several_batches() {
    for (format, remove) in [("qcow2", ""), ("vhd", ""), ("qcow2", " --remove"), ("vhd", " --remove")] {
        let chain = Chain::new(format);
        let line = format!("chain coalesce @ {LITTLE}{remove}");
        let want = chain.digests();
        let copy = chain.copy();
        let start = Instant::now();
        let done = document(&copy.path("mid"), &line);
        let whole = start.elapsed();
        // One relinks the leaf.
        assert!(done["commits"].as_u64().unwrap() >= 3, "{format}: {done}");
        let mid = chain.path("mid");
        for n in 0..7 {
            let mut command = Command::new(IMGTOOL);
            command.args(words(&mid, &line)).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            std::thread::sleep(whole * (2 * n + 1) / 14);
            child.kill().unwrap();
            child.wait().unwrap();
            chain.recover();
            assert!(want.starts_with(&chain.digests()), "{format}{remove}: killed in part {n}");
            if !mid.exists() {
                break;
            }
        }
        if mid.exists() {
            ends(0, &mid, &line);
        }
        assert_eq!([chain.digest("top"), chain.digest("low")], want[..], "{format}{remove}");
        assert_eq!(mid.exists(), remove.is_empty());
        for name in ["top", "low"] {
            ends(0, &chain.path(name), "check @");
            if format == "qcow2" {
                assert_qemu_check(&chain.path(name), format);
            }
        }
        if format == "vhd" {
            let [base, top] = ["low", "top"].map(|name| chain.path(name));
            assert_eq!(located(&top), locators("low.vhd"), "all name the parent");
            let [base, top] = [base, top].map(|path| std::fs::read(path).unwrap());
            assert_eq!((base[85], top[85]), (1, 0), "who was hidden is hidden");
            let merged = content(&top, Some(&content(&base, None)));
            assert_eq!(blake3::hash(&merged).to_string(), want[0], "by a second reader");
        }
    }
}

#[test]
fn a_merge_is_taken_back_whole_or_refused() {
    for format in ["qcow2", "vhd"] {
        let chain = Chain::new(format);
        std::fs::remove_file(chain.path("top")).unwrap();
        let (mid, base) = (chain.path("mid"), chain.path("low"));
        let undo = chain.dir.path().join("undo");
        let (want, before) = (chain.digest("mid"), seen(&base));
        let line = format!("chain coalesce @ --undo {}", undo.display());
        let out = on(&mid, &format!("{line} {LITTLE}"));
        assert_eq!(out.status.code(), Some(3), "{}", said(&out));
        assert!(said(&out).contains("leave --undo away"), "{}", said(&out));
        assert!(seen(&base) == before && !undo.exists());
        ends(0, &mid, &line);
        assert_eq!((chain.digest("low"), chain.digest("mid")), (want.clone(), want.clone()), "{format}");
        ends(0, &base, &format!("recover @ --undo {}", undo.display()));
        assert!(seen(&base).digest == before.digest, "{format}: not as before");
        assert_eq!(chain.digest("mid"), want);
    }
}

#[test]
fn vhds_with_siblings_are_spared() {
    let chain = Chain::new("vhd");
    let side = Image {
        kind: 4,
        uuid: *b"s a sister of it",
        parent: Some((*b"p the grand base", locators("low.vhd"))),
        ..Image::tap(16 << 20).with_block(64 << 10)
    };
    std::fs::write(chain.path("side"), side.build()).unwrap();
    let before: Vec<_> = beside(&chain.path("low")).iter().map(|path| seen(path)).collect();
    let out = on(&chain.path("mid"), "chain coalesce @ --remove");
    assert_eq!(out.status.code(), Some(3), "{}", said(&out));
    assert!(said(&out).contains("side.vhd"), "{}", said(&out));
    let now: Vec<_> = beside(&chain.path("low")).iter().map(|path| seen(path)).collect();
    assert!(now == before);
    // The leaf is nobody's parent's other child.
    ends(0, &chain.path("top"), "chain coalesce @");
}

/// A later time of the parent is a hint and no more: a copy has one, too.
#[test]
fn parents_that_were_written_to_are_doubted() {
    let doubts = |image: &Path| {
        let listed = document(image, "chain list @");
        assert_eq!(listed["whole"], true);
        let chain = listed["chain"].as_array().unwrap().clone();
        chain.iter().map(|one| !one["doubt"].is_null()).collect::<Vec<_>>()
    };
    for format in ["qcow2", "vhd"] {
        let chain = Chain::new(format);
        let leaf = chain.path("leaf");
        ends(0, &chain.path("top"), &format!("chain snapshot @ {} -O {format}", leaf.display()));
        assert!(!ends(0, &leaf, "check @").contains("last written"), "{format}");
        let file = std::fs::File::options().write(true).open(chain.path("top")).unwrap();
        let written = file.metadata().unwrap().modified().unwrap();
        if format == "vhd" {
            let bytes = std::fs::read(&leaf).unwrap();
            let header = u64::from_be_bytes(bytes[16..24].try_into().unwrap()) as usize;
            let named = u32::from_be_bytes(bytes[header + 56..][..4].try_into().unwrap());
            let since = written.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
            assert_eq!(u64::from(named) + 946_684_800, since, "the time of the parent's last change");
        }
        // The images below have no times that say anything; this one has.
        let before = doubts(&leaf);
        assert!(!before[1], "{format}: {before:?}");
        file.set_modified(written + std::time::Duration::from_secs(86_400)).unwrap();
        assert!(doubts(&leaf)[1], "{format}");
        let told = ends(0, &leaf, "check @");
        assert!(told.contains("top") && told.contains("last written to later"), "{format}: {told}");
        ends(0, &leaf, "digest @");
    }
}
