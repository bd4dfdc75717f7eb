//! The formats by name.

use std::fmt;
use std::str::FromStr;

/// How an image file holds its virtual disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// Byte by byte.
    Raw,
    /// Virtual PC, Hyper-V of the first generation, XenServer: fixed, dynamic or differencing.
    Vhd,
    /// QEMU's copy-on-write format, versions 2 and 3.
    Qcow2,
    /// VMware's formats: one file, or a descriptor with extents beside it.
    Vmdk,
    /// Hyper-V of the second generation.
    Vhdx,
    /// VirtualBox.
    Vdi,
    /// Parallels and OpenVZ's ploop.
    Parallels,
    /// QEMU's enhanced disk, given up since.
    Qed,
    /// An export of XenServer: an archive of disks.
    Xva,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Raw,
        Self::Vhd,
        Self::Qcow2,
        Self::Vmdk,
        Self::Vhdx,
        Self::Vdi,
        Self::Parallels,
        Self::Qed,
        Self::Xva,
    ];

    /// Whether images of this format are made and changed; the others are only read.
    #[must_use]
    pub const fn is_writable(self) -> bool {
        matches!(self, Self::Raw | Self::Vhd | Self::Qcow2)
    }

    /// As QEMU calls it, for example in the header of a qcow2 image; XVA is unknown to QEMU.
    #[must_use]
    pub const fn qemu_name(self) -> &'static str {
        match self {
            Self::Vhd => "vpc",
            other => other.name(),
        }
    }

    /// In a sentence, with its article.
    #[must_use]
    pub const fn described(self) -> &'static str {
        match self {
            Self::Raw => "a raw image",
            Self::Vhd => "a vhd image",
            Self::Qcow2 => "a qcow2 image",
            Self::Vmdk => "a VMDK image",
            Self::Vhdx => "a VHDX image",
            Self::Vdi => "a VDI image",
            Self::Parallels => "a Parallels image",
            Self::Qed => "a QED image",
            Self::Xva => "an XVA archive",
        }
    }

    /// As on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Vhd => "vhd",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vhdx => "vhdx",
            Self::Vdi => "vdi",
            Self::Parallels => "parallels",
            Self::Qed => "qed",
            Self::Xva => "xva",
        }
    }

    /// What the ending of a file's name says.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let (stem, ending) = name.rsplit_once('.')?;
        if stem.is_empty() || stem.ends_with('/') {
            return None;
        }
        if name.rsplit('/').next() == Some("DiskDescriptor.xml") {
            return Some(Self::Parallels);
        }
        match ending.to_ascii_lowercase().as_str() {
            "vhd" | "vpc" => Some(Self::Vhd),
            "qcow2" => Some(Self::Qcow2),
            "raw" => Some(Self::Raw),
            "vmdk" => Some(Self::Vmdk),
            "vhdx" => Some(Self::Vhdx),
            "vdi" => Some(Self::Vdi),
            "hdd" | "hds" => Some(Self::Parallels),
            "qed" => Some(Self::Qed),
            "xva" => Some(Self::Xva),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that is no format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAFormat;

impl fmt::Display for NotAFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Format::ALL.iter().map(|format| format.name()).collect();
        write!(f, "not a format; there are {}", names.join(", "))
    }
}

impl std::error::Error for NotAFormat {}

impl FromStr for Format {
    type Err = NotAFormat;

    fn from_str(text: &str) -> Result<Self, NotAFormat> {
        let named = |format: &Format| format.name() == text || format.qemu_name() == text;
        Format::ALL.into_iter().find(named).ok_or(NotAFormat)
    }
}
