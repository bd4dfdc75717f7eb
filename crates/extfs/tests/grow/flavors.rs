//! Growing filesystems of every flavour, judged by e2fsck, the kernel and resize2fs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::kit::{dump, field, grow};
use extfs::BlockCount;
use extfs::resize::GrowPlan;
use ondisk::{Len, Offset};
use testkit::files::Manifest;
use testkit::images::{FLAVORS, Fill, Flavor, make};
use testkit::oracle::{Mount, assert_clean, debugfs};
use testkit::tool::{copy_sparse, output, said};

/// The files, by the kernel where it mounts the flavour, else by debugfs.
fn files(flavor: &Flavor, image: &Path) -> Manifest {
    if flavor.mounts {
        return Manifest::of(Mount::new(image, "ro,noatime,loop").path());
    }
    let dir = tempfile::tempdir().unwrap();
    let _ = debugfs(image, Offset::ZERO, false, &format!("rdump / {}", dir.path().display()));
    let mut manifest = Manifest::of(dir.path()).portable();
    // debugfs leaves links with the time of its run.
    manifest
        .0
        .values_mut()
        .filter(|entry| entry.mode >> 12 == 0o12)
        .for_each(|entry| entry.modified = (0, 0));
    manifest
}

/// Sizes to try: within the last group, at its end, a little and a lot behind it, and many groups.
fn targets(flavor: &Flavor, image: &Path) -> Vec<u64> {
    let info = dump(image);
    let (blocks, per_group) = (field(&info, "Block count"), field(&info, "Blocks per group"));
    let first = field(&info, "First block");
    let end = first + (blocks - first).div_ceil(per_group) * per_group;
    let ratio = field(&info, "Cluster size").max(flavor.block.into()) / u64::from(flavor.block);
    let mut all = vec![
        blocks + ratio,
        end,
        end + ratio,
        end + per_group / 2 + 3,
        end + per_group * 3 + 77,
        blocks * 9 + 12345,
    ];
    all.retain(|&to| to >= blocks && to * u64::from(flavor.block) <= 24 << 30);
    all.dedup();
    all
}

/// What resize2fs makes of a copy must agree in all that matters.
fn compare_with_resize2fs(plan: &GrowPlan, before: &Path, after: &Path, to: u64) {
    let theirs = before.with_extension("resize2fs");
    copy_sparse(before, &theirs);
    let bytes = plan.new.block_size.len_of(BlockCount(to)).unwrap();
    std::fs::File::options().write(true).open(&theirs).unwrap().set_len(bytes.get()).unwrap();
    let out = output("resize2fs", ["-f".as_ref(), theirs.as_os_str(), to.to_string().as_ref()]);
    assert!(out.status.success(), "resize2fs to {to}: {}", said(&out));
    let (ours, theirs) = (dump(after), dump(&theirs));
    for name in ["Block count", "Inode count", "Free inodes", "Inodes per group", "First inode"] {
        assert_eq!(field(&ours, name), field(&theirs, name), "{name} at {to}");
    }
    let reserved = ["Reserved block count"; 2].map(|name| field(&ours, name).abs_diff(field(&theirs, name)));
    assert!(reserved[0] <= 1, "reserved blocks at {to}: {reserved:?}");
    if plan.new.cluster_bits > 0 {
        return; // with bigalloc resize2fs 1.47 counts more free blocks than there are
    }
    // They move tables out of the way where we convert to meta_bg, and place backups of few groups elsewhere.
    let free = [&ours, &theirs].map(|dump| field(dump, "Free blocks"));
    let slack = 64 + plan.new.blocks.0 / 50 * u64::from(plan.converts_to_meta_bg());
    assert!(free[0] + slack >= free[1], "free blocks at {to}: {free:?}");
}

fn one(flavor: &Flavor, len: Len, fill: Fill, dir: &Path) {
    let (image, grown) = (dir.join("image"), dir.join("grown"));
    make(flavor, len, fill, &image);
    let all = targets(flavor, &image);
    let largest = all.last().copied();
    for to in all {
        copy_sparse(&image, &grown);
        let (plan, change) = grow(&grown, BlockCount(to));
        assert!(plan.new.blocks.0 <= to);
        assert!(change.home_len().get() <= 4 << 20, "{to}: {} bytes of home", change.home_len());
        let fsck = testkit::oracle::e2fsck(&grown, Offset::ZERO);
        assert!(fsck.is_clean(), "to {to}: {:#?}\n{}\n{plan:#?}", plan.sentences(), fsck.text);
        assert_eq!(field(&dump(&grown), "Block count"), plan.new.blocks.0);
        if !flavor.name.contains("mmp") {
            compare_with_resize2fs(&plan, &image, &grown, to); // which with mmp waits for others each time
        }
        if Some(to) == largest {
            files(flavor, &image).assert_same(&files(flavor, &grown));
            twice(flavor, &grown, to);
        }
    }
}

/// Grows once more, and lets the kernel live in the result.
fn twice(flavor: &Flavor, image: &Path, blocks: u64) {
    grow(image, BlockCount(blocks + blocks / 3));
    assert_clean(image, Offset::ZERO);
    if !flavor.mounts {
        return;
    }
    // The overhead that we count is the one that the kernel counts where there is none in the superblock. With bigalloc
    // the kernel and mke2fs disagree by a cluster from the beginning.
    if !flavor.name.contains("bigalloc") {
        let usable = || Mount::new(image, "ro,noatime,loop").total();
        let ours = usable();
        let _ = debugfs(image, Offset::ZERO, true, "ssv overhead_clusters 0");
        assert_eq!(ours, usable(), "the overhead");
    }
    {
        let mount = Mount::read_write(image);
        for i in 0..40 {
            let dir = mount.path().join(format!("new{i}"));
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join("file"), testkit::images::noise(i, 200_000)).unwrap();
        }
    }
    assert_clean(image, Offset::ZERO);
}

/// Runs a case for every flavour and names those that fail.
fn each_flavor(case: impl Fn(&Flavor, &Path)) {
    let only = std::env::var("FLAVOR").ok();
    let mut failed = Vec::new();
    for flavor in FLAVORS.iter().filter(|flavor| only.as_ref().is_none_or(|name| flavor.name == name)) {
        let dir = tempfile::tempdir().unwrap();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| case(flavor, dir.path()))) {
            let text = panic.downcast_ref::<String>().cloned();
            failed.push(format!("{}: {}", flavor.name, text.unwrap_or_default()));
        }
    }
    assert!(failed.is_empty(), "{} flavours fail:\n{}", failed.len(), failed.join("\n\n"));
}

#[test]
fn every_flavour_grows() {
    each_flavor(|flavor, dir| one(flavor, flavor.usual_len(), Fill::Tree, dir));
}

#[test]
fn tiny_ones_grow() {
    each_flavor(|flavor, dir| {
        let len = Len::new(u64::from(flavor.block) * if flavor.block > 4096 { 1200 } else { 4000 });
        one(flavor, len, Fill::Empty, dir);
    });
}
