//! Chains: what an image reads as stays, whoever it stands on, and whatever instant the program dies.

mod hostile;
mod vhds;

use std::path::{Path, PathBuf};

use testkit::oracle::{assert_qemu_check, qemu_raw};
use testkit::tool::{copy_sparse, run, said};

use crate::crash::injected;
use crate::kit::{assert_told, beside, document, ends, on, seen};

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
            for when in [1, 3, 12] {
                let chain = whole.copy();
                let image = if line.contains("coalesce") { chain.mid() } else { chain.top() };
                let line = line.replace("BASE", chain.base.to_str().unwrap());
                let out = injected(&image, &line, call, &format!("signal=KILL:when={when}"));
                let image_changed = changed(&chain);
                ends(0, &image_changed, "recover @");
                ends(0, &chain.top(), "recover @");
                let now = || [chain.mid(), chain.top()].map(|image| digest(&image));
                assert_eq!(now(), want, "{line}: {call} {when}");
                ends(0, &image, &line);
                assert_eq!(now(), want, "{line}: {call} {when}: repeated");
                assert_qemu_check(&chain.top(), "qcow2");
                if out.status.success() {
                    assert!(when > 1, "{line}: nothing dies at {call}");
                    break;
                }
            }
        }
    }
}
