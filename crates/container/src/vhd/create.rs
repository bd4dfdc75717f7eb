//! Empty images.
//!
//! The creator we name decides by which rule others read the size: `win ` is read by `current_size` everywhere.

use super::footer::FOOTER_LEN;
use super::header::{HEADER_LEN, SECTOR, bat_len};
use super::layout::{self, DynamicHeader, Footer, UNALLOCATED};
use super::size::{Geometry, LEN_MAX};
use super::step::{Step, run};
use super::{Kind, locator, seconds};
use crate::{Error, Result};
use disk::Disk;
use ondisk::guid::Uuid;
use ondisk::num::{low32, round_up, to_u64};
use ondisk::{Len, Offset, Sealed, Span};
use zerocopy::{FromZeros, IntoBytes};

/// What a new image shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The size of the disk, in whole sectors.
    pub len: Len,
    /// Its identity.
    pub uuid: Uuid,
    /// The time, in seconds since 1970.
    pub now: u64,
    /// The kind, with what it needs.
    pub kind: New,
    /// Marked as the parent of others, as XenServer does.
    pub hidden: bool,
}

/// The kind of a new image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum New {
    /// All space taken at once.
    Fixed,
    /// Blocks of 2 MiB.
    Dynamic,
    /// Over a parent.
    Differencing(ParentSpec),
}

impl New {
    /// The kind alone.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Fixed => Kind::Fixed,
            Self::Dynamic => Kind::Dynamic,
            Self::Differencing(_) => Kind::Differencing,
        }
    }
}

/// The parent of a new image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentSpec {
    /// Its name as seen from the child's folder.
    pub name: String,
    /// Its identity.
    pub id: Uuid,
    /// Its own timestamp, or when it was last changed, in seconds since 1970.
    pub timestamp: u64,
}

/// A new image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatePlan {
    kind: Kind,
    len: Len,
    file_len: Len,
    steps: Vec<Step>,
}

const BLOCK: u32 = 2 << 20;

/// Plans an empty image.
///
/// # Errors
/// Where the size is not whole sectors or too large, or the parent's name too long.
pub fn plan(spec: &Spec) -> Result<CreatePlan> {
    if !spec.len.is_aligned(SECTOR) || spec.len.is_zero() {
        return Err(Error::Usage {
            what: format!("a VHD has whole sectors of 512 bytes, not {} bytes", spec.len),
        });
    }
    if spec.len > LEN_MAX {
        return Err(Error::TooLarge { format: "VHD".to_owned(), want: spec.len, limit: LEN_MAX });
    }
    let kind = spec.kind.kind();
    let footer = footer(spec, kind);
    let mut steps = Vec::new();
    let end = match &spec.kind {
        New::Fixed => spec.len,
        New::Dynamic => tables(spec, None, &footer, &mut steps)?,
        New::Differencing(parent) => tables(spec, Some(parent), &footer, &mut steps)?,
    };
    let file_len = end.checked_add(FOOTER_LEN).unwrap_or(end);
    steps.insert(0, Step::Resize(file_len));
    steps.push(Step::Write(end.end(), footer.as_bytes().to_vec()));
    Ok(CreatePlan { kind, len: spec.len, file_len, steps })
}

fn footer(spec: &Spec, kind: Kind) -> Footer {
    let mut footer = Footer {
        cookie: layout::FOOTER_COOKIE,
        features: 2.into(),
        file_format_version: layout::VERSION.into(),
        data_offset: if kind == Kind::Fixed { u64::MAX } else { FOOTER_LEN.get() }.into(),
        timestamp: seconds(spec.now).into(),
        creator_application: *b"win ",
        creator_version: 0x0006_0001.into(),
        creator_host_os: *b"Wi2k",
        original_size: spec.len.get().into(),
        current_size: spec.len.get().into(),
        disk_type: match kind {
            Kind::Fixed => layout::FIXED,
            Kind::Dynamic => layout::DYNAMIC,
            Kind::Differencing => layout::DIFFERENCING,
        }
        .into(),
        unique_id: spec.uuid.0,
        hidden: u8::from(spec.hidden),
        ..Footer::new_zeroed()
    };
    Geometry::for_len(spec.len).store(&mut footer);
    footer.seal(&());
    footer
}

/// Footer copy, header, BAT and locators; yields where they end.
fn tables(spec: &Spec, parent: Option<&ParentSpec>, footer: &Footer, steps: &mut Vec<Step>) -> Result<Len> {
    let entries = spec.len.get().div_ceil(BLOCK.into());
    let bat_at = FOOTER_LEN.checked_add(HEADER_LEN).unwrap_or_default().end();
    let bat = Span::new(bat_at, bat_len(entries)).unwrap_or_default();
    let mut header = DynamicHeader {
        cookie: layout::HEADER_COOKIE,
        data_offset: u64::MAX.into(),
        table_offset: bat_at.get().into(),
        header_version: layout::VERSION.into(),
        max_table_entries: low32(entries).into(),
        block_size: BLOCK.into(),
        ..DynamicHeader::new_zeroed()
    };
    let mut end = bat.end();
    if let Some(parent) = parent {
        header.parent_unique_id = parent.id.0;
        header.parent_timestamp = seconds(parent.timestamp).into();
        end = name_parent(parent, &mut header, end, steps)?;
    }
    header.seal(&());
    steps.push(Step::Write(Offset::ZERO, footer.as_bytes().to_vec()));
    steps.push(Step::Write(FOOTER_LEN.end(), header.as_bytes().to_vec()));
    steps.push(Step::Unallocated(bat));
    Ok(Len::new(end.get()))
}

fn name_parent(
    parent: &ParentSpec,
    header: &mut DynamicHeader,
    mut at: Offset,
    steps: &mut Vec<Step>,
) -> Result<Offset> {
    header.parent_unicode_name = locator::name_field(&parent.name)?;
    for ((code, bytes), locator) in locator::encode(&parent.name).into_iter().zip(&mut header.parent_locators)
    {
        let len = to_u64(bytes.len());
        let space = round_up(len, SECTOR).filter(|&space| space <= 1 << 16).ok_or_else(locator::too_long)?;
        locator.platform_code = code;
        locator.platform_data_space = low32(space).into();
        locator.platform_data_length = low32(len).into();
        locator.platform_data_offset = at.get().into();
        steps.push(Step::Write(at, bytes));
        at = at.checked_add(Len::new(space)).unwrap_or(at);
    }
    Ok(at)
}

impl CreatePlan {
    /// The length of the file.
    #[must_use]
    pub const fn file_len(&self) -> Len {
        self.file_len
    }

    /// What happens.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        vec![format!("an empty {} VHD with a disk of {} bytes", self.kind.name(), self.len)]
    }

    /// Does it, on an empty file.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn apply(self, file: &mut dyn Disk) -> disk::Result<()> {
        run(self.steps, file)
    }
}

const _: () = assert!(UNALLOCATED == u32::MAX, "an empty table is all 0xff");
