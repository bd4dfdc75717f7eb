//! What volumes call themselves: as `blkid` tells it of what the real tools make.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use disk::FileDev;
use ondisk::Len;
use stack::content::recognise;
use stack::ident::identify;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use testkit::tool::run;

/// The words in front of the file, which makes a filesystem or the like; the size in MiB.
const MADE: &[(&str, u32)] = &[
    ("mkswap -q -L halt", 2),
    ("mkswap -q -p 65536 -U 01234567-89ab-cdef-0123-456789abcdef", 2),
    ("mkfs.xfs -q -L root", 320),
    ("mkfs.btrfs -q -L tank", 128),
    ("mkntfs -Q -F -q", 16),
    ("mkfs.fat -F 12 -n BOOT", 2),
    ("mkfs.fat -F 16 -n BOOT", 20),
    ("mkfs.fat -F 32 -n ESP", 64),
    ("mkfs.fat -F 32", 64),
    ("mkfs.exfat", 16),
    ("mkfs.f2fs -q -l flash", 64),
    ("cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 --key-file /proc/version", 20),
    (
        "cryptsetup luksFormat -q --type luks2 --label vault --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file /proc/version",
        20,
    ),
];

fn blkid(image: &Path) -> HashMap<String, String> {
    let text = run("blkid", ["-p".as_ref(), "-o".as_ref(), "export".as_ref(), image.as_os_str()]);
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.into(), value.into()))
        .collect()
}

#[test]
fn as_blkid_tells_it() {
    let dir = tempfile::tempdir().unwrap();
    for (number, (line, mib)) in MADE.iter().enumerate() {
        let image = dir.path().join(number.to_string());
        File::create(&image).unwrap().set_len(u64::from(*mib) << 20).unwrap();
        let mut words = line.split(' ').map(std::ffi::OsStr::new);
        let program = words.next().unwrap().to_str().unwrap();
        run(program, words.chain([image.as_os_str()]));
        let dev = FileDev::new(File::open(&image).unwrap()).unwrap();
        let content = recognise(&dev).unwrap();
        let (ident, told) = (identify(&dev, content).unwrap(), blkid(&image));
        assert_eq!(Some(content.name()), told.get("TYPE").map(String::as_str), "{line}");
        assert_eq!(ident.uuid, told.get("UUID").cloned(), "{line}");
        assert!(ident.uuid.is_some(), "{line}");
        let label = ident.label.map(|label| String::from_utf8(label).unwrap());
        assert_eq!(label, told.get("LABEL").cloned(), "{line}");
        if let Some(size) = ident.size {
            let sizes = Len::mib(mib - mib / 8 - 1)..=Len::mib(*mib);
            assert!(sizes.contains(&size), "{line}: {size}");
            assert!(ident.free.is_none_or(|free| free < size && free > Len::mib(mib / 4)), "{line}");
        } else {
            assert!(line.contains("luks"), "{line} has no size");
        }
    }
}
