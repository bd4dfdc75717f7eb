//! Orphans, finished by us and by the kernel.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::Path;

use crate::judge::{self, End, crash, judge};
use extfs::Recovery;
use ondisk::Offset;
use testkit::images::{Fill, Flavor, flavor, make, noise};
use testkit::oracle::{Mount, debugfs, e2fsck};
use testkit::tool::{run, tool};

/// `O_PATH | O_NOFOLLOW`: holds an inode of any kind.
const HOLD: i32 = 0o10_000_000 | 0o400_000;

fn hold(path: &Path) -> File {
    OpenOptions::new().read(true).custom_flags(HOLD).open(path).unwrap()
}

fn attribute(path: &Path, name: &str, value: &[u8]) {
    let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut set = tool("setfattr");
    set.args(["-n", name, "-v", &format!("0x{hex}")]).arg(path);
    testkit::tool::done(&mut set);
}

fn fragmented(path: &Path, pieces: u64, block: u64) {
    let file = File::create(path).unwrap();
    for i in 0..pieces {
        file.write_all_at(&noise(i, 100), i * 2 * block).unwrap();
    }
}

/// Deletes files of every kind that are held open.
fn delete(root: &Path, block: u64, large_values: bool) -> Vec<File> {
    let dir = root.join("doomed");
    fs::create_dir(&dir).unwrap();
    fragmented(&dir.join("pieces"), 900, block);
    fs::write(dir.join("plain"), noise(1, 3_000_000)).unwrap();
    fs::write(dir.join("short"), b"short").unwrap();
    symlink("x".repeat(300), dir.join("long link")).unwrap();
    symlink("fast", dir.join("fast link")).unwrap();
    fs::create_dir(dir.join("folder")).unwrap();
    run("mkfifo", [dir.join("pipe")]);
    run("mknod", [dir.join("device").to_str().unwrap(), "b", "8", "0"]);
    run("fallocate", ["-l", "2M", dir.join("unwritten").to_str().unwrap()]);
    for name in ["one", "two", "three"] {
        fs::write(dir.join(name), name).unwrap();
        attribute(&dir.join(name), "user.shared", &noise(5, 500));
        if large_values {
            attribute(&dir.join(name), "user.large", &noise(6, 9000));
        }
    }
    fs::hard_link(dir.join("one"), root.join("stays")).unwrap();
    if large_values {
        attribute(&dir.join("short"), "user.own", &noise(8, 20_000));
    }
    run("sync", ["-f".as_ref(), root.as_os_str()]);
    let held = fs::read_dir(&dir).unwrap().map(|entry| hold(&entry.unwrap().path())).collect();
    fs::remove_dir_all(&dir).unwrap();
    run("sync", ["-f".as_ref(), root.as_os_str()]);
    held
}

fn deleted(name: &str, end: End) -> Recovery {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let flavor = flavor(name);
    make(flavor, flavor.usual_len(), Fill::Empty, &image);
    let large = name.contains("ea-inode");
    crash(&image, "", end, |root| delete(root, flavor.block.into(), large));
    judge(&image, &format!("{name} {end:?}"))
}

#[test]
fn deleted_files_are_freed() {
    for (name, end) in [
        ("ext4-4k", End::Copied),
        ("ext4-1k", End::Flushed),
        ("ext4-orphan-file", End::Copied),
        ("ext4-orphan-file", End::Flushed),
        ("ext4-ea-inode", End::Copied),
        ("ext4-inline-data", End::Copied),
        ("ext4-bigalloc", End::Copied),
        ("ext4-bigalloc-1k", End::Flushed),
        ("ext4-uninit-bg-1k", End::Copied),
    ] {
        let done = deleted(name, end);
        // "one" has a name left; the folder that held them may live on in the kernel's cache only.
        assert!(done.deleted >= 11 && done.truncated == 0, "{name}: {done:?}");
    }
}

/// Lets a crash look as if it had come between setting a size and freeing what lies behind it.
fn cut(image: &Path, files: &[(u64, u64)]) {
    let mut script = String::new();
    for (at, (ino, size)) in files.iter().enumerate() {
        let next = files.get(at + 1).map_or(0, |(ino, _)| *ino);
        script += &format!("set_inode_field <{ino}> size {size}\nset_inode_field <{ino}> dtime @{next}\n");
    }
    script += &format!("set_super_value last_orphan {}\n", files[0].0);
    let _ = debugfs(image, Offset::ZERO, true, &script);
}

fn truncated(flavor: &Flavor) {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    make(flavor, flavor.usual_len(), Fill::Empty, &image);
    let block = u64::from(flavor.block);
    let mut files = Vec::new();
    {
        let mount = Mount::read_write(&image);
        let fan = block / 4;
        let edges =
            [0, 1, 11, 12, 13, 12 + fan, 13 + fan, 12 + fan + fan * 3, 500, 501, 1700, 1799, 1800, 5000];
        let tails = [0, 1, block - 1];
        for (i, at) in edges.iter().chain(&edges[3..6]).enumerate() {
            let path = mount.path().join(format!("{i}"));
            fragmented(&path, 900, block);
            files.push((fs::metadata(&path).unwrap().ino(), at * block + tails[i % 3]));
        }
        let path = mount.path().join("whole");
        fs::write(&path, noise(3, 400_000)).unwrap();
        files.push((fs::metadata(&path).unwrap().ino(), 123_457));
        if flavor.name.starts_with("ext4") {
            let path = mount.path().join("unwritten");
            run("fallocate", ["-l", "600K", path.to_str().unwrap()]);
            files.push((fs::metadata(&path).unwrap().ino(), 300_001));
        }
    }
    cut(&image, &files);
    let done = judge(&image, flavor.name);
    assert_eq!((done.deleted, usize::try_from(done.truncated).unwrap()), (0, files.len()));
}

#[test]
fn truncations_are_finished() {
    for name in ["ext4-1k", "ext4-4k", "ext3-1k", "ext4-bigalloc-1k", "ext4-no-checksums"] {
        truncated(flavor(name));
    }
}

#[test]
fn data_inside_inodes_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    make(flavor("ext4-inline-data"), flavor("ext4-inline-data").usual_len(), Fill::Empty, &image);
    let mut files = Vec::new();
    {
        let mount = Mount::read_write(&image);
        for (len, size) in [(50, 5), (50, 0), (50, 50), (100, 100), (100, 130)] {
            let path = mount.path().join(format!("{len} to {size}"));
            fs::write(&path, noise(3, len)).unwrap();
            files.push((fs::metadata(&path).unwrap().ino(), size));
        }
    }
    let longer = image.with_extension("longer");
    testkit::tool::copy_sparse(&image, &longer);
    cut(&image, &files);
    let done = judge(&image, "inline data");
    assert_eq!((done.deleted, usize::try_from(done.truncated).unwrap()), (0, files.len()));
    let [ours, theirs] = ["ours", "theirs"].map(|end| judge::contents(&image.with_extension(end), &files));
    assert_eq!(ours, theirs);
    cut(&longer, &[(files[3].0, 80)]);
    let before = judge::bytes(&longer);
    let error = judge::recover(&longer).expect_err("an attribute to be cut");
    assert_eq!(ondisk::Classified::class(&error), ondisk::Class::Unsupported, "{error}");
    assert_eq!(before, judge::bytes(&longer));
}

/// The kernel here has no quota: e2fsck counts.
#[test]
fn quota_follows() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["ext4-quota", "ext4-project"] {
        let image = dir.path().join(name);
        make(flavor(name), flavor(name).usual_len(), Fill::Tree, &image);
        let said = debugfs(&image, Offset::ZERO, false, "stat /second\nstat /setuid\n");
        let mut inodes = said.lines().filter_map(|line| line.strip_prefix("Inode: "));
        let mut next = || inodes.next().unwrap().split_whitespace().next().unwrap().to_owned();
        let [big, setuid] = [next(), next()];
        let mut script =
            format!("ssv last_orphan {big}\nsif <{big}> dtime @{setuid}\nsif <{setuid}> dtime @0\n");
        for path in ["/big", "/second", "/etc/third", "/setuid"] {
            script += &format!("unlink {path}\n");
        }
        script += &format!("sif <{big}> links_count 0\nsif <{setuid}> links_count 0\n");
        let _ = debugfs(&image, Offset::ZERO, true, &script);
        assert!(!e2fsck(&image, Offset::ZERO).is_clean());
        let done = judge::recover(&image).unwrap();
        assert_eq!(done.deleted, 2);
        let fsck = e2fsck(&image, Offset::ZERO);
        assert!(fsck.is_clean(), "{name}: {}", fsck.text);
    }
}

/// What is on the list and must not be there.
#[test]
fn lists_that_make_no_sense_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let [image, bad] = ["image", "bad"].map(|name| dir.path().join(name));
    make(flavor("ext4-1k"), flavor("ext4-1k").usual_len(), Fill::Tree, &image);
    let said = debugfs(&image, Offset::ZERO, false, "stat /big\n");
    let big = said.lines().find_map(|line| line.strip_prefix("Inode: ")).unwrap();
    let big = big.split_whitespace().next().unwrap();
    for script in [
        "ssv last_orphan 2".to_owned(),
        "ssv last_orphan 8".to_owned(),
        "ssv last_orphan 4000000000".to_owned(),
        "ssv last_orphan 16000".to_owned(),
        format!("ssv last_orphan {big}\nsif <{big}> dtime @{big}"),
        format!("ssv last_orphan {big}\nsif <{big}> dtime @16001"),
        format!("ssv last_orphan {big}\nsif <{big}> mode 0020644"),
        // Contents where the filesystem's own structures are.
        format!("ssv last_orphan {big}\nsif <{big}> links_count 0\nsif <{big}> block[5] 3"),
    ] {
        testkit::tool::copy_sparse(&image, &bad);
        let _ = debugfs(&bad, Offset::ZERO, true, &script);
        let before = judge::bytes(&bad);
        let error = judge::recover(&bad).expect_err(&script);
        assert_eq!(ondisk::Classified::class(&error), ondisk::Class::Corrupt, "{script}: {error}");
        assert_eq!(before, judge::bytes(&bad));
    }
}
