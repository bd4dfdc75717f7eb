//! Disks that exist only in a header: what they cost is what is stored.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testkit::oracle::assert_qemu_check;
use testkit::tool::run;

use crate::kit::{assert_told, document, ends, on, text};

/// 1 EiB.
const LEN: u64 = 1 << 60;
/// Where a little is stored.
const AT: u64 = (600 << 50) + (3 << 20);

/// A disk of that length with 3 MiB of `byte` in it.
fn huge(dir: &Path, name: &str, byte: u8) -> PathBuf {
    let image = dir.join(name);
    run("qemu-img", ["create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", text(&image), &LEN.to_string()]);
    run("qemu-io", ["-f", "qcow2", "-c", &format!("write -q -P {byte} {AT} 3M"), text(&image)]);
    image
}

#[test]
fn a_qcow2_disk_of_an_exbibyte() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (huge(dir.path(), "a.qcow2", 7), huge(dir.path(), "b.qcow2", 8));
    let start = Instant::now();
    let map = document(&a, "map @");
    let runs: Vec<_> = map.as_array().unwrap().iter().map(|run| (&run["start"], &run["length"])).collect();
    let first = AT & !((2 << 20) - 1);
    let data = [(0, first), (first, 4 << 20), (first + (4 << 20), LEN - first - (4 << 20))];
    assert_eq!(runs.len(), data.len(), "{map}");
    assert!(runs.iter().zip(data).all(|(run, want)| *run.0 == want.0 && *run.1 == want.1), "{map}");
    assert!(ends(1, &a, &format!("compare @ {}", text(&b))).contains(&AT.to_string()));
    let measured = document(&a, "measure @ -O qcow2 --cluster-size 2M");
    let new = dir.path().join("new.qcow2");
    ends(0, &a, &format!("convert @ {} --cluster-size 2M", text(&new)));
    assert!(new.metadata().unwrap().len() <= measured["required"].as_u64().unwrap(), "{measured}");
    ends(0, &a, &format!("compare @ {}", text(&new)));
    assert_told(&on(&a, "digest @"), 3, &a, "a digest would take years");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert_qemu_check(&new, "qcow2");
    // `qemu-img compare` would take hours.
    let read = format!("read -P 7 {AT} 3M");
    let told = run("qemu-io", ["-r", "-f", "qcow2", "-c", &read, text(&new)]);
    assert!(told.contains("read 3145728/3145728") && !told.contains("failed"), "{told}");
}
