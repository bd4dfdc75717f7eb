//! Checks of all layers: what `check` prints, and what a change relies on.

use crate::content::Content;
use crate::layout::{Layout, Volume, VolumeId, discover};
use crate::{Error, Result, view};
use container::Container;
use disk::{Cx, ReadAt};
use extfs::check::Report;
use ondisk::Severity;
use std::fmt;

pub use extfs::check::Scope;

/// The layer that a finding belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layer {
    /// The container's own structures.
    Container,
    /// The partition table.
    Table,
    /// The volume groups.
    Groups,
    /// A volume's filesystem.
    Volume(VolumeId),
}

/// Something that a check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub layer: Layer,
    /// How bad it is.
    pub severity: Severity,
    /// What it is, safe to print.
    pub text: String,
}

/// What a check of everything has found.
#[derive(Debug, Default)]
pub struct Checked {
    /// The findings that are kept, from the outside in.
    pub findings: Vec<Finding>,
    /// All damage, whether kept or not.
    pub damage: u64,
    /// All leaks.
    pub leaks: u64,
    /// Filesystems whose journal or orphans were dealt with in memory.
    pub recovered: Vec<VolumeId>,
    /// Filesystems that were checked.
    pub checked: Vec<VolumeId>,
    /// Structures that could not be read at all.
    pub unreadable: Vec<Error>,
    /// Whether anything but bytes was recognised.
    pub recognised: bool,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container => f.write_str("container"),
            Self::Table => f.write_str("partition table"),
            Self::Groups => f.write_str("LVM"),
            Self::Volume(id) => id.fmt(f),
        }
    }
}

/// Checks the container, the table, the volume groups, and every ext filesystem.
///
/// # Errors
/// Where the disk cannot be read. Damage is no error.
pub fn all<D: ReadAt>(disk: &Container<D>, cx: &Cx<'_>) -> Result<Checked> {
    let mut checked = Checked::default();
    let findings = disk.check()?;
    checked.damage = findings.count(Severity::Damage);
    checked.leaks = findings.count(Severity::Leak);
    for finding in &findings {
        checked.keep(Layer::Container, finding.severity, finding.text.clone());
    }
    let layout = match discover(disk, cx) {
        Ok(layout) => layout,
        // What the container lacks is told with what has been found of it so far.
        Err(error) if matches!(error, Error::Table(_)) || checked.damage > 0 => {
            checked.unreadable.push(error);
            return Ok(checked);
        }
        Err(other) => return Err(other),
    };
    checked.findings(&Layer::Table, layout.table.iter().flat_map(|table| table.findings()));
    checked.findings(&Layer::Groups, layout.groups.findings());
    for volume in layout.volumes.iter().filter(|volume| volume.content == Content::Ext) {
        checked.volume(disk, volume, cx)?;
    }
    checked.recognised = disk.format() != container::Format::Raw
        || layout.table.is_some()
        || layout.volumes.iter().any(|one| !matches!(one.content, Content::Unknown | Content::Empty));
    Ok(checked)
}

impl Checked {
    /// Whether nothing is damaged, leaks, or could not be read.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.damage == 0 && self.leaks == 0 && self.unreadable.is_empty()
    }

    fn keep(&mut self, layer: Layer, severity: Severity, text: String) {
        self.findings.push(Finding { layer, severity, text });
    }

    fn findings<'f>(&mut self, layer: &Layer, findings: impl IntoIterator<Item = &'f ondisk::Finding>) {
        for finding in findings {
            self.damage = self.damage.saturating_add(finding.is_damage().into());
            self.keep(layer.clone(), finding.severity, finding.text.clone());
        }
    }

    fn volume(&mut self, disk: &dyn ReadAt, volume: &Volume, cx: &Cx<'_>) -> Result<()> {
        match filesystem(disk, volume, Scope::Full, cx) {
            Ok(report) => {
                self.checked.push(volume.id.clone());
                if volume.facts().is_some_and(|facts| facts.needs_recovery || facts.has_orphans) {
                    self.recovered.push(volume.id.clone());
                }
                self.report(&volume.id, &report);
                Ok(())
            }
            Err(error @ (Error::Ext { .. } | Error::Replay { .. })) => {
                self.unreadable.push(error);
                Ok(())
            }
            Err(other) => Err(other),
        }
    }

    fn report(&mut self, id: &VolumeId, report: &Report) {
        self.damage = self.damage.saturating_add(report.damage_count());
        for finding in report.damage() {
            self.keep(Layer::Volume(id.clone()), Severity::Damage, finding.to_string());
        }
        for note in report.notes() {
            self.keep(Layer::Volume(id.clone()), Severity::Note, note.to_string());
        }
    }
}

/// Refuses where the ext filesystem of a volume, as it is after its journal is replayed, has damage.
///
/// # Errors
/// The first damage that was found, with the number of findings.
pub(crate) fn volume(
    disk: &dyn ReadAt,
    layout: &Layout,
    id: &VolumeId,
    scope: Scope,
    cx: &Cx<'_>,
) -> Result<()> {
    let Some(volume) = layout.volume(id).filter(|volume| volume.content == Content::Ext) else {
        return Ok(());
    };
    let report = filesystem(disk, volume, scope, cx)?;
    match report.damage().next() {
        None => Ok(()),
        Some(first) => Err(Error::Damaged { what: format!("{id}: {first}"), count: report.damage_count() }),
    }
}

pub(crate) fn filesystem(disk: &dyn ReadAt, volume: &Volume, scope: Scope, cx: &Cx<'_>) -> Result<Report> {
    let check = |fs: &view::Filesystem<'_>| extfs::check::check(fs, scope, cx);
    view::with_filesystem(disk, volume, cx, check)?.map_err(Error::ext(&volume.id))
}
