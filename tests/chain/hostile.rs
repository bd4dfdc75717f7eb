//! Chains without an end, in circles, and out of the folder.

use super::*;
use crate::kit::{IMGTOOL, text, words};
use std::fs::File;
use std::os::unix::fs::FileExt;
use testkit::tool::output;

#[test]
fn hostile_chains_end_soon() {
    let dir = tempfile::tempdir().unwrap();
    let canary = dir.path().join("outside/canary.raw");
    std::fs::create_dir(canary.parent().unwrap()).unwrap();
    std::fs::write(&canary, vec![7; 1 << 20]).unwrap();
    let inside = dir.path().join("inside");
    std::fs::create_dir(&inside).unwrap();
    let image = inside.join("c00000.qcow2");
    let named = ["-u", "-b", "c00001.qcow2", "-F", "qcow2", "-o", "cluster_size=512", text(&image), "1M"];
    run("qemu-img", ["create", "-q", "-f", "qcow2"].into_iter().chain(named));
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
        let options =
            ["-f", "--seccomp-bpf", "-e", "trace=open,openat,openat2", "-o", log.to_str().unwrap(), IMGTOOL]
                .map(str::to_owned);
        let out = output("strace", options.into_iter().chain(words(&link, line)));
        assert_eq!(out.status.code(), Some(3), "{line}: {}", said(&out));
        assert!(!std::fs::read_to_string(&log).unwrap().contains("canary"), "{line}");
    }
    let mut first = [0; 16];
    File::open(&canary).unwrap().read_exact_at(&mut first, 0).unwrap();
    assert_eq!(first, [7; 16]);
}
