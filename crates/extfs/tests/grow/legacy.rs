//! Growing past the reserve for boot loaders that do not know `meta_bg`: what is in the way moves.

use crate::kit::{dump, field, grow_with};
use extfs::BlockCount;
use extfs::resize::GrowOptions;
use ondisk::{Len, Offset};
use std::path::Path;
use testkit::files::Manifest;
use testkit::images::{Fill, flavor, make};
use testkit::oracle::{Mount, assert_clean, e2fsck};
use testkit::tool::{copy_sparse, run};

const LEGACY: GrowOptions = GrowOptions { legacy_boot: true };

fn files(image: &Path) -> Manifest {
    Manifest::of(Mount::new(image, "ro,noatime,loop").path())
}

fn grows(name: &str, image: &Path, sizes: &[u64]) {
    let grown = image.with_extension("grown");
    let before = files(image);
    for &to in sizes {
        copy_sparse(image, &grown);
        let (plan, change) =
            grow_with(&grown, BlockCount(to), LEGACY).unwrap_or_else(|e| panic!("{name} to {to}: {e}"));
        let fsck = e2fsck(&grown, Offset::ZERO);
        assert!(fsck.is_clean(), "{name} to {to}: {:#?}\n{}", plan.sentences(), fsck.text);
        assert!(!dump(&grown)["Filesystem features"].contains("meta_bg"), "{name} to {to}");
        assert!(!plan.moves.copies.is_empty(), "{name} to {to}: nothing moves");
        assert!(change.home_len().get() <= 4 << 20, "{name} to {to}: {} bytes of home", change.home_len());
        before.assert_same(&files(&grown));
        lives(&grown);
    }
}

fn lives(image: &Path) {
    {
        let mount = Mount::read_write(image);
        for i in 0..20 {
            std::fs::write(mount.path().join(format!("new{i}")), testkit::images::noise(i, 100_000)).unwrap();
        }
    }
    assert_clean(image, Offset::ZERO);
}

#[test]
fn past_the_reserve_without_meta_bg() {
    let dir = tempfile::tempdir().unwrap();
    let cases: [(&str, &[u64]); 5] = [
        // One descriptor block more, some more, and so many that tables and what follows them are in the way.
        ("ext3-no-resize-inode", &[300_000, 600_000, 5_000_000, 20_000_000]),
        ("ext2-revision-0", &[300_000, 5_000_000]),
        ("ext2-plain", &[300_000, 2_000_000]),
        ("ext4-no-resize-inode", &[140_000, 300_000, 3_000_000]),
        ("ext4-no-sparse-super", &[140_000, 300_000]),
    ];
    for (name, sizes) in cases {
        let image = dir.path().join(name);
        make(flavor(name), flavor(name).usual_len(), Fill::Lived, &image);
        grows(name, &image, sizes);
    }
}

/// Attribute blocks in the way, shared and not, with checksums that depend on their place and without.
#[test]
fn attributes_move() {
    for features in ["^extent,^metadata_csum,^64bit", "metadata_csum,64bit"] {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("attributes");
        std::fs::File::create(&image).unwrap().set_len(Len::mib(24).get()).unwrap();
        let features = format!("^resize_inode,^has_journal,{features}");
        let args = ["-q", "-F", "-t", "ext4", "-b", "1024", "-I", "128", "-N", "1400", "-O", &features];
        run("mke2fs", args.iter().copied().chain([image.to_str().unwrap()]));
        {
            let mount = Mount::read_write(&image);
            for i in 0..1000 {
                let file = mount.path().join(i.to_string());
                std::fs::write(&file, b"").unwrap();
                let value = testkit::images::noise(i / 2, 600);
                rustix::fs::setxattr(&file, "user.it", &value, rustix::fs::XattrFlags::empty()).unwrap();
            }
        }
        let grown = image.with_extension("grown");
        copy_sparse(&image, &grown);
        let (plan, _) = grow_with(&grown, BlockCount(80_000_000), LEGACY).unwrap();
        let shared = plan.moves.blocks.len() > 10 && plan.moves.inodes.len() > plan.moves.blocks.len();
        assert!(shared, "{features}: {} blocks", plan.moves.blocks.len());
        assert_clean(&grown, Offset::ZERO);
        files(&image).assert_same(&files(&grown));
    }
}

#[test]
fn the_resize_inode_goes_when_its_reserve_is_not_enough() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("few");
    std::fs::File::create(&image).unwrap().set_len(Len::mib(64).get()).unwrap();
    let tree = tempfile::tempdir().unwrap();
    testkit::images::plant(tree.path());
    let args = ["-q", "-F", "-t", "ext3", "-b", "1024", "-E", "resize=600000", "-d"];
    let places = [tree.path().to_str().unwrap(), image.to_str().unwrap()];
    run("mke2fs", args.iter().chain(&places).copied());
    assert!(field(&dump(&image), "Reserved GDT blocks") < 10);
    grows("few", &image, &[1_000_000, 3_000_000]);
}
