//! Disks: a table, a filesystem of some flavour, in a container of some kind.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use ondisk::{Len, Offset, SectorSize};
use testkit::images::{Fill, Flavor, make_at};
use testkit::oracle::{Loop, partitions, qemu_convert, qemu_raw};
use testkit::tool::{copy_sparse, tool};

/// How a disk is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Whole,
    Mbr,
    Logical,
    Gpt,
    Gpt4k,
}

pub const SCHEMES: [Scheme; 5] = [Scheme::Whole, Scheme::Mbr, Scheme::Logical, Scheme::Gpt, Scheme::Gpt4k];

/// The kinds of containers: ending, qemu's name of the format, its options.
pub const KINDS: [(&str, &str, &[&str]); 7] = [
    ("raw", "raw", &[]),
    ("vhd", "vpc", &["subformat=fixed"]),
    ("vhd", "vpc", &["subformat=dynamic"]),
    ("vhd", "vpc", &["subformat=dynamic", "force_size=on"]),
    ("qcow2", "qcow2", &["compat=0.10"]),
    ("qcow2", "qcow2", &["compat=1.1"]),
    ("qcow2", "qcow2", &["compat=1.1", "cluster_size=4096", "refcount_bits=64"]),
];

impl Scheme {
    pub fn sector(self) -> SectorSize {
        if self == Self::Gpt4k { SectorSize::B4096 } else { SectorSize::B512 }
    }

    /// Where the filesystem begins, in MiB.
    pub fn at(self) -> u64 {
        match self {
            Self::Whole => 0,
            Self::Mbr | Self::Gpt | Self::Gpt4k => 1,
            Self::Logical => 8,
        }
    }

    pub fn partition(self) -> Option<u32> {
        match self {
            Self::Whole => None,
            Self::Logical => Some(6),
            Self::Mbr | Self::Gpt | Self::Gpt4k => Some(1),
        }
    }

    fn script(self, len: Len) -> String {
        let (mib, fs) = (2048, len.get() / 512);
        match self {
            Self::Whole => String::new(),
            Self::Mbr => format!("label: dos\nlabel-id: 0x5eed0001\n1: start={mib}, size={fs}, bootable\n"),
            Self::Logical => format!(
                "label: dos\nlabel-id: 0x5eed0002\n1: start={mib}, size={mib}\n2: start={}, type=5\n\
                 5: start={}, size={mib}, type=82\n6: start={}, size={fs}\n",
                3 * mib,
                4 * mib,
                8 * mib
            ),
            Self::Gpt => format!("label: gpt\nfirst-lba: 34\n1: start={mib}, size={fs}, name=\"root fs\"\n"),
            Self::Gpt4k => {
                format!("label: gpt\nfirst-lba: 6\n1: start={}, size={}, name=\"root fs\"\n", mib / 8, fs / 8)
            }
        }
    }

    /// Makes the disk as a raw image.
    pub fn disk(self, flavor: &Flavor, fill: Fill, len: Len, to: &Path) {
        let tail = if self == Self::Whole { 0 } else { 2 };
        let size = len.get() + ((self.at() + tail) << 20);
        File::create(to).unwrap().set_len(size).unwrap();
        match self {
            Self::Whole => {}
            Self::Gpt4k => sfdisk(Loop::whole(to, SectorSize::B4096).path(), &self.script(len)),
            _ => sfdisk(to, &self.script(len)),
        }
        make_at(flavor, len, fill, to, Offset::new(self.at() << 20));
    }

    /// Where the filesystem's partition lies in a raw image.
    pub fn span(self, raw: &Path) -> (Offset, Len) {
        match self.partition() {
            None => (Offset::ZERO, Len::new(raw.metadata().unwrap().len())),
            Some(number) => {
                let all = partitions(raw, self.sector());
                let one = all.iter().find(|one| one.number == number).unwrap();
                (one.start, one.len)
            }
        }
    }
}

pub fn sfdisk(disk: &Path, script: &str) {
    let mut sfdisk = tool("sfdisk");
    sfdisk.args(["-q", "--no-reread", "--no-tell-kernel"]).arg(disk).stdin(Stdio::piped());
    let mut child = sfdisk.spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "sfdisk: {script}");
}

/// Puts a raw disk into a container; its path.
pub fn contain(raw: &Path, kind: (&str, &str, &[&str]), dir: &Path) -> PathBuf {
    let (ending, format, options) = kind;
    let image = dir.join(format!("image.{ending}"));
    if format == "raw" {
        copy_sparse(raw, &image)
    } else {
        qemu_convert(raw, "raw", &image, format, options)
    }
    image
}

/// The virtual content of an image as a raw file.
pub fn content(image: &Path, format: &str, raw: &Path) {
    if format == "raw" { copy_sparse(image, raw) } else { qemu_raw(image, format, raw) }
}
