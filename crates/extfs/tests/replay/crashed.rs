//! Crashes of a busy guest.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::judge::{End, crash, is_dirty, judge};
use testkit::images::{Fill, flavor, make, noise};
use testkit::tool::run;

fn sync(path: &Path) {
    run("sync", ["-f".as_ref(), path.as_os_str()]);
}

/// Names, attributes, maps and blocks that come and go; some go so that the log revokes them.
fn work(root: &Path) {
    let dir = root.join("work");
    fs::create_dir(&dir).unwrap();
    for i in 0..40 {
        let sub = dir.join(format!("folder {i}"));
        fs::create_dir(&sub).unwrap();
        for j in 0..6 {
            fs::write(sub.join(format!("{j}")), noise(i * 10 + j, 700 * usize::try_from(j).unwrap()))
                .unwrap();
        }
    }
    sync(root);
    for i in 0..30 {
        fs::remove_dir_all(dir.join(format!("folder {i}"))).unwrap();
    }
    fs::write(dir.join("over"), noise(7, 300_000)).unwrap();
    sync(root);
    fs::rename(dir.join("folder 35"), root.join("moved")).unwrap();
    let file = File::create(dir.join("holes")).unwrap();
    for i in 0..60 {
        file.write_all_at(&noise(i, 500), i * 9000).unwrap();
    }
    file.sync_all().unwrap();
    file.set_len(100_000).unwrap();
    // Begins with the journal's magic number in each block: copies in the log are escaped.
    let magic = [0xc0, 0x3b, 0x39, 0x98].iter().copied().cycle().take(40_000).collect::<Vec<u8>>();
    fs::write(dir.join("magic"), &magic).unwrap();
    sync(root);
    fs::write(dir.join("lost"), noise(9, 100_000)).unwrap();
    fs::remove_file(dir.join("over")).unwrap();
}

fn one(name: &str, options: &str, end: End) {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let flavor = flavor(name);
    make(flavor, flavor.usual_len(), Fill::Tree, &image);
    crash(&image, options, end, work);
    assert!(is_dirty(&image), "{name}");
    let done = judge(&image, &format!("{name}{options} {end:?}"));
    assert!(done.transactions >= 2 && done.blocks.0 >= 10, "{name}: {done:?}");
}

#[test]
fn all_that_was_committed_is_there() {
    let cases = [
        ("ext4-4k", ""),
        ("ext4-1k", ",data=journal"),
        ("ext4-no-checksums", ""),
        ("ext4-no-checksums", ",journal_checksum"),
        ("ext4-no-checksums", ",journal_async_commit,data=writeback"),
        ("ext4-uninit-bg-1k", ",data=journal"),
        ("ext4-32bit", ",journal_async_commit,data=writeback"),
        ("ext3-4k", ""),
        ("ext3-1k", ",data=journal"),
        ("ext4-bigalloc", ""),
        ("ext4-orphan-file", ""),
        ("ext4-inline-data", ""),
        ("ext4-meta-bg", ""),
    ];
    let ends = [End::Copied, End::Flushed, End::Dropped];
    for ((name, options), end) in cases.into_iter().zip(ends.into_iter().cycle()) {
        one(name, options, end);
    }
    for end in ends {
        one("ext4-1k", "", end);
    }
}
