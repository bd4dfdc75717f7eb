//! Chains: what an image reads as stays, whoever it stands on, and whatever instant the program dies.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use testkit::oracle::{assert_qemu_check, qemu_raw};
use testkit::tool::{copy_sparse, output, run, said};
use testkit::vhd::{Block, Image, content, sector_bytes};

use crate::kit::{IMGTOOL, assert_told, beside, document, ends, on, seen, words};

/// The digest of what an image reads as.
fn digest(image: &Path) -> String {
    ends(0, image, "digest @ -q").split_whitespace().next().unwrap().to_owned()
}

fn qemu_io(image: &Path, format: &str, commands: &[&str]) {
    let mut args = vec!["-f", format];
    commands.iter().for_each(|command| args.extend(["-c", command]));
    args.push(image.to_str().unwrap());
    run("qemu-io", args);
}

fn qemu_child(child: &Path, base: (&str, &str), options: &str, size: &str) {
    let mut args = vec!["create", "-q", "-f", "qcow2", "-b", base.0, "-F", base.1];
    if !options.is_empty() {
        args.extend(["-o", options]);
    }
    args.push(child.to_str().unwrap());
    args.extend(Some(size).filter(|size| !size.is_empty()));
    run("qemu-img", args);
}

/// `base.X` ← `mid.qcow2` ← `top.qcow2`, all with data, zeros and holes of their own.
struct Chain {
    dir: tempfile::TempDir,
    base: PathBuf,
    base_format: &'static str,
}

impl Chain {
    fn new(base_format: &'static str, options: &str, mid_size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join(format!("base.{base_format}"));
        let path = base.to_str().unwrap();
        run("qemu-img", ["create", "-q", "-f", base_format, path, "12M"]);
        qemu_io(&base, base_format, &["write -P 1 0 3M", "write -P 2 5M 100k"]);
        let name = format!("base.{base_format}");
        let chain = Self { dir, base, base_format };
        qemu_child(&chain.mid(), (&name, base_format), options, mid_size);
        qemu_io(&chain.mid(), "qcow2", &["write -P 3 100k 700k", "write -z 2M 300k", "write -P 4 7M 64k"]);
        qemu_child(&chain.top(), ("mid.qcow2", "qcow2"), options, "");
        qemu_io(&chain.top(), "qcow2", &["write -P 5 90k 20k", "write -z 7000k 200k", "write -P 6 11M 1k"]);
        chain
    }
    /// The same in another folder: all names are relative.
    fn copy(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for path in beside(&self.base) {
            copy_sparse(&path, &dir.path().join(path.file_name().unwrap()));
        }
        let base = dir.path().join(self.base.file_name().unwrap());
        Self { dir, base, base_format: self.base_format }
    }
    fn mid(&self) -> PathBuf {
        self.dir.path().join("mid.qcow2")
    }
    fn top(&self) -> PathBuf {
        self.dir.path().join("top.qcow2")
    }
    fn backing(image: &Path) -> Option<String> {
        let text = run("qemu-img", ["info".as_ref(), "--output=json".as_ref(), image.as_os_str()]);
        let info: serde_json::Value = serde_json::from_str(&text).unwrap();
        let (name, format) = (&info["backing-filename"], &info["backing-filename-format"]);
        name.as_str().map(|name| format!("{name} {}", format.as_str().unwrap()))
    }
    /// What qemu reads from an image.
    fn read(&self, image: &Path) -> Vec<u8> {
        let raw = self.dir.path().join("read.out");
        qemu_raw(image, if image == self.base { self.base_format } else { "qcow2" }, &raw);
        std::fs::read(raw).unwrap()
    }
}

const KINDS: [(&str, &str); 5] = [
    ("raw", ""),
    ("qcow2", ""),
    ("qcow2", "cluster_size=4096"),
    ("qcow2", "extended_l2=on"),
    ("raw", "compat=0.10,cluster_size=512"),
];

#[test]
fn coalesce_puts_children_on_the_parent() {
    for (format, options) in KINDS {
        for (size, remove) in [("", ""), ("14M", " --remove")] {
            let chain = Chain::new(format, options, size);
            let (mid, top) = (chain.mid(), chain.top());
            let (want_mid, want_top) = (chain.read(&mid), chain.read(&top));
            let before = [&chain.base, &mid, &top].map(|path| seen(path));
            let dry = document(&mid, &format!("chain coalesce @ -n{remove}"));
            assert_eq!((&dry["changed"], &dry["dry-run"]), (&false.into(), &true.into()));
            assert_eq!([&chain.base, &mid, &top].map(|path| seen(path)), before, "{options}");
            let done = document(&mid, &format!("chain coalesce @ --check{remove}"));
            assert_eq!(done["changed"], true, "{done}");
            assert!(
                chain.read(&chain.base) == want_mid,
                "{format} {options}: the parent is what the child was"
            );
            assert!(chain.read(&top) == want_top, "{format} {options}");
            assert_eq!(Chain::backing(&top), Some(format!("base.{format} {format}")));
            assert_qemu_check(&top, "qcow2");
            if format == "qcow2" {
                assert_qemu_check(&chain.base, "qcow2");
            }
            assert_eq!(mid.exists(), remove.is_empty());
            if remove.is_empty() {
                assert!(chain.read(&mid) == want_mid);
                // Nothing is left to do, although the parent has another child now.
                let again = document(&mid, "chain coalesce @");
                assert_eq!((&again["changed"], again["steps"].as_array().unwrap().len()), (&false.into(), 0));
            }
        }
    }
}

#[test]
fn flatten_makes_an_image_stand_alone() {
    for (format, options) in KINDS {
        let chain = Chain::new(format, options, "");
        let top = chain.top();
        let want = chain.read(&top);
        let undo = chain.dir.path().join("undo");
        let before = seen(&top);
        let dry = document(&top, "chain flatten @ -n");
        assert_eq!((seen(&top), &dry["changed"]), (before.clone(), &false.into()));
        document(&top, &format!("chain flatten @ --undo {}", undo.display()));
        assert_eq!(Chain::backing(&top), None);
        ends(0, &top, &format!("recover @ --undo {}", undo.display()));
        assert_eq!(seen(&top).digest, before.digest);
        document(&top, "chain flatten @ --check");
        std::fs::remove_file(chain.mid()).unwrap();
        std::fs::remove_file(&chain.base).unwrap();
        assert!(chain.read(&top) == want, "{format} {options}");
        assert_qemu_check(&top, "qcow2");
        assert_eq!(document(&top, "chain flatten @")["changed"], false);
    }
}

#[test]
fn rebase_keeps_the_content_over_any_parent() {
    for (format, options) in KINDS {
        let chain = Chain::new(format, options, "");
        let top = chain.top();
        let want = chain.read(&top);
        // Shorter, with other data and some of the same.
        let other = chain.dir.path().join("a:other.qcow2");
        run("qemu-img", ["create", "-q", "-f", "qcow2", other.to_str().unwrap(), "9M"]);
        let path = format!(
            "json:{{\"driver\":\"qcow2\",\"file\":{{\"driver\":\"file\",\"filename\":\"{}\"}}}}",
            other.display()
        );
        run("qemu-io", ["-c", "write -P 1 0 3M", "-c", "write -P 9 4M 5M", &path]);
        for parent in ["a:other.qcow2", &format!("base.{format}"), "mid.qcow2"] {
            let parent = chain.dir.path().join(parent);
            document(&top, &format!("chain rebase @ {} --check", parent.display()));
            assert_eq!(
                digest(&top),
                blake3::hash(&want).to_string(),
                "{format} {options}: {}",
                parent.display()
            );
            assert!(chain.read(&top) == want);
            assert_qemu_check(&top, "qcow2");
        }
        assert_eq!(Chain::backing(&top).unwrap(), "mid.qcow2 qcow2");
        assert_qemu_check(&top, "qcow2");
        // A parent that was moved: only its name is written.
        let moved = chain.dir.path().join("sub/moved.qcow2");
        std::fs::create_dir(moved.parent().unwrap()).unwrap();
        run(
            "qemu-img",
            [
                "rebase".as_ref(),
                "-u".as_ref(),
                "-F".as_ref(),
                format.as_ref(),
                "-b".as_ref(),
                chain.base.as_os_str(),
                chain.mid().as_os_str(),
            ],
        );
        std::fs::rename(chain.mid(), &moved).unwrap();
        let len = top.metadata().unwrap().len();
        assert_eq!(on(&top, "digest @").status.code(), Some(3));
        let line = format!(
            "chain rebase @ {} --content-may-change --parent {}",
            moved.display(),
            chain.base.display()
        );
        // Its own parent is named by an absolute path now.
        ends(0, &top, &line);
        assert_eq!(
            (Chain::backing(&top).unwrap().as_str(), top.metadata().unwrap().len()),
            ("sub/moved.qcow2 qcow2", len)
        );
        assert!(chain.read(&top) == want);
    }
}

#[test]
fn what_would_harm_others_is_refused() {
    let chain = Chain::new("qcow2", "", "");
    let other = chain.dir.path().join("sibling.qcow2");
    qemu_child(&other, ("base.qcow2", "qcow2"), "", "");
    let before: Vec<_> = beside(&chain.base).iter().map(|path| seen(path)).collect();
    let refuse = |image: &Path, line: &str, code: i32, words: &str| {
        let out = on(image, line);
        assert_eq!(out.status.code(), Some(code), "{line}: {}", said(&out));
        assert!(said(&out).contains(words), "{line}: {}", said(&out));
        let now: Vec<_> = beside(&chain.base).iter().map(|path| seen(path)).collect();
        assert!(now == before, "{line}");
    };
    refuse(&chain.mid(), "chain coalesce @", 3, "sibling.qcow2");
    refuse(&chain.base, "chain coalesce @", 3, "no parent");
    refuse(&chain.mid(), &format!("chain rebase @ {}", chain.top().display()), 3, "stands on");
    refuse(&chain.mid(), &format!("chain rebase @ {}", chain.mid().display()), 3, "");
    refuse(&chain.base, &format!("chain rebase @ {}", chain.top().display()), 3, "stands on");
    refuse(&chain.top(), "chain coalesce @ --remove --undo u", 3, "undo");
    for line in ["sparsify @", "sparsify @ -n", "convert --in-place @ -O raw", "grow @ +1M", "fs replay @"] {
        refuse(&chain.base, line, 3, "stands on it");
    }
    let snap = chain.dir.path().join("snap.qcow2");
    run("qemu-img", ["snapshot", "-c", "one", other.to_str().unwrap()]);
    let out = on(&other, "chain flatten @");
    assert_eq!(out.status.code(), Some(3), "{}", said(&out));
    // Its snapshots read what they do not store from the parent, and live in the file that would be removed.
    let alone = Chain::new("qcow2", "", "");
    run("qemu-img", ["snapshot", "-c", "one", alone.top().to_str().unwrap()]);
    qemu_io(&alone.top(), "qcow2", &["write -P 7 1M 1M"]);
    let before: Vec<_> = beside(&alone.base).iter().map(|path| seen(path)).collect();
    for line in ["chain coalesce @", "chain coalesce @ --remove", "chain coalesce @ -n"] {
        assert_told(&on(&alone.top(), line), 3, &alone.top(), "internal snapshots");
        assert!(beside(&alone.base).iter().map(|path| seen(path)).eq(before.clone()), "{line}");
    }
    // A snapshot leaves its parent as it is, and does not overwrite anything.
    let parent = seen(&other);
    ends(0, &other, &format!("chain snapshot @ {}", snap.display()));
    assert_eq!((digest(&snap), seen(&other)), (digest(&other), parent));
    assert_told(&on(&other, &format!("chain snapshot @ {}", snap.display())), 3, &snap, "exists");
}

/// A chain of VHDs, built byte by byte: the parent with two blocks, the child with sectors here and there.
fn vhds(dir: &Path, creator: [u8; 4], hidden: bool) -> (PathBuf, PathBuf) {
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let tap = &creator == b"tap\0";
    let base = |len| if tap { Image::tap(len) } else { Image::dynamic(creator, len) };
    let parent = Image {
        uuid: *b"p the grand base",
        blocks: vec![Block::whole(0), Block { index: 2, sectors: vec![5..600, 4000..4096] }],
        ..base(10 << 20)
    };
    let names = vec![
        (*b"MacX", b"file://./base.vhd".to_vec()),
        (*b"W2ku", utf16(r".\base.vhd")),
        (*b"W2ru", utf16(r".\base.vhd")),
    ];
    let child = Image {
        kind: 4,
        uuid: *b"c a child of it.",
        parent: Some((parent.uuid, names)),
        blocks: vec![
            Block { index: 0, sectors: vec![0..8, 77..78, 4090..4096] },
            Block { index: 2, sectors: vec![100..900, 1000..1001] },
            Block::whole(4),
        ],
        ..base(10 << 20)
    };
    let mut bytes = parent.build();
    if hidden {
        let end = bytes.len() - 512;
        for at in [0, end] {
            bytes[at + 85] = 1;
            testkit::vhd::seal(&mut bytes[at..at + 512], 64);
        }
    }
    let paths = (dir.join("base.vhd"), dir.join("top.vhd"));
    std::fs::write(&paths.0, bytes).unwrap();
    std::fs::write(&paths.1, child.build()).unwrap();
    paths
}

fn two(base: &Path, top: &Path) -> Vec<u8> {
    let (base, top) = (std::fs::read(base).unwrap(), std::fs::read(top).unwrap());
    content(&top, Some(&content(&base, None)))
}

#[test]
fn vhd_chains_by_a_second_reader() {
    for (creator, hidden) in [(*b"win ", false), (*b"tap\0", true), (*b"vbox", false)] {
        let dir = tempfile::tempdir().unwrap();
        let (base, top) = vhds(dir.path(), creator, hidden);
        let want = two(&base, &top);
        assert_eq!(&want[..512], sector_bytes(b'c', 0));
        // A snapshot on top, and the middle goes into the base.
        let leaf = dir.path().join("leaf.vhd");
        ends(0, &top, &format!("chain snapshot @ {}", leaf.display()));
        let listed = document(&leaf, "chain list @");
        assert_eq!((&listed["whole"], listed["chain"].as_array().unwrap().len()), (&true.into(), 3));
        assert_eq!(listed["chain"][1]["parent-named-by"][2], "W2ru", "{listed}");
        assert_eq!(
            (&listed["chain"][2]["hidden"], &listed["chain"][1]["matches"]),
            (&hidden.into(), &true.into())
        );
        let digests = digest(&leaf);
        ends(0, &top, "chain coalesce @ --check");
        let merged = std::fs::read(&base).unwrap();
        assert!(content(&merged, None) == want, "{creator:?}");
        assert_eq!(merged[85], u8::from(hidden));
        assert!(two(&base, &top) == want);
        assert_eq!(digest(&leaf), digests);
        let listed = document(&leaf, "chain list @");
        assert_eq!(listed["chain"].as_array().unwrap().len(), 2, "{listed}");
        ends(0, &leaf, "check @");
        ends(0, &base, "check @");
        run("vhdiinfo", [&leaf]);
        // Flattened, the child is a dynamic image with everything.
        let dir = tempfile::tempdir().unwrap();
        let (base, top) = vhds(dir.path(), creator, hidden);
        ends(0, &top, "chain flatten @ --check");
        assert!(content(&std::fs::read(&top).unwrap(), None) == want, "{creator:?}");
        ends(0, &top, "check @");
        std::fs::remove_file(&base).unwrap();
        run("vhdiinfo", [&top]);
        // Onto another base and back: the identity of each is written, and checked.
        let (base, top) = vhds(dir.path(), creator, hidden);
        let other = Image {
            uuid: *b"o another parent",
            blocks: vec![Block::whole(1)],
            ..Image::dynamic(*b"win ", 9 << 20)
        };
        let path = dir.path().join("a longer name than before.vhd");
        std::fs::write(&path, other.build()).unwrap();
        let line = |to: &Path| {
            vec![
                "chain".to_owned(),
                "rebase".into(),
                top.to_str().unwrap().into(),
                to.to_str().unwrap().into(),
                "--check".into(),
            ]
        };
        let out = crate::kit::imgtool(line(&path));
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        assert!(two(&path, &top) == want, "{creator:?}");
        ends(0, &top, "check @");
        std::fs::rename(&path, dir.path().join("gone")).unwrap();
        std::fs::copy(&base, &path).unwrap();
        assert_eq!(on(&top, "digest @").status.code(), Some(4), "another identity under the same name");
        assert_eq!(document_of(1, &top, "chain list @")["whole"], false);
    }
}

fn document_of(code: i32, image: &Path, line: &str) -> serde_json::Value {
    serde_json::from_str(&ends(code, image, &format!("{line} --json"))).unwrap()
}

/// Killed at calls that write, all along: the child reads as it did, after `recover` where that is asked for; and the
/// command repeated comes to its end.
#[test]
fn killed_at_any_instant() {
    let parent = |chain: &Chain| chain.base.clone();
    let top = |chain: &Chain| chain.top();
    type Which<'a> = &'a dyn Fn(&Chain) -> PathBuf;
    let cases: [(&str, &str, Which); 4] = [
        ("raw", "chain coalesce @", &parent),
        ("qcow2", "chain coalesce @", &parent),
        ("raw", "chain rebase @ BASE", &top),
        ("qcow2", "chain flatten @", &top),
    ];
    for (format, line, changed) in cases {
        let whole = Chain::new(format, "cluster_size=4096", "");
        let want = [whole.mid(), whole.top()].map(|image| digest(&image));
        for call in ["pwrite64", "fsync,fdatasync", "ftruncate,unlink,unlinkat"] {
            for when in [1, 2, 4, 9, 25] {
                let chain = whole.copy();
                let image = if line.contains("coalesce") { chain.mid() } else { chain.top() };
                let line = line.replace("BASE", chain.base.to_str().unwrap());
                let inject = format!("--inject={call}:signal=KILL:when={when}");
                let log = chain.dir.path().join("strace");
                let fixed = ["-f", "-o", log.to_str().unwrap(), &inject, IMGTOOL].map(str::to_owned);
                let out = output("strace", fixed.into_iter().chain(words(&image, &line)));
                let image_changed = changed(&chain);
                ends(0, &image_changed, "recover @");
                ends(0, &chain.top(), "recover @");
                let now = || [chain.mid(), chain.top()].map(|image| digest(&image));
                assert_eq!(now(), want, "{line}: {call} {when}");
                ends(0, &image, &line);
                assert_eq!(now(), want, "{line}: {call} {when}: repeated");
                assert_qemu_check(&chain.top(), "qcow2");
                if out.status.success() {
                    break;
                }
            }
        }
    }
}

#[test]
fn hostile_chains_end_soon() {
    let dir = tempfile::tempdir().unwrap();
    let canary = dir.path().join("outside/canary.raw");
    std::fs::create_dir(canary.parent().unwrap()).unwrap();
    std::fs::write(&canary, vec![7; 1 << 20]).unwrap();
    let inside = dir.path().join("inside");
    std::fs::create_dir(&inside).unwrap();
    let image = inside.join("c00000.qcow2");
    run(
        "qemu-img",
        [
            "create",
            "-q",
            "-f",
            "qcow2",
            "-u",
            "-b",
            "c00001.qcow2",
            "-F",
            "qcow2",
            "-o",
            "cluster_size=512",
            image.to_str().unwrap(),
            "1M",
        ],
    );
    let bytes = std::fs::read(&image).unwrap();
    let at = bytes.windows(12).position(|window| window == b"c00001.qcow2").unwrap();
    let write = |n: usize, parent: usize| {
        let mut bytes = bytes.clone();
        bytes[at..at + 12].copy_from_slice(format!("c{parent:05}.qcow2").as_bytes());
        std::fs::write(inside.join(format!("c{n:05}.qcow2")), bytes).unwrap();
    };
    (0..10_000).for_each(|n| write(n, n + 1));
    let other = inside.join("other.raw");
    std::fs::write(&other, vec![0; 1 << 20]).unwrap();
    let lines = [
        "chain list @",
        "chain coalesce @",
        "chain flatten @",
        "chain rebase @ OTHER",
        "chain snapshot @ NEW",
    ];
    let lines = lines.map(|line| {
        line.replace("OTHER", other.to_str().unwrap())
            .replace("NEW", inside.join("new.qcow2").to_str().unwrap())
    });
    for line in &lines {
        let out = on(&image, line);
        assert_eq!(out.status.code(), Some(3), "{line}: {}", said(&out));
    }
    // A cycle, also of one.
    for parent in [0, 1] {
        write(0, parent);
        write(1, 0);
        for line in &lines {
            assert_eq!(on(&image, line).status.code(), Some(4), "{line}");
        }
    }
    // A name that leads out is never opened.
    let link = inside.join("link.qcow2");
    qemu_child(&link, (canary.to_str().unwrap(), "raw"), "", "1M");
    let log = dir.path().join("log");
    for line in &lines {
        let options = ["-f", "-e", "trace=open,openat,openat2", "-o", log.to_str().unwrap(), IMGTOOL]
            .map(str::to_owned);
        let out = output("strace", options.into_iter().chain(words(&link, line)));
        assert_eq!(out.status.code(), Some(3), "{line}: {}", said(&out));
        assert!(!std::fs::read_to_string(&log).unwrap().contains("canary"), "{line}");
    }
    let mut first = [0; 16];
    File::open(&canary).unwrap().read_exact_at(&mut first, 0).unwrap();
    assert_eq!(first, [7; 16]);
}
