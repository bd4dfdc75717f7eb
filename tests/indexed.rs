//! `delta create --index`: the index of the bases, kept for the next time.

use std::fs::{File, read, write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;

use testkit::images::noise;
use testkit::tool::copy_sparse;

use crate::crash::count;
use crate::delta::Pair;
use crate::kit::{ends, noisy, seen, text};

/// Runs it, expects a patch like `p`, and tells what became of the index.
fn made(pair: &Pair, more: &str) -> String {
    let line = format!(
        "--json delta create --base @ {} -o {} {more}",
        text(&pair.path("target.raw")),
        text(&pair.path("q"))
    );
    let told: serde_json::Value = serde_json::from_str(&ends(0, &pair.path("base.raw"), &line)).unwrap();
    told["index"].as_str().unwrap().to_owned()
}

fn same(pair: &Pair) {
    assert!(read(pair.path("q")).unwrap() == read(pair.path("p")).unwrap());
}

#[test]
fn an_index_is_kept_and_used() {
    let pair = Pair::new();
    pair.patch();
    let index = pair.path("i");
    let with = format!("--index {}", text(&index));
    assert_eq!(made(&pair, &format!("-n {with}")), "made");
    assert!(!index.exists());
    // Young images are read to be known.
    for told in ["made", "kept"] {
        assert_eq!(made(&pair, &with), told);
        same(&pair);
    }
    assert_eq!(index.metadata().unwrap().mode() & 0o777, 0o600);
    let sound = read(&index).unwrap();
    assert_eq!(made(&pair, &format!("{with} --format vcdiff")), "kept");
    // Damaged, cut, of another base.
    for bytes in [sound[..5000].to_vec(), [&sound[..9000], b"altered", &sound[9007..]].concat()] {
        write(&index, bytes).unwrap();
        assert_eq!(made(&pair, &with), "made");
        same(&pair);
        assert!(read(&index).unwrap() == sound);
    }
    File::options()
        .write(true)
        .open(pair.path("base.raw"))
        .unwrap()
        .write_all_at(&noise(9, 9000), 2 << 20)
        .unwrap();
    assert_eq!(made(&pair, &with), "made");
    pair.delta(0, "apply --base base.raw q -o out.raw");
    assert_eq!(seen(&pair.path("out.raw")).digest, seen(&pair.path("target.raw")).digest);
}

#[test]
fn nothing_is_replaced_that_is_no_index() {
    let pair = Pair::new();
    pair.patch();
    write(pair.path("letter"), "dear index, how are you? I am fine.").unwrap();
    let before = ["base.raw", "target.raw", "letter", "p"].map(|name| seen(&pair.path(name)));
    for index in ["base.raw", "target.raw", "letter", "p", "."] {
        pair.delta(3, &format!("create --base base.raw target.raw -o q --index {index}"));
        assert!(!pair.path("q").exists(), "{index}");
    }
    for line in [
        "create --base base.raw target.raw -o q --index q",
        "create target.raw -o q --index i",
        "create --signature p target.raw -o q --index i",
    ] {
        pair.delta(2, line);
        assert!(!pair.path("q").exists() && !pair.path("i").exists(), "{line}");
    }
    assert_eq!(["base.raw", "target.raw", "letter", "p"].map(|name| seen(&pair.path(name))), before);
}

/// Of a base that is known, only what stands where the target differs is read.
#[test]
fn the_base_is_not_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let places: Vec<(u64, usize)> = (0..40).map(|n| (n << 22, 4096)).collect();
    let base = noisy(dir.path(), 160 << 20, &places);
    let [target, patch, index] = ["target", "p", "i"].map(|name| dir.path().join(name));
    copy_sparse(&base, &target);
    File::options().write(true).open(&target).unwrap().write_all_at(&[9], 60 << 20).unwrap();
    std::thread::sleep(Duration::from_millis(4100));
    let line = format!("delta create --base @ {} -o {} -j 1", text(&target), text(&patch));
    let with = format!("{line} --index {}", text(&index));
    ends(0, &base, &with);
    let (kept, all) = (count(&base, &with, "pread64"), count(&base, &line, "pread64"));
    assert!(kept + 35 < all, "{kept} {all}");
    ends(0, &base, &format!("delta verify --base @ {}", text(&patch)));
}
