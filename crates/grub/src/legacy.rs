//! GRUB 0.9x: stage 1 in the boot sector, and what it loads.
//!
//! ```text
//! stage 1 ─ stage 1.5 in the gap ─ opens stage 2 by its path
//! stage 1 ─ stage 2, sector by sector
//! ```
//!
//! Source of the format: what the shell of GRUB 0.97 writes, and the field names of its own headers.

use crate::layout::{COMPAT_VERSION, STAGE1_5_ADDRESS, STAGE2_ADDRESS, Stage1, Stage2};
use crate::list::{self, Form, Loaded};
use crate::{Error, Result};
use disk::{Limits, ReadAt};
use ondisk::Lba;
use ondisk::num::low8;
use ondisk::text::until_nul;
use zerocopy::FromBytes;

/// The version and both paths stand in the first bytes behind the head.
const TEXT_MAX: usize = 512;

/// What stage 1 loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Stage 1.5, which knows a filesystem and opens stage 2 by its path.
    Stage1_5,
    /// Stage 2 itself, sector by sector.
    Stage2,
}

/// What is installed of GRUB 0.9x.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stages {
    /// What stage 1 loads.
    pub next: Next,
    /// The version as it calls itself; bytes of the image.
    pub version: Vec<u8>,
    /// The partition that it reads, as Linux numbers it; `None` for the one that was booted from.
    pub partition: Option<u32>,
    /// Where it lies that stage 1.5 opens; bytes of the image.
    pub stage2: Option<Vec<u8>>,
    /// Where its menu lies; bytes of the image.
    pub menu: Option<Vec<u8>>,
}

/// Reads what stage 1 loads, with the sectors of it.
pub(crate) fn read(disk: &dyn ReadAt, stage1: &Stage1, limits: &Limits) -> Result<(Stages, Loaded)> {
    let at = Lba(stage1.stage2_sector.get().into());
    let (next, part) = match stage1.stage2_address.get() {
        STAGE1_5_ADDRESS => (Next::Stage1_5, "stage 1.5"),
        STAGE2_ADDRESS => (Next::Stage2, "stage 2"),
        other => {
            let text =
                format!("is loaded at {other:#x}, expected {STAGE1_5_ADDRESS:#x} or {STAGE2_ADDRESS:#x}");
            return Err(Error::broken("what stage 1 loads", at, text));
        }
    };
    if stage1.boot_drive != 0xff && stage1.boot_drive != 0x80 {
        return Err(Error::OtherDrive { part, drive: stage1.boot_drive });
    }
    let loaded = list::load(disk, part, at, Form::Legacy, limits)?;
    let stages = parse(next, &loaded.bytes).ok_or_else(|| {
        Error::broken(part, at, "is not of GRUB 0.9x: its second sector has no version 3.2")
    })?;
    Ok((stages, loaded))
}

fn parse(next: Next, bytes: &[u8]) -> Option<Stages> {
    let (head, rest) = Stage2::read_from_prefix(bytes).ok()?;
    if head.compat_version != COMPAT_VERSION {
        return None;
    }
    let text = rest.get(..TEXT_MAX).unwrap_or(rest);
    let version = until_nul(text).to_vec();
    let rest = text.get(version.len().checked_add(1)?..)?;
    let mut stages = Stages {
        next,
        version,
        partition: partition(head.install_partition.get()),
        stage2: None,
        menu: None,
    };
    match next {
        Next::Stage2 => stages.menu = some(until_nul(rest)),
        Next::Stage1_5 => {
            let (device, paths) = rest.split_first_chunk::<4>()?;
            stages.partition = partition(u32::from_le_bytes(*device));
            let mut words = until_nul(paths).splitn(2, |&byte| byte == b' ');
            stages.stage2 = words.next().and_then(some);
            stages.menu = words.next().and_then(some);
        }
    }
    Some(stages)
}

fn some(text: &[u8]) -> Option<Vec<u8>> {
    (!text.is_empty()).then(|| text.to_vec())
}

/// The third byte counts partitions from 0, logical ones from 4, and is 255 for the whole disk.
fn partition(device: u32) -> Option<u32> {
    let index = low8(u64::from(device) >> 16);
    (index != 0xff).then(|| u32::from(index).saturating_add(1))
}

impl Stages {
    /// The menu's path, or the built-in one.
    #[must_use]
    pub fn menu_or_default(&self) -> &[u8] {
        self.menu.as_deref().unwrap_or(b"/boot/grub/menu.lst")
    }
}
