//! Whose code a boot sector holds.
//!
//! ```text
//! 0      jump, over what a filesystem or an older loader left there
//! …      code, its pointers to what comes next, its messages
//! 1b8    disk signature and partition table
//! 1fe    55 aa
//! ```
//!
//! Loaders are told by bytes that each install writes anew: what GRUB 2 keeps of the sector before it (0x03 to 0x5a) may
//! well be that of GRUB 0.9x.

use crate::layout::{BootImg, Stage1};
use ondisk::num::to_usize;
use zerocopy::FromBytes;

/// The bytes of a boot sector.
pub(crate) type Bytes = [u8; 512];

/// The code of a boot sector.
#[derive(Clone, Debug)]
pub(crate) enum Code {
    Grub2(Box<BootImg>),
    GrubLegacy(Box<Stage1>),
    Lilo,
    /// Of SYSLINUX or EXTLINUX, in a partition.
    Syslinux,
    /// Starts the partition that is marked for it.
    Chain(Chain),
    /// Zeros.
    Empty,
    Unknown,
}

/// Who has written code that only starts the boot sector of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Chain {
    Syslinux,
    Windows,
    DebianMbr,
}

/// Where code ends and the table begins.
const CODE_END: usize = 0x1b8;

/// Recognises the code of a boot sector.
pub(crate) fn recognise(sector: &Bytes) -> Code {
    let code = sector.get(..CODE_END).unwrap_or_default();
    let at = |at: u64, bytes: &[u8]| code.get(to_usize(at)..).is_some_and(|rest| rest.starts_with(bytes));
    let says = |text: &[u8]| code.windows(text.len()).any(|window| window == text);
    let grub = says(b"GRUB ");
    match () {
        () if at(0, b"\xeb\x63\x90") && grub => {
            BootImg::read_from_bytes(sector).map_or(Code::Unknown, |record| Code::Grub2(Box::new(record)))
        }
        () if at(0, b"\xeb\x48\x90") && grub => {
            Stage1::read_from_bytes(sector).map_or(Code::Unknown, |record| Code::GrubLegacy(Box::new(record)))
        }
        () if at(6, b"LILO") => Code::Lilo,
        () if at(3, b"SYSLINUX") || at(3, b"EXTLINUX") => Code::Syslinux,
        () if says(b"Operating system load error.") || says(b"Missing OS\r\n") => {
            Code::Chain(Chain::Syslinux)
        }
        () if says(b"Error loading operating system") => Code::Chain(Chain::Windows),
        () if says(b"MBR \x10\0") => Code::Chain(Chain::DebianMbr),
        () if code.iter().all(|&byte| byte == 0) => Code::Empty,
        () => Code::Unknown,
    }
}

impl Chain {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syslinux => "SYSLINUX's MBR code",
            Self::Windows => "Windows' MBR code",
            Self::DebianMbr => "Debian's MBR code",
        }
    }
}
