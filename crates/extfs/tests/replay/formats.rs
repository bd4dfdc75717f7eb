//! Journals made record by record, in every format that debugfs writes, and mutated ones.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use extfs::{BlockNo, Ext, InodeNo, Superblock, jbd2};
use ondisk::{Class, Classified, Len, Offset};
use testkit::images::{Fill, flavor, make, noise};
use testkit::oracle::debugfs;
use testkit::tool::{copy_sparse, output, run, said};

use crate::judge::{LIMITS, bytes, judge, open, recover};

/// The first blocks of a large file.
fn victims(image: &Path) -> Vec<BlockNo> {
    let dev = open(image);
    let fs = Ext::open(&dev, &LIMITS).unwrap();
    let said = debugfs(image, Offset::ZERO, false, "stat /second\n");
    let ino = said.lines().find_map(|line| line.strip_prefix("Inode: ")).unwrap();
    let inode = fs.inode(InodeNo(ino.split_whitespace().next().unwrap().parse().unwrap())).unwrap();
    let runs = fs.map(&inode).unwrap().map(Result::unwrap);
    runs.flat_map(|run| (0..run.count.0).map(move |by| run.start.plus(by))).take(600).collect()
}

fn list(blocks: &[BlockNo]) -> String {
    blocks.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Five transactions over the blocks of a file, and one without its end.
fn journal(image: &Path, block: usize, how: &str, count: usize) -> Vec<BlockNo> {
    let all = victims(image)[..count].to_vec();
    let content = |name: &str, seed: u64, count: usize| {
        let path = image.with_extension(name);
        let mut bytes = noise(seed, block * count);
        // The second block is one that must be escaped.
        bytes[block..block + 4].copy_from_slice(&[0xc0, 0x3b, 0x39, 0x98]);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let [a, b] = [content("a", 1, count), content("b", 2, 3)];
    let script = [
        format!("jo {how}"),
        format!("jw -b {} {a}", list(&all)),
        format!("jw -b {} {b}", list(&all[1..4])),
        format!("jw -r {}", list(&all[3..count - 20])),
        format!("jw -b {} {b}", list(&all[count - 21..count - 18])),
        format!("jw -r {}", list(&all[count - 10..])),
        format!("jw -c -b {} {b}", list(&all[10..13])),
        "jc".to_owned(),
    ];
    let said = debugfs(image, Offset::ZERO, true, &script.join("\n"));
    assert!(!said.contains("while") && !said.contains("rror"), "{said}");
    all
}

#[test]
fn every_format_is_read() {
    let dir = tempfile::tempdir().unwrap();
    for (name, how) in [
        ("ext4-1k", "-c -v 3"),
        ("ext4-1k", "-c -v 2"),
        ("ext4-4k", "-c -v 3"),
        ("ext4-32bit", "-c -v 3"),
        ("ext4-32bit", "-c -v 2"),
        ("ext4-no-checksums", ""),
        ("ext3-1k", ""),
        ("ext4-64k", "-c -v 2"),
    ] {
        let image = dir.path().join("image");
        let flavor = flavor(name);
        make(flavor, flavor.usual_len(), Fill::Tree, &image);
        let size = usize::try_from(flavor.block).unwrap();
        let all = if flavor.block > 4096 {
            let all = victims(&image);
            std::fs::write(image.with_extension("a"), noise(1, size * 3)).unwrap();
            let file = image.with_extension("a");
            let script = format!("jo {how}\njw -b {} {}\njc\n", list(&all[..3]), file.display());
            let _ = debugfs(&image, Offset::ZERO, true, &script);
            all
        } else {
            // debugfs loses its place behind several descriptors of this format.
            let count = if (name, how) == ("ext4-32bit", "-c -v 2") { 60 } else { 600 };
            journal(&image, size, how, count)
        };
        if flavor.mounts {
            let done = judge(&image, &format!("{name} {how}"));
            assert_eq!(done.transactions, 5, "{name} {how}");
            // Revoked are all from the fourth on, but for eleven before the last ten.
            assert_eq!(done.blocks.0, 3 + 11, "{name} {how}: {done:?}");
        } else {
            let done = recover(&image).unwrap();
            assert_eq!((done.transactions, done.blocks.0), (1, 3));
            let found = bytes(&image);
            for (i, block) in all[..3].iter().enumerate() {
                let at = usize::try_from(block.0).unwrap() * size;
                assert!(found[at..at + size] == noise(1, size * 3)[i * size..][..size]);
            }
        }
    }
}

/// What e2fsck makes of a journal: `None` where it finds it corrupt.
fn theirs(image: &Path) -> Option<()> {
    let out = output("e2fsck", ["-y".as_ref(), "-E".as_ref(), "journal_only".as_ref(), image.as_os_str()]);
    let text = said(&out).to_lowercase();
    let bad = ["corrupt", "invalid", "checksum error", "unsupported", "unable", "cannot", "error"];
    (out.status.code() == Some(0) && !bad.iter().any(|word| text.contains(word))).then_some(())
}

/// Blocks that both must leave alike: all but the superblock, the descriptors (whose counts e2fsck leaves) and the
/// journal.
fn alike(ours: &Path, theirs: &Path) -> bool {
    let dev = open(ours);
    let fs = Ext::open(&dev, &LIMITS).unwrap();
    let journal = fs.inode(InodeNo::JOURNAL).unwrap();
    let log: Vec<_> = fs.map(&journal).unwrap().map(Result::unwrap).collect();
    let size = fs.geom().block_size;
    let [x, y] = [bytes(ours), bytes(theirs)];
    let step = size.to_usize();
    x.chunks(step).zip(y.chunks(step)).enumerate().all(|(i, (p, q))| {
        let block = BlockNo(u64::try_from(i).unwrap());
        let own = log.iter().any(|run| block >= run.start && block < run.start.plus(run.count.0));
        own || block.0 == 1024 >> size.bits() || p == q
    })
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[test]
fn mutated_journals_harm_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let [image, ours, other] = ["image", "ours", "theirs"].map(|name| dir.path().join(name));
    let (mut good, mut refused) = (0, 0);
    for (name, how) in [("ext4-no-checksums", ""), ("ext4-1k", "-c -v 3")] {
        let flavor = flavor(name);
        make(flavor, Len::mib(24), Fill::Tree, &image);
        journal(&image, 1024, how, 600);
        let dev = open(&image);
        let fs = Ext::open(&dev, &LIMITS).unwrap();
        let inode = fs.inode(InodeNo::JOURNAL).unwrap();
        let start = fs.map(&inode).unwrap().next().unwrap().unwrap().start.0 * 1024;
        let before = bytes(&image);
        let base = usize::try_from(start).unwrap();
        // The journal's own blocks of the log: where the magic number is, and the superblock.
        let heads: Vec<u64> = (0..700_u64)
            .filter(|i| {
                before[base + usize::try_from(i * 1024).unwrap()..].starts_with(&[0xc0, 0x3b, 0x39, 0x98])
            })
            .collect();
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        for round in 0..60 {
            copy_sparse(&image, &ours);
            let file = File::options().write(true).open(&ours).unwrap();
            let block = heads[usize::try_from(dice.roll(heads.len().try_into().unwrap())).unwrap()];
            for _ in 0..=dice.roll(2) {
                let reach = [32, 96, 1024][usize::try_from(dice.roll(3)).unwrap()];
                let at = start + block * 1024 + dice.roll(reach);
                let value = [0, 1, 0x7f, 0x80, 0xff, 0x10][usize::try_from(dice.roll(6)).unwrap()];
                file.write_all_at(&[value], at).unwrap();
            }
            copy_sparse(&ours, &other);
            let judged = theirs(&other);
            let told = bytes(&ours);
            match recover(&ours) {
                Ok(_) => {
                    assert!(judged.is_some(), "{name} {round}: e2fsck finds it corrupt");
                    assert!(alike(&ours, &other), "{name} {round}: another result");
                    good += 1;
                }
                Err(error) => {
                    assert!(matches!(error.class(), Class::Corrupt | Class::Unsupported), "{error}");
                    assert!(told == bytes(&ours), "{name} {round}: changed");
                    refused += 1;
                }
            }
        }
    }
    assert!(good > 20 && refused > 20, "good {good}, refused {refused}");
}

/// Journals that would write where no journal may.
#[test]
fn a_journal_is_no_weapon() {
    let dir = tempfile::tempdir().unwrap();
    let [image, bad] = ["image", "bad"].map(|name| dir.path().join(name));
    make(flavor("ext4-1k"), flavor("ext4-1k").usual_len(), Fill::Tree, &image);
    let content = dir.path().join("content");
    std::fs::write(&content, noise(1, 1024)).unwrap();
    let log = {
        let dev = open(&image);
        let fs = Ext::open(&dev, &LIMITS).unwrap();
        let inode = fs.inode(InodeNo::JOURNAL).unwrap();
        fs.map(&inode).unwrap().next().unwrap().unwrap().start
    };
    // The superblock, a descriptor block, the journal itself, the boot block, the end, and far behind it.
    for target in [BlockNo(1), BlockNo(2), log.plus(9), BlockNo(0), BlockNo(65536), BlockNo(1 << 40)] {
        copy_sparse(&image, &bad);
        let script = format!("jo -c\njw -b {target} {}\njc\n", content.display());
        let _ = debugfs(&bad, Offset::ZERO, true, &script);
        let before = bytes(&bad);
        if !crate::judge::is_dirty(&bad) {
            continue; // debugfs refused to write that
        }
        let error = recover(&bad).expect_err("such a journal");
        assert!(matches!(error.class(), Class::Corrupt | Class::Unsupported), "{target}: {error}");
        assert!(before == bytes(&bad));
    }
}

/// An error that the journal remembers becomes one of the filesystem.
#[test]
fn an_error_on_record_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let [ours, theirs] = ["ours", "theirs"].map(|name| dir.path().join(name));
    make(flavor("ext4-no-checksums"), Len::mib(24), Fill::Tree, &ours);
    let at = {
        let dev = open(&ours);
        let fs = Ext::open(&dev, &LIMITS).unwrap();
        let inode = fs.inode(InodeNo::JOURNAL).unwrap();
        fs.map(&inode).unwrap().next().unwrap().unwrap().start.0 * 1024
    };
    File::options().write(true).open(&ours).unwrap().write_all_at(&[0, 0, 0, 5], at + 0x20).unwrap();
    copy_sparse(&ours, &theirs);
    assert_eq!(recover(&ours).unwrap().sentences().len(), 2);
    crate::judge::kernel_recovers(&theirs);
    for image in [&ours, &theirs] {
        let mut errno = [9; 4];
        File::open(image).unwrap().read_exact_at(&mut errno, at + 0x20).unwrap();
        assert_eq!(errno, [0; 4]);
        assert!(Superblock::read(&open(image)).unwrap().has_errors());
    }
}

/// Fast commits are logical records that only their writer's kernel replays; they are never passed over in silence.
#[test]
fn fast_commits_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    make(flavor("ext4-4k"), flavor("ext4-4k").usual_len(), Fill::Empty, &image);
    run("tune2fs", ["-O", "fast_commit", image.to_str().unwrap()]);
    crate::judge::crash(&image, "", crate::judge::End::Copied, |root| {
        let file = File::create(root.join("file")).unwrap();
        for i in 0..20 {
            file.write_all_at(&noise(i, 5000), i * 5000).unwrap();
            file.sync_all().unwrap();
        }
    });
    let dev = open(&image);
    let fs = Ext::open(&dev, &LIMITS).unwrap();
    let error = jbd2::plan_replay(&fs, &LIMITS).expect_err("fast commits");
    assert_eq!((error.class(), error.to_string().contains("fast commit")), (Class::Unsupported, true));
}
