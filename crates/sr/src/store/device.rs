//! A repository on a device, or an image of one: a volume group of the storage manager's.

use super::blocks::{self, Blocks};
use super::{Bytes, Entry, Kind, Store, Title};
use crate::metadata::Metadata;
use crate::name::Role;
use crate::{Error, Result};
use disk::{Cx, Linear, ReadAt};
use extfs::InodeNo;
use lvm2::Vg;
use ondisk::Finding;
use ondisk::guid::Uuid;
use ondisk::text::Printable;
use stack::{Layout, Place, Region, Volume, VolumeId, select, view};
use std::sync::Arc;

/// Files that a repository has at most: ten times what a host manages.
const FILES_MAX: usize = 1 << 16;

type Disk = Arc<dyn ReadAt + Send>;

/// A repository on a device.
pub struct OnDevice {
    disk: Disk,
    layout: Layout,
    vg: String,
    title: Title,
    entries: Vec<Entry>,
}

impl OnDevice {
    /// Finds the repository on `disk`, in the partition that `place` names where there are several.
    ///
    /// # Errors
    /// Where there is none, or several, or the device cannot be read.
    pub fn find(disk: Disk, place: &Place, cx: &Cx<'_>) -> Result<Self> {
        let layout = stack::discover(&disk, cx)?;
        let (vg, kind, uuid) = choose(&layout, place)?;
        let findings = layout.groups.findings().filter(|finding| finding.is_damage()).cloned().collect();
        let (size, free) = (vg.len(), vg.free());
        let title = Title { kind, uuid, size, free, metadata: None, findings };
        let name = vg.name().to_owned();
        let mut found = Self { disk, layout, vg: name, title, entries: Vec::new() };
        match kind {
            Kind::Ext => found.take_files(cx)?,
            _ => found.take_volumes(cx)?,
        }
        Ok(found)
    }

    fn group(&self) -> Result<&Vg> {
        self.layout.groups.named(&self.vg).ok_or_else(|| Error::None(String::new()))
    }

    fn take_volumes(&mut self, cx: &Cx<'_>) -> Result<()> {
        let vg = self.group()?;
        let entry = |lv: &lvm2::Lv| Entry {
            name: lv.name().to_owned(),
            role: Role::of_volume(lv.name()),
            len: vg.len_of(lv),
            hidden: lv.tags().iter().any(|tag| tag == "hidden"),
        };
        let entries: Vec<Entry> = vg.lvs().iter().map(entry).collect();
        match entries.iter().find(|entry| entry.role == Role::Metadata) {
            Some(mgt) => {
                let metadata = Metadata::read(&self.volume(&mgt.name)?, &cx.limits)?;
                self.title.findings.extend(metadata.findings.iter().cloned());
                let other = metadata.uuid.filter(|uuid| self.title.uuid.is_some_and(|own| own != *uuid));
                self.title
                    .findings
                    .extend(other.map(|uuid| Finding::damage(format!("MGT is that of repository {uuid}"))));
                self.title.metadata = Some(metadata);
            }
            None => self.title.findings.push(Finding::note("there is no volume MGT: names are not known")),
        }
        self.entries = entries;
        Ok(())
    }

    fn take_files(&mut self, cx: &Cx<'_>) -> Result<()> {
        let volume = self.filesystem()?;
        let entries = view::with_filesystem(&self.disk, volume, cx, files)??;
        let facts = volume.facts().cloned();
        if let Some(facts) = facts {
            (self.title.size, self.title.free) = (facts.size, facts.free);
            let damage = facts.has_errors.then(|| Finding::damage("the filesystem says that it is damaged"));
            let dirty = facts.needs_recovery.then(|| Finding::note("the filesystem was not unmounted"));
            self.title.findings.extend(damage.into_iter().chain(dirty));
        }
        self.entries = entries;
        Ok(())
    }

    /// The volume with the filesystem of the repository.
    fn filesystem(&self) -> Result<&Volume> {
        let uuid = self.title.uuid.map(|uuid| uuid.to_string());
        let of_group =
            |volume: &&Volume| matches!(&volume.id, VolumeId::Logical { vg, .. } if *vg == self.vg);
        let named = |volume: &&Volume| matches!(&volume.id, VolumeId::Logical { lv, .. } if Some(lv) == uuid.as_ref());
        let volumes = || self.layout.volumes.iter().filter(of_group);
        let missing = || Error::None(format!(": {} has no volume with files", self.vg));
        volumes().find(named).or_else(|| volumes().next()).ok_or_else(missing)
    }

    /// The bytes of a logical volume.
    fn volume(&self, name: &str) -> Result<Bytes> {
        let vg = self.group()?;
        self.region(&self.layout.groups.region(vg, vg.lv(name)?)?)
    }

    fn region(&self, region: &Region) -> Result<Bytes> {
        let disk = Arc::clone(&self.disk);
        Ok(match region {
            Region::Span(span) => Box::new(Linear::new(disk, [*span])?),
            Region::Logical { parts, .. } => Box::new(Linear::new(disk, parts.iter().cloned())?),
        })
    }
}

impl Store for OnDevice {
    fn title(&self) -> &Title {
        &self.title
    }

    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn open(&self, entry: &Entry, cx: &Cx<'_>) -> Result<Bytes> {
        if self.title.kind != Kind::Ext {
            return self.volume(&entry.name);
        }
        let volume = self.filesystem()?;
        let map = |fs: &view::Filesystem<'_>| {
            let root = fs.inode(InodeNo::ROOT)?;
            let ino = fs.lookup(&root, entry.name.as_bytes())?;
            let missing = extfs::Error::WrongKind { ino: InodeNo::ROOT, wanted: "directory with this file" };
            blocks::runs(fs, &fs.inode(ino.ok_or(missing)?)?)
        };
        let (runs, len) = view::with_filesystem(&self.disk, volume, cx, map)??;
        Ok(Box::new(Blocks::new(self.region(&volume.region)?, runs, len)))
    }
}

/// The only group of the storage manager's, or that in the place that is named.
fn choose<'l>(layout: &'l Layout, place: &Place) -> Result<(&'l Vg, Kind, Option<Uuid>)> {
    let kinds = [("VG_XenStorage-", Kind::Lvhd), ("XSLocalEXT-", Kind::Ext)];
    let here = match place {
        Place::Auto => None,
        place => Some(select::named(layout, place)?),
    };
    let on_place = |vg: &&Vg| {
        here.as_ref().is_none_or(|id| vg.pvs().iter().any(|pv| layout.groups.carrier(pv) == Some(id)))
    };
    let mut found = Vec::new();
    for vg in layout.groups.all().iter().filter(on_place) {
        let kind = kinds.iter().find_map(|(prefix, kind)| Some((vg.name().strip_prefix(prefix)?, *kind)));
        found.extend(kind.map(|(rest, kind)| (vg, kind, rest.parse().ok())));
    }
    match found.as_slice() {
        [one] => Ok(*one),
        [] => {
            let damage = layout.groups.findings().find(|finding| finding.is_damage());
            Err(Error::None(damage.map(|finding| format!(": {}", finding.text)).unwrap_or_default()))
        }
        several => {
            let names: Vec<&str> = several.iter().map(|(vg, ..)| vg.name()).collect();
            Err(Error::Several(names.join(", ")))
        }
    }
}

/// The plain files in the root directory.
fn files(fs: &view::Filesystem<'_>) -> extfs::Result<Vec<Entry>> {
    let root = fs.inode(InodeNo::ROOT)?;
    let mut entries = Vec::new();
    for entry in fs.entries(&root)?.take(FILES_MAX) {
        let entry = entry?;
        let name = String::from_utf8(entry.name).unwrap_or_else(|bad| Printable(bad.as_bytes()).to_string());
        let inode = fs.inode(entry.ino)?;
        if inode.kind() == Some(extfs::Kind::File) {
            entries.push(Entry { role: Role::of_file(&name), name, len: inode.size(), hidden: false });
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}
