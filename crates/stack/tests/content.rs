//! What volumes hold: as `blkid` tells it of what the real tools make, and of signatures where there is no tool.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use disk::FileDev;
use ondisk::{Len, Offset};
use stack::Content;
use stack::content::{Member, recognise};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use testkit::oracle::Loop;
use testkit::tool::{output, run, tool};

const LEN: u64 = 64 << 20;

fn image(dir: &Path) -> PathBuf {
    let path = dir.join("volume");
    File::create(&path).unwrap().set_len(LEN).unwrap();
    path
}

fn ours(path: &Path) -> Content {
    recognise(&FileDev::new(File::open(path).unwrap()).unwrap()).unwrap()
}

/// The type as blkid has it; none where it does not know.
fn theirs(path: &Path) -> Option<String> {
    let out = output("blkid", ["-p", "-o", "value", "-s", "TYPE", path.to_str().unwrap()]);
    let text = String::from_utf8(out.stdout).unwrap().trim().to_owned();
    Some(text).filter(|text| !text.is_empty())
}

#[test]
fn made_by_their_tools() {
    let dir = tempfile::tempdir().unwrap();
    let hashes = dir.path().join("data");
    File::create(&hashes).unwrap().set_len(8 << 20).unwrap();
    let hashes = hashes.to_str().unwrap();
    for line in [
        "mkfs.fat -F 12 @",
        "mkfs.fat -F 16 @",
        "mkfs.fat -F 32 @",
        "mkfs.exfat @",
        "mkntfs -Q -F -q @",
        "mkfs.f2fs -q @",
        "mkfs.jfs -q @",
        "mkfs.reiserfs -ff -q @",
        "mkfs.nilfs2 -q -B 16 @",
        "hformat @",
        "veritysetup format DATA @",
    ] {
        let path = image(dir.path());
        let words = line.split(' ').map(|word| match word {
            "@" => path.to_str().unwrap(),
            "DATA" => hashes,
            word => word,
        });
        let words: Vec<&str> = words.collect();
        run(words[0], &words[1..]);
        assert_eq!(Some(ours(&path).name().to_owned()), theirs(&path), "{line}");
    }
}

#[test]
fn drbd_keeps_its_metadata_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    // Also where the last 4096 bytes are not whole.
    for (version, len) in [("v08", LEN), ("v09", LEN), ("v08", LEN + 1536)] {
        let path = image(dir.path());
        File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
        let device = Loop::span(&path, Offset::ZERO, Len::new(len));
        let mut command = tool("drbdmeta");
        command.args(["--force", "0", version]).arg(device.path()).args(["internal", "create-md"]);
        if version == "v09" {
            command.arg("1");
        }
        let out = command.output().unwrap();
        assert!(out.status.success(), "{}", testkit::tool::said(&out));
        drop(device);
        assert_eq!(ours(&path), Content::Member(Member::Drbd), "{version} {len}");
        if len == LEN {
            assert_eq!(theirs(&path).unwrap(), "drbd");
        }
    }
}

/// By hand: bytes at places; whether blkid agrees without more of the structure.
#[test]
fn by_their_signatures() {
    let dir = tempfile::tempdir().unwrap();
    let md = |minor: u32, at: u64| {
        let mut sb = vec![0_u8; 256];
        sb[0..4].copy_from_slice(b"\xfc\x4e\x2b\xa9");
        if minor == 90 {
            sb[8..12].copy_from_slice(&90_u32.to_le_bytes());
        } else {
            sb[4] = 1;
            sb[144..152].copy_from_slice(&(at / 512).to_le_bytes());
        }
        (at, sb)
    };
    let cases = [
        ("linux_raid_member", md(0, LEN - 8192), Content::Member(Member::MdAtEnd)),
        ("linux_raid_member", md(1, 0), Content::Member(Member::Md)),
        ("linux_raid_member", md(2, 4096), Content::Member(Member::Md)),
        ("linux_raid_member", md(90, LEN - 65536), Content::Member(Member::MdAtEnd)),
        (
            "isw_raid_member",
            (LEN - 1024, b"Intel Raid ISM Cfg Sig. 1.3.00".to_vec()),
            Content::Member(Member::FirmwareRaid),
        ),
        ("LVM1_member", (0, b"HM\x01\0".to_vec()), Content::Member(Member::Lvm1)),
        ("VMFS_volume_member", (1 << 20, b"\x0d\xd0\x01\xc0".to_vec()), Content::Member(Member::VmfsExtent)),
    ];
    for (name, (at, bytes), content) in cases {
        let path = image(dir.path());
        File::options().write(true).open(&path).unwrap().write_all_at(&bytes, at).unwrap();
        assert_eq!(ours(&path), content, "{name}");
        assert_eq!(theirs(&path).as_deref(), Some(name));
        assert_eq!(content.name(), name);
    }
    // Signatures whose structures blkid checks further.
    for (name, at, bytes) in [
        ("bcachefs", 4120, &b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"[..]),
        ("apfs", 32, b"NXSB"),
        ("hfsplus", 1024, b"H+\0\x04"),
        ("VMFS", 2 << 20, b"\x5e\xf1\xab\x2f"),
        ("BitLocker", 0, b"\xeb\x58\x90-FVE-FS-"),
        ("avb_footer", LEN - 64, b"AVBf\0\0\0\x01"),
    ] {
        let path = image(dir.path());
        File::options().write(true).open(&path).unwrap().write_all_at(bytes, at).unwrap();
        assert_eq!(ours(&path).name(), name);
    }
    // What ends where this volume ends, and is not its own.
    let path = image(dir.path());
    let (at, mut sb) = md(0, LEN - 8192);
    sb[144..152].copy_from_slice(&7_u64.to_le_bytes());
    File::options().write(true).open(&path).unwrap().write_all_at(&sb, at).unwrap();
    assert_eq!((ours(&path), theirs(&path)), (Content::Empty, None));
}
