//! Volume groups, physical and logical volumes, and what they are made of.
//!
//! ```text
//! physical volume   label | metadata area | extent 0 | extent 1 | ...
//! logical volume    segment 1 | segment 2 | ...        each striped over runs of extents, or of another type
//! ```
//!
//! 1. A volume group is what its newest text says. It can be read although it is damaged; then `findings` says so, and
//!    no change of it is planned.
//! 2. Numbers and counts of extents have 32 bits, sizes of extents 41: their products are byte positions.
//! 3. Segments of types other than `striped` are kept by name. Their volumes can be neither mapped nor changed, but what
//!    they name counts as used.

use crate::label::Label;
use crate::mda::Mda;
use crate::text::Text;
use crate::unit::{ExtentCount, ExtentNo, ExtentRange, ExtentSize};
use crate::{Error, Result, Uuid};
use ondisk::{Finding, Len, Offset, Span};
use std::collections::BTreeMap;

/// A physical volume at hand.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    /// Its place among the disks that were read.
    pub(crate) index: usize,
    pub(crate) len: Len,
    pub(crate) label: Label,
    pub(crate) areas: Vec<Mda>,
    /// What is wrong or strange about it by itself.
    pub(crate) findings: Vec<Finding>,
}

/// A volume group.
#[derive(Clone, Debug)]
pub struct Vg {
    pub(crate) name: String,
    pub(crate) uuid: Uuid,
    pub(crate) seqno: u32,
    pub(crate) extent_size: ExtentSize,
    pub(crate) status: Vec<String>,
    pub(crate) lock_type: Option<String>,
    pub(crate) policy: Policy,
    pub(crate) pvs: Vec<Pv>,
    pub(crate) lvs: Vec<Lv>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) text: Text,
}

/// A physical volume of a volume group.
#[derive(Clone, Debug)]
pub struct Pv {
    pub(crate) name: String,
    pub(crate) uuid: Uuid,
    pub(crate) device_len: Option<Len>,
    pub(crate) pe_start: Offset,
    pub(crate) pe_count: ExtentCount,
    pub(crate) status: Vec<String>,
    pub(crate) device: Option<Device>,
}

/// A logical volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lv {
    pub(crate) name: String,
    pub(crate) uuid: Uuid,
    pub(crate) status: Vec<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) policy: Policy,
    pub(crate) segment_count: u64,
    pub(crate) segments: Vec<Segment>,
    pub(crate) user: Option<User>,
}

/// The logical volume that another one is part, origin or pool of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub lv: String,
    /// The type of its segment.
    pub kind: String,
    /// As what: `origin`, `cow_store`, `pool`, …
    pub role: String,
}

/// Extents of a logical volume that are mapped in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its logical extents.
    pub extents: ExtentRange,
    /// How they are mapped.
    pub mapping: Mapping,
}

/// How the extents of a segment are mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// Onto one run of extents, or in turns onto several of the same length.
    Striped {
        /// How many bytes before it is the next one's turn.
        stripe: Len,
        /// The runs.
        areas: Vec<Area>,
    },
    /// In a way that only its name is known of.
    Other {
        /// The type: `thin`, `raid1`, `snapshot`, …
        kind: String,
        /// Runs of extents that it uses itself.
        areas: Vec<Area>,
        /// The logical volumes it is made of, each as what.
        parts: Vec<(String, String)>,
    },
}

/// A run of extents of a physical volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Area {
    /// The physical volume, by its place in [`Vg::pvs`].
    pub pv: usize,
    /// Its extents.
    pub extents: ExtentRange,
}

/// Where new extents may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// As the volume group has it.
    Inherit,
    /// From right behind the last ones.
    Contiguous,
    /// From the same physical volumes.
    Cling,
    /// From everywhere.
    Normal,
}

impl Vg {
    /// Its name; letters, digits and `+_.-` only.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its identifier.
    #[must_use]
    pub const fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// How often it has been changed.
    #[must_use]
    pub const fn seqno(&self) -> u32 {
        self.seqno
    }

    /// The size of its extents.
    #[must_use]
    pub const fn extent_size(&self) -> ExtentSize {
        self.extent_size
    }

    /// Its physical volumes.
    #[must_use]
    pub fn pvs(&self) -> &[Pv] {
        &self.pvs
    }

    /// Its logical volumes, hidden ones included.
    #[must_use]
    pub fn lvs(&self) -> &[Lv] {
        &self.lvs
    }

    /// What is wrong or strange about it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The logical volume of that name.
    ///
    /// # Errors
    /// Where there is none.
    pub fn lv(&self, name: &str) -> Result<&Lv> {
        self.lvs.iter().find(|lv| lv.name == name).ok_or_else(|| Error::NoLv {
            vg: self.name.clone(),
            lv: ondisk::text::Printable(name.as_bytes()).to_string(),
        })
    }

    /// The physical volume at that place of [`Vg::pvs`].
    ///
    /// # Errors
    /// Where there is none.
    pub fn pv(&self, number: usize) -> Result<&Pv> {
        self.pvs.get(number).ok_or_else(|| Error::NoPv { vg: self.name.clone(), number })
    }

    /// The physical volumes that are not at hand.
    pub fn missing(&self) -> impl Iterator<Item = &Pv> {
        self.pvs.iter().filter(|pv| pv.device.is_none())
    }

    /// Its size: all extents of all physical volumes.
    #[must_use]
    pub fn len(&self) -> Len {
        let count = self.pvs.iter().fold(0_u64, |sum, pv| sum.saturating_add(pv.pe_count.0));
        self.extent_size.len_of(ExtentCount(count)).unwrap_or_default()
    }

    /// Whether it has no extents.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len().is_zero()
    }

    /// The bytes of all extents that no logical volume uses.
    #[must_use]
    pub fn free(&self) -> Len {
        let free = crate::alloc::free(self);
        let count = free.iter().flatten().fold(0_u64, |sum, range| sum.saturating_add(range.count.0));
        self.extent_size.len_of(ExtentCount(count)).unwrap_or_default()
    }

    /// The size of a logical volume.
    #[must_use]
    pub fn len_of(&self, lv: &Lv) -> Len {
        self.extent_size.len_of(lv.extents()).unwrap_or_default()
    }

    /// The bytes of a physical volume's extents, from the start of its device.
    #[must_use]
    pub fn span_of(&self, area: Area) -> Option<Span> {
        self.extent_size.span_of(self.pvs.get(area.pv)?.pe_start, area.extents)
    }

    pub(crate) fn policy_of(&self, lv: &Lv) -> Policy {
        if lv.policy == Policy::Inherit { self.policy } else { lv.policy }
    }

    /// Refuses where something is damaged.
    pub(crate) fn require_sound(&self) -> Result<()> {
        let mut damage = self.findings.iter().filter(|finding| finding.is_damage());
        match damage.next() {
            None => Ok(()),
            Some(first) => {
                Err(Error::Damaged { vg: self.name.clone(), first: first.text.clone(), more: damage.count() })
            }
        }
    }
}

impl Pv {
    /// Its name in the text: `pv0`, `pv1`, …
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its identifier.
    #[must_use]
    pub const fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Its place among the disks that were read; `None` where it is missing.
    #[must_use]
    pub fn disk(&self) -> Option<usize> {
        self.device.as_ref().map(|device| device.index)
    }

    /// How many extents it has.
    #[must_use]
    pub const fn extents(&self) -> ExtentCount {
        self.pe_count
    }

    /// Where its extents begin on its device.
    #[must_use]
    pub const fn data_start(&self) -> Offset {
        self.pe_start
    }

    /// The places of its metadata areas on its device, where that is at hand.
    pub fn metadata_areas(&self) -> impl Iterator<Item = Span> + '_ {
        self.device.iter().flat_map(|device| device.areas.iter().map(|area| area.span))
    }

    /// Whether its extents may be handed out.
    #[must_use]
    pub fn is_allocatable(&self) -> bool {
        self.has("ALLOCATABLE")
    }

    pub(crate) fn has(&self, status: &str) -> bool {
        self.status.iter().any(|one| one == status)
    }
}

impl Lv {
    /// Its name; letters, digits and `+_.-` only.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its identifier.
    #[must_use]
    pub const fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Its segments, in order.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// How many extents it has.
    #[must_use]
    pub fn extents(&self) -> ExtentCount {
        ExtentCount(self.segments.last().map_or(0, |segment| segment.extents.end().0))
    }

    /// Whether people see it; others are parts.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        self.has("VISIBLE")
    }

    /// Whether it may be written to.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.has("WRITE")
    }

    /// The words that somebody has hung on it, safe to print.
    #[must_use]
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// The logical volume that it is a part, origin or pool of.
    #[must_use]
    pub const fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// What it is: `linear`, `striped`, or the type of its first segment of another type.
    #[must_use]
    pub fn kind(&self) -> &str {
        let other = self.segments.iter().find_map(|segment| match &segment.mapping {
            Mapping::Other { kind, .. } => Some(kind.as_str()),
            Mapping::Striped { .. } => None,
        });
        let striped = |segment: &Segment| segment.mapping.areas().len() > 1;
        let own = if self.segments.iter().any(striped) { "striped" } else { "linear" };
        other.unwrap_or(own)
    }

    pub(crate) fn has(&self, status: &str) -> bool {
        self.status.iter().any(|one| one == status)
    }
}

impl Mapping {
    /// The extents it uses.
    #[must_use]
    pub fn areas(&self) -> &[Area] {
        match self {
            Self::Striped { areas, .. } | Self::Other { areas, .. } => areas,
        }
    }
}

/// Notes in each logical volume who is made of it.
pub(crate) fn connect(lvs: &mut [Lv]) {
    let mut users = BTreeMap::new();
    for lv in lvs.iter() {
        for segment in &lv.segments {
            if let Mapping::Other { kind, parts, .. } = &segment.mapping {
                for (role, part) in parts.iter().filter(|(_, part)| *part != lv.name) {
                    let user = || User { lv: lv.name.clone(), kind: kind.clone(), role: role.clone() };
                    users.entry(part.clone()).or_insert_with(user);
                }
            }
        }
    }
    for lv in lvs {
        lv.user = users.remove(&lv.name);
    }
}

/// A run of extents, where its numbers are such.
pub(crate) const fn run(first: u64, count: u64) -> ExtentRange {
    ExtentRange { first: ExtentNo(first), count: ExtentCount(count) }
}
