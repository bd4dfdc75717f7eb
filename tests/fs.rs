//! Files out of a guest are those that the kernel, GNU tar and debugfs see.

use crate::kit::{code, imgtool, json, text};
use ondisk::Offset;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use testkit::files::Manifest;
use testkit::images::{Fill, flavor, make};
use testkit::oracle::{Mount, assert_clean, debugfs, e2fsck};

const FLAVORS: [&str; 4] = ["ext4-1k", "ext4-inline-data", "ext4-ea-inode", "ext3-1k"];

fn image(dir: &Path, name: &str, fill: Fill) -> PathBuf {
    let image = dir.join(format!("{name}.raw"));
    let flavor = flavor(name);
    make(flavor, flavor.usual_len(), fill, &image);
    image
}

/// What `copy-out` leaves of a tree: files, folders and links with permissions and times, as the caller's own.
fn copied(mut manifest: Manifest) -> Manifest {
    manifest.0.retain(|_, entry| matches!(entry.mode >> 12, 0o10 | 0o4 | 0o12));
    for entry in manifest.0.values_mut() {
        let bits = if entry.mode >> 12 == 0o12 { 0o7777 } else { 0o777 };
        entry.mode &= 0o170_000 | bits;
        (entry.uid, entry.gid) = (0, 0);
        entry.xattrs.clear();
    }
    manifest
}

#[test]
fn a_copied_tree_is_what_the_kernel_shows() {
    let dir = tempfile::tempdir().unwrap();
    for name in FLAVORS {
        let image = image(dir.path(), name, Fill::Lived);
        let dest = dir.path().join(format!("{name}.out"));
        code(0, &["fs", "copy-out", text(&image), "/", text(&dest)]);
        let mount = Mount::read_only(&image);
        let mut there = copied(Manifest::of(mount.path()).portable());
        let mut here = copied(Manifest::of(&dest).portable());
        // A file's further names may be all that is left out.
        for manifest in [&mut there, &mut here] {
            manifest.0.values_mut().for_each(|entry| entry.links = entry.links.min(2));
        }
        there.assert_same(&here);
        let sparse = fs::metadata(dest.join("sparse")).unwrap();
        assert!(sparse.blocks() * 512 < sparse.len() / 8, "{name}: holes stay holes");
        assert!(!dest.join("dev/sda").exists() && dest.join("dev").is_dir());
    }
}

/// `u::rw-,u:1000:r--,g::r--,g:77:rwx,m::rwx,o::---`, as the kernel takes it: a version, then tag, permissions, id.
fn set_acl(file: &Path) {
    let nobody = u32::MAX;
    let entries =
        [(1, 6, nobody), (2, 4, 1000), (4, 4, nobody), (8, 7, 77), (0x10, 7, nobody), (0x20, 0, nobody)];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend([tag, 0, permissions, 0]);
        list.extend(id.to_le_bytes());
    }
    rustix::fs::setxattr(file, "system.posix_acl_access", &list, rustix::fs::XattrFlags::empty()).unwrap();
}

#[test]
fn an_archive_extracts_to_what_the_kernel_shows() {
    let dir = tempfile::tempdir().unwrap();
    for name in FLAVORS {
        let image = image(dir.path(), name, Fill::Lived);
        {
            let mount = Mount::read_write(&image);
            set_acl(&mount.path().join("etc/fstab"));
        }
        let [archive, dest] = ["tar", "out"].map(|ending| dir.path().join(format!("{name}.{ending}")));
        code(0, &["fs", "tar-out", text(&image), "-o", text(&archive)]);
        let streamed = code(0, &["fs", "tar-out", text(&image)]);
        assert_eq!(streamed, fs::read(&archive).unwrap());
        assert!(streamed.len() < 40 << 20, "holes take no space: {}", streamed.len());
        fs::create_dir(&dest).unwrap();
        let options = ["--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-xpf"];
        let out = testkit::tool::output("tar", options.iter().chain(&[text(&archive), "-C", text(&dest)]));
        assert!(out.status.success() && out.stderr.is_empty(), "{name}: {}", testkit::tool::said(&out));
        let mount = Mount::read_only(&image);
        Manifest::of(mount.path()).portable().assert_same(&Manifest::of(&dest).portable());
        code(3, &["fs", "tar-out", text(&image), "-o", text(&archive)]);
    }
}

#[test]
fn cat_gives_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path(), "ext4-1k", Fill::Lived);
    let mount = Mount::read_only(&image);
    for file in [
        "big",
        "link",
        "small/1",
        "lived/many extents",
        "lived/punched",
        "lived/unwritten",
        "sparse",
        "empty",
    ] {
        let content = code(0, &["fs", "cat", text(&image), file]);
        assert!(content == fs::read(mount.path().join(file)).unwrap(), "{file}");
    }
    code(2, &["fs", "cat", text(&image), "/nowhere"]);
    code(2, &["fs", "cat", text(&image), "/etc"]);
}

/// Its size is larger than what its inode holds: zeros follow.
#[test]
fn a_file_longer_than_its_inline_data_comes_out_whole() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path(), "ext4-inline-data", Fill::Tree);
    let _ = debugfs(&image, Offset::ZERO, true, "set_inode_field /etc/os-release size 5000\n");
    assert_clean(&image, Offset::ZERO);
    code(0, &["check", text(&image)]);
    let theirs = fs::read(Mount::read_only(&image).path().join("etc/os-release")).unwrap();
    assert_eq!(theirs.len(), 5000);
    assert!(code(0, &["fs", "cat", text(&image), "/etc/os-release"]) == theirs);
    let [dest, archive] = ["dest", "tar"].map(|name| dir.path().join(name));
    code(0, &["fs", "copy-out", text(&image), "/etc/os-release", text(&dest)]);
    assert!(fs::read(&dest).unwrap() == theirs);
    code(0, &["fs", "tar-out", text(&image), "/etc", "-o", text(&archive)]);
    let out = testkit::tool::output("tar", ["-xOf", text(&archive), "--wildcards", "*os-release"]);
    assert!(out.status.success() && out.stdout == theirs, "{}", testkit::tool::said(&out));
}

#[test]
fn find_and_ls_list_what_find_lists() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path(), "ext4-1k", Fill::Lived);
    let mount = Mount::read_only(&image);
    let kernel = |filter: &[&str]| -> BTreeSet<Vec<u8>> {
        let mut args = vec![text(mount.path())];
        args.extend(filter.iter().chain(&["-printf", "/%P\\0"]));
        let out = testkit::tool::output("find", args);
        out.stdout.split(|&byte| byte == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect()
    };
    let name = |entry: &Value, key: &str| match entry[format!("{key}_hex")].as_str() {
        Some(hex) => {
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
        }
        None => entry[key].as_str().unwrap().as_bytes().to_vec(),
    };
    let ours = |options: &[&str]| -> BTreeSet<Vec<u8>> {
        let found = json(&[&["fs", "find", text(&image), "/", "--json"], options].concat());
        found["matches"].as_array().unwrap().iter().map(|entry| name(entry, "path")).collect()
    };
    assert_eq!(ours(&[]), kernel(&[]));
    assert_eq!(ours(&["--name", "*[13]*", "--type", "f"]), kernel(&["-name", "*[13]*", "-type", "f"]));
    assert_eq!(ours(&["--type", "l"]), kernel(&["-type", "l"]));
    let listed = json(&["fs", "ls", text(&image), "-R", "--json"]);
    let listed: BTreeSet<_> = listed["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| [b"/".as_slice(), name(entry, "name").as_slice()].concat())
        .collect();
    let mut all = kernel(&[]);
    all.remove(b"/".as_slice());
    assert_eq!(listed, all);
    let flat = code(0, &["fs", "ls", text(&image), "/etc"]);
    assert_eq!(flat, b"fstab\nos-release\nthird\n");
    let long = String::from_utf8(code(0, &["fs", "ls", "-l", text(&image), "/"])).unwrap();
    assert!(long.contains("-rwsr-x--x  ") && long.contains("link -> etc/fstab"), "{long}");
    assert!(long.contains("x\\x22\\x0a") || long.contains("\\x0a"), "{long}");
}

#[test]
fn stat_tells_what_the_kernel_tells() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path(), "ext4-1k", Fill::Lived);
    let mount = Mount::read_only(&image);
    for file in ["big", "link", "etc/fstab", "setuid", "small/1", "dev/large", "home/user", "lived/one"] {
        let meta = mount.path().join(file).symlink_metadata().unwrap();
        let found = json(&["fs", "stat", text(&image), file, "--json"]);
        let time = |seconds: i64, nanoseconds: i64| Value::from(format!("{seconds}.{nanoseconds:09}"));
        assert_eq!(found["mode"], format!("{:04o}", meta.mode() & 0o7777), "{file}");
        assert_eq!(found["inode"], meta.ino());
        assert_eq!((&found["uid"], &found["gid"]), (&meta.uid().into(), &meta.gid().into()));
        assert_eq!((&found["size"], &found["links"]), (&meta.size().into(), &meta.nlink().into()));
        assert_eq!(found["allocated"], meta.blocks() * 512);
        assert_eq!(found["atime"], time(meta.atime(), meta.atime_nsec()));
        assert_eq!(found["mtime"], time(meta.mtime(), meta.mtime_nsec()));
        assert_eq!(found["ctime"], time(meta.ctime(), meta.ctime_nsec()));
        let told = debugfs(&image, Offset::ZERO, false, &format!("stat \"{file}\"\n"));
        let born = told.lines().find_map(|line| line.trim().strip_prefix("crtime: 0x")).unwrap();
        let born = u32::from_str_radix(&born[..8], 16).unwrap();
        assert!(found["crtime"].as_str().unwrap().starts_with(&format!("{born}.")), "{file}: {told}");
        let attrs = &Manifest::of(&mount.path().join(file)).0[b"".as_slice()].xattrs;
        assert_eq!(found["xattrs"].as_array().unwrap().len(), attrs.len(), "{file}");
    }
    let shown = String::from_utf8(code(0, &["fs", "stat", text(&image), "/dev/large"])).unwrap();
    assert!(shown.contains("260, 70000") && shown.contains("char-device"), "{shown}");
}

#[test]
fn a_destination_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path(), "ext4-1k", Fill::Tree);
    let dest = dir.path().join("dest");
    fs::write(&dest, "precious").unwrap();
    code(3, &["fs", "copy-out", text(&image), "/etc/fstab", text(&dest)]);
    assert_eq!(fs::read(&dest).unwrap(), b"precious");
    fs::remove_file(&dest).unwrap();
    let precious = dir.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    fs::create_dir(&dest).unwrap();
    std::os::unix::fs::symlink(&precious, dest.join("fstab")).unwrap();
    code(3, &["fs", "copy-out", text(&image), "/etc/fstab", text(&dest)]);
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
    code(0, &["fs", "copy-out", text(&image), "/etc/os-release", text(&dest)]);
    assert!(fs::read(dest.join("os-release")).unwrap().starts_with(b"ID=testkit"));
    code(0, &["fs", "copy-out", text(&image), "/setuid", text(&dest)]);
    assert_eq!(fs::metadata(dest.join("setuid")).unwrap().permissions().mode() & 0o7777, 0o751);
}

/// Replaces every occurrence of some bytes in a file.
fn patch(image: &Path, from: &[u8], to: &[u8]) {
    let bytes = fs::read(image).unwrap();
    let file = File::options().write(true).open(image).unwrap();
    let places: Vec<_> = (0..bytes.len() - from.len()).filter(|&at| bytes[at..].starts_with(from)).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|&at| file.write_all_at(to, at.try_into().unwrap()).unwrap());
}

#[test]
fn no_name_of_the_guest_leads_out_of_the_destination() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("sub/inner")).unwrap();
    for name in ["sub/good", "sub/..XevilY", "sub/zood", "sub/inner/file"] {
        fs::write(tree.join(name), name).unwrap();
    }
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, tree.join("sub/linked")).unwrap();
    std::os::unix::fs::symlink("../../../../../../etc", tree.join("up")).unwrap();
    let image = dir.path().join("hostile.raw");
    let plain = flavor("ext2-1k");
    testkit::images::format(plain, ondisk::Len::mib(8), Some(&tree), &image);
    patch(&image, b"..XevilY", b"../evil/");
    let dest = dir.path().join("dest");
    let out = imgtool(["fs", "copy-out", text(&image), "/sub", text(&dest)]);
    assert_eq!(out.status.code(), Some(4), "{}", testkit::tool::said(&out));
    let copied: BTreeSet<Vec<u8>> = Manifest::of(&dest).0.into_keys().collect();
    let want = [&b""[..], b"good", b"zood", b"inner", b"inner/file", b"linked"].map(<[u8]>::to_vec);
    assert_eq!(copied, want.into_iter().collect());
    assert!(
        fs::read_link(dest.join("linked")).unwrap().as_os_str().as_bytes() == outside.as_os_str().as_bytes()
    );
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    let out = imgtool(["fs", "tar-out", text(&image), "/sub"]);
    assert_eq!(out.status.code(), Some(4));
    assert!(!out.stdout.windows(7).any(|name| name == b"../evil"));
    // A link of the guest is followed inside the guest.
    code(2, &["fs", "cat", text(&image), "/up/passwd"]);
}

#[test]
fn replay_does_what_a_mount_does() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["ext4-1k", "ext3-1k"] {
        let image = image(dir.path(), name, Fill::Tree);
        testkit::kernel::stop_while_mounted(&image, testkit::kernel::Stop::Committed, |root| {
            (0..300).for_each(|i| fs::write(root.join(format!("new-{i}")), "written by a guest").unwrap());
            File::open(root.join("new-299")).unwrap().sync_all().unwrap();
        });
        assert!(e2fsck(&image, Offset::ZERO).needs_recovery);
        let before = fs::read(&image).unwrap();
        assert_eq!(code(0, &["fs", "cat", text(&image), "/new-299"]), b"written by a guest");
        let planned = json(&["fs", "replay", "-n", "--json", text(&image)]);
        assert_eq!((&planned["changed"], fs::read(&image).unwrap() == before), (&false.into(), true));
        let damaged = dir.path().join("damaged.raw");
        testkit::tool::copy_sparse(&image, &damaged);
        let journal = debugfs(&image, Offset::ZERO, false, "bmap <8> 0\n");
        let at: u64 = journal.lines().filter_map(|line| line.trim().parse().ok()).next_back().unwrap();
        let file = File::options().write(true).open(&damaged).unwrap();
        file.write_all_at(&[0xff; 12], at * 1024 + 12).unwrap(); // s_blocksize, s_maxlen, s_first
        drop(file); // else the image is in use
        let broken = fs::read(&damaged).unwrap();
        code(4, &["fs", "replay", text(&damaged)]);
        let archive = dir.path().join("damaged.tar");
        code(4, &["fs", "tar-out", text(&damaged), "-o", text(&archive)]);
        assert!(!archive.exists() && fs::read(&damaged).unwrap() == broken);
        let done = json(&["fs", "replay", "--json", "--check", text(&image)]);
        assert_eq!(done["changed"], true);
        assert_clean(&image, Offset::ZERO);
        let after = fs::read(&image).unwrap();
        assert_eq!(json(&["fs", "replay", "--json", text(&image)])["changed"], false);
        assert!(fs::read(&image).unwrap() == after);
        let files = Manifest::of(Mount::read_only(&image).path());
        assert!(files.0.contains_key(b"new-299".as_slice()));
    }
}
