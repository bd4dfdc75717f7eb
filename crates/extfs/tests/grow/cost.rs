//! What a grow costs: bytes in the journal, bytes in the image, time and memory.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::kit::{dump, field, grow, plan};
use extfs::BlockCount;
use ondisk::{Len, Offset};
use testkit::images::{Fill, flavor, make};
use testkit::oracle::assert_clean;
use testkit::tool::run;

fn make_large(image: &Path, len: Len, options: &[&str]) {
    std::fs::File::create(image).unwrap().set_len(len.get()).unwrap();
    let args = ["-q", "-F", "-b", "4096", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"];
    run("mke2fs", args.iter().chain(options).copied().chain([image.to_str().unwrap()]));
}

/// The journal takes at most 4 MiB and 1 KiB for each GiB; the memory is bounded by the limits of the suite.
fn cost(image: &Path, to: Len) -> u64 {
    let before = std::fs::metadata(image).unwrap().blocks() * 512;
    let blocks = to.get() / 4096;
    let start = Instant::now();
    let planned = plan(image, BlockCount(blocks), extfs::resize::GrowOptions::default()).unwrap();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "planning took {took:?}");
    assert!(planned.packs.len() < 100_000);
    let start = Instant::now();
    let (grown, change) = grow(image, BlockCount(blocks));
    println!(
        "{}: planned in {took:?}, grown in {:?}; fresh {} home {}",
        to,
        start.elapsed(),
        change.fresh_len(),
        change.home_len()
    );
    assert!(start.elapsed() < Duration::from_secs(20));
    let added = (grown.new.blocks.0 - grown.old.blocks.0) * 4096;
    let allowed = (4 << 20) + (added >> 30 << 10);
    assert!(change.home_len().get() <= allowed, "{} bytes of home, {allowed} allowed", change.home_len());
    assert_eq!(field(&dump(image), "Block count"), blocks);
    std::fs::metadata(image).unwrap().blocks() * 512 - before
}

#[test]
fn ext3_from_10_to_20_gib_takes_at_most_6_mib() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("ext3");
    make(flavor("ext3-centos5"), Len::gib(10), Fill::Tree, &image);
    let taken = cost(&image, Len::gib(20));
    assert!(taken <= 6 << 20, "the image takes {taken} bytes more");
    assert_clean(&image, Offset::ZERO);
}

#[test]
fn ext4_from_10_to_20_gib_takes_at_most_1_mib() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("ext4");
    make(flavor("ext4-4k"), Len::gib(10), Fill::Tree, &image);
    let taken = cost(&image, Len::gib(20));
    assert!(taken <= 1 << 20, "the image takes {taken} bytes more");
    assert_clean(&image, Offset::ZERO);
}

#[test]
fn terabytes_are_cheap() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("ext4");
    make_large(&image, Len::gib(1024), &["-t", "ext4", "-O", "64bit,metadata_csum", "-i", "1048576"]);
    let taken = cost(&image, Len::gib(2048));
    assert!(taken <= 24 << 20, "the image takes {taken} bytes more");
    assert_clean(&image, Offset::ZERO);
}
