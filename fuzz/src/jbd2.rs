//! Filesystems whose journal waits to be replayed, and its checksums.

use crate::base::{Base, Place, Seal, sealing, span};
use crate::ext;
use disk::{Cancel, Disk, Limits, Overlay, ReadAt, Sparse, read_vec};
use extfs::layout::jbd2::{
    COMMIT, DESCRIPTOR, INCOMPAT_64BIT, INCOMPAT_CSUM_V2, INCOMPAT_CSUM_V3, MAGIC, REVOKE, TAG_LAST,
    TAG_SAME_UUID,
};
use ondisk::Span;
use ondisk::sum::crc32c;
use std::path::Path;
use std::sync::Arc;
use testkit::tool::{done, tool};

/// Flavour and how debugfs writes the journal; the latter are arguments of its `journal_open`.
const LOGS: &[(&str, &str)] =
    &[("ext4", "-c -v 3"), ("ext4", "-c -v 2"), ("ext4", ""), ("ext3", ""), ("orphans", "-c -v 3")];

/// Filesystems with a transaction or two to replay, and deleted files to be forgotten.
#[must_use]
pub fn bases() -> Vec<Base> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    LOGS.iter().map(|(flavor, how)| base(flavor, how, dir.path())).collect()
}

fn base(flavor: &str, how: &str, dir: &Path) -> Base {
    let path = dir.join(flavor);
    drop(ext::named(flavor, dir));
    orphan(&path);
    // What is replayed over the blocks of a file is any bytes; over the first ones of the disk, what is there already.
    let (head, noise, commands) = (dir.join("head"), dir.join("noise"), dir.join("commands"));
    let image = std::fs::read(&path).expect("an image");
    std::fs::write(&head, &image[1024..3072]).expect("a file");
    std::fs::write(&noise, [&[0xc0, 0x3b, 0x39, 0x98][..], &[7; 3 * 1024 - 4]].concat()).expect("a file");
    let blocks = done(tool("debugfs").args(["-R", "blocks /a/size8"]).arg(&path));
    let blocks: Vec<&str> = blocks.split_whitespace().take(3).collect();
    let mut script =
        format!("journal_open {how}\njournal_write -b {} {}\n", blocks.join(","), noise.display());
    script += &format!("journal_write -b 1,2 {}\n", head.display());
    script += &format!("journal_write -r {}\njournal_close\n", blocks[0]);
    script += &format!(
        "journal_open\njournal_write -b {} {}\njournal_close\n",
        blocks[1..].join(","),
        noise.display()
    );
    std::fs::write(&commands, script).expect("a script");
    done(tool("debugfs").arg("-w").arg("-f").arg(&commands).arg(&path));
    let disk = ext::load(&path);
    assert_replayed(&disk);
    let mut kinds = ext::places(&disk);
    // Twice as often: it is what this is about.
    let journal = kinds
        .iter()
        .rev()
        .find(|kind| kind.iter().any(|place| place.bytes.starts_with(&MAGIC.to_be_bytes())));
    let journal = journal.expect("a journal").clone();
    kinds.extend([journal.clone(), journal]);
    Base::new(&format!("{flavor} {how}"), disk, kinds)
}

/// Expects a journal with something in it, and nothing wrong.
fn assert_replayed(disk: &Sparse) {
    let (cancel, mut overlay) = (Cancel::new(), Overlay::new(disk, &crate::LIMITS));
    let done = extfs::recovered(&mut overlay, &crate::cx(&cancel)).expect("a sound journal");
    assert!(done.transactions > 1 && done.deleted == 1, "{:?}", done.sentences());
}

/// Deletes a file as a kernel that crashed before it had freed its blocks.
fn orphan(image: &Path) {
    let debugfs = |script: &str| done(tool("debugfs").args(["-w", "-R", script]).arg(image));
    let said = debugfs("stat /a/size7");
    let ino = said.split_whitespace().nth(1).expect("an inode number").to_owned();
    debugfs("unlink /a/size7");
    debugfs(&format!("set_inode_field <{ino}> links_count 0"));
    debugfs(&format!("set_super_value last_orphan {ino}"));
}

/// The superblock of a journal and every block of its log that is not empty; `blocks` are all of it.
pub(crate) fn places(disk: &Sparse, blocks: &[Span]) -> Vec<Place> {
    let first = span(blocks[0].start().get(), 1024);
    let head = Place::on(disk, first, None);
    let is_sealed = be32(&head.bytes, 0x28) & (INCOMPAT_CSUM_V2 | INCOMPAT_CSUM_V3) != 0;
    let seal = sealing(first, ext::seal_journal_superblock).filter(|_| is_sealed);
    let mut places = vec![Place { seal, ..head }];
    let all: Arc<[Span]> = blocks.into();
    let used = blocks[1..].iter().map(|&at| {
        let all = Arc::clone(&all);
        let seal: Seal = Arc::new(move |disk| drop(seal_log(disk, &all)));
        Place::on(disk, at, Some(seal))
    });
    places.extend(used.filter(|place| place.bytes.iter().any(|&byte| byte != 0)));
    places
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |word| u32::from_be_bytes(word.try_into().expect("four bytes")))
}

fn put(bytes: &mut [u8], at: usize, sum: u32) {
    bytes[at..at + 4].copy_from_slice(&sum.to_be_bytes());
}

/// What decides about checksums in a log.
struct Log {
    seed: u32,
    v3: bool,
    wide: bool,
}

impl Log {
    fn tag_len(&self) -> usize {
        // The second version's tags are two bytes longer than their fields.
        if self.v3 { 16 } else { 10 + 4 * usize::from(self.wide) }
    }

    /// The checksum of a block that has its own at `at`.
    fn sum(&self, block: &mut [u8], at: usize) {
        put(block, at, 0);
        put(block, at, crc32c(self.seed, block));
    }
}

/// Makes all checksums of the second and third version right, of whatever looks like a block of the log.
fn seal_log(disk: &mut dyn Disk, blocks: &[Span]) -> disk::Result<()> {
    let head = read_vec(disk, blocks[0], &Limits::default())?;
    let features = be32(&head, 0x28);
    if features & (INCOMPAT_CSUM_V2 | INCOMPAT_CSUM_V3) == 0 {
        return Ok(());
    }
    let log = Log {
        seed: crc32c(!0, &head[0x30..0x40]),
        v3: features & INCOMPAT_CSUM_V3 != 0,
        wide: features & INCOMPAT_64BIT != 0,
    };
    let mut at = 1;
    while at < blocks.len() {
        let mut block = read_vec(disk, blocks[at], &Limits::default())?;
        let (tail, kind) = (block.len() - 4, be32(&block, 4));
        let mut data = 0;
        match kind {
            _ if be32(&block, 0) != MAGIC => {}
            DESCRIPTOR => {
                data = seal_tags(disk, &log, &mut block, &blocks[at + 1..])?;
                log.sum(&mut block, tail);
            }
            REVOKE => log.sum(&mut block, tail),
            COMMIT => log.sum(&mut block, 0x10),
            _ => {}
        }
        disk.write_at(blocks[at].start(), &block)?;
        at += 1 + data;
    }
    Ok(())
}

/// Seals the tags of a descriptor block; how many there are.
fn seal_tags(disk: &dyn ReadAt, log: &Log, block: &mut [u8], data: &[Span]) -> disk::Result<usize> {
    let seed = crc32c(log.seed, &block[8..12]);
    let (mut at, mut count) = (12, 0);
    while at + log.tag_len() <= block.len() - 4 && count < data.len() {
        let sum = crc32c(seed, &read_vec(disk, data[count], &Limits::default())?).to_be_bytes();
        let flags = if log.v3 {
            block[at + 12..at + 16].copy_from_slice(&sum);
            be32(block, at + 4)
        } else {
            block[at + 4..at + 6].copy_from_slice(&sum[2..]);
            be32(block, at + 4) & 0xffff
        };
        count += 1;
        at += log.tag_len() + if flags & TAG_SAME_UUID == 0 { 16 } else { 0 };
        if flags & TAG_LAST != 0 {
            break;
        }
    }
    Ok(count)
}
