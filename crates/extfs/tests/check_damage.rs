//! One kind of damage after the other, made with debugfs: e2fsck sees it, and we say what it is.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_possible_truncation
)]

mod checking;

use checking::{Theirs, base, findings, theirs};
use ondisk::Offset;
use testkit::small::Small;

/// Base, commands, and what one of our findings must say.
const DAMAGE: &[(&str, &str, &str)] = &[
    ("ext4", "clri /a/size5", "refers to an inode that is not in use"),
    ("ext4", "unlink /a/size4", "no directory names it"),
    ("ext4", "unlink /empty", "is a directory that no other one names"),
    ("ext4", "link /a/size4 /more", "i_links_count is 1, counted 2"),
    ("ext4", "link /a/b /again", "is another name of a directory that has one"),
    ("ext4", "link /a /a/b/c/up\nunlink /a", "is a directory above itself"),
    ("ext4", "setb 5990", "1 clusters marked in use that nobody has"),
    ("ext4", "freeb 30", "0 clusters marked in use that nobody has, 1 in use"),
    ("ext4", "seti <130>", "1 inodes marked in use that nobody has"),
    ("ext4", "freei /a/size4", "0 inodes marked in use that nobody has, 1 in use"),
    ("ext4", "sif /a/size4 links_count 7", "i_links_count is 7, counted 1"),
    ("ext4", "sif /a/size4 links_count 0", "refers to an inode that is not in use"),
    ("ext4", "sif /a/size7 blocks 99", "i_blocks is 99"),
    ("ext4", "sif /a/size7 size 1", "i_size is 1, expected more than"),
    ("ext4", "sif /a size 100", "i_size is 100, expected"),
    ("ext4", "sif /a/size4 mode 0xf1a4", "i_mode is 61860, expected a kind of file"),
    ("ext4", "sif /a/size4 mode 040755", "says another kind than its inode"),
    ("ext4", "sif /a/size4 dtime 1700000000", "is in use, and has a time of deletion"),
    ("ext4", "sif /a/size4 dtime 5", "i_dtime is 5"),
    ("ext4", "sif /a/size4 file_acl 99999", "i_file_acl is 99999"),
    ("ext4", "sif /a/size7 flags 0", "has extents, and is not marked so"),
    ("ext4", "sif /a/size7 flags 0x10080000", "has both extents and inline data"),
    ("ext4", "sif /a/size7 flags 0x40080000", "marked as one"),
    ("ext4", "sif /a/size7 faddr 3", "i_faddr is 3"),
    ("ext4", "sif /a/size7 block[0] 0x1234", "eh_magic"),
    ("ext4", "sif /a/size7 block[5] 2", "is also used by something else"),
    ("ext4", "sif /a/size7 block[5] 99999", "ee_start is 99999"),
    ("ext4", "sif /a/size7 block[3] 99", "i_size is"),
    ("ext4", "sif /fast size 3", "has no sound target"),
    ("ext4", "sif /null size 3", "i_size is 3, expected 0 in a special file"),
    ("ext4", "sif / mode 0100644", "expected the root directory"),
    ("ext4", "sif <8> mode 0", "journal: is no file in use"),
    ("ext4", "sif <8> size 1000", "its length in blocks is 0"),
    ("ext4", "sif <7> block[0] 77", "nothing but a doubly indirect block"),
    ("ext4", "sif <7> mode 0", "nothing but a doubly indirect block"),
    ("ext4", "sif <1> mode 0100644", "is not a plain list of bad blocks"),
    ("ext4", "sif <5> mode 040755", "a reserved inode's"),
    ("ext4", "ssv r_blocks_count 5999", "s_r_blocks_count is 5999"),
    ("ext4", "ssv reserved_gdt_blocks 3", "group 0"),
    ("ext4", "ssv min_extra_isize 3", "s_min_extra_isize is 3"),
    ("ext4", "ssv journal_inum 99", "journal"),
    ("ext4", "set_bg 2 free_blocks_count 3", "bg_free_blocks_count is 3"),
    ("ext4", "set_bg 2 free_inodes_count 3", "bg_free_inodes_count is 3"),
    ("ext4", "set_bg 2 used_dirs_count 3", "bg_used_dirs_count is 3"),
    ("ext4", "set_bg 2 itable_unused 9999", "bg_itable_unused is 9999"),
    ("ext4", "set_bg 2 block_bitmap 99999", "bg_block_bitmap is 99999"),
    ("ext4", "set_bg 2 inode_table 1", "blocks that no other metadata has"),
    ("ext4", "set_bg 2 checksum 77", "descriptor: checksum is 0x4d"),
    ("plain4", "set_bg 1 flags 2", "not initialised without uninit_bg"),
    ("ext3", "sif /a/size7 block[IND] 99999", "a pointer is 99999"),
    ("ext3", "sif /a/size7 block[0] 1", "is also used by something else"),
    ("ext3", "sif /a/size7 flags 0x80000", "has extents without the feature"),
    ("ext3", "sif /many flags 0x1000\nsif /empty flags 0x1000", "no head of a hash tree"),
    ("ext2", "sif /a/size7 blocks_hi 1", "i_blocks_high is 1"),
    ("inline", "sif /empty flags 0", "has no tail with a checksum"),
    ("inline", "sif /empty size 100", "i_size is 100, expected 60 bytes"),
    ("quota", "sif /a/size7 uid 44", "owner"),
    ("quota", "clri <3>", "quota"),
    ("orphans", "sif <12> size 100", "i_size is 100, expected whole blocks"),
];

#[test]
fn each_kind_of_damage_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let (mut made, mut wrong) = (None, Vec::new());
    for (name, commands, expected) in DAMAGE {
        let of = made
            .take()
            .filter(|made: &checking::Base| made.name == *name)
            .unwrap_or_else(|| base(Small::named(name), dir.path()));
        std::fs::write(&of.path, &of.bytes).unwrap();
        let said = testkit::oracle::debugfs(&of.path, Offset::ZERO, true, &format!("{commands}\n"));
        let (theirs, text) = theirs(&of.path);
        let ours = findings(&std::fs::read(&of.path).unwrap());
        if theirs == Theirs::Clean || !ours.iter().any(|finding| finding.contains(expected)) {
            wrong.push(format!(
                "{name}: {commands}\n  we: {ours:#?}\n  they: {theirs:?} {text}\n  debugfs: {said}"
            ));
        }
        made = Some(of);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
