//! The VDIs of a repository: what their images say, and which stands on which.
//!
//! 1. A parent is found by the identifier in the names that the child has for it, else by the identity in its image.
//! 2. The number of images is bounded by the names on the storage, and each is looked at once.

mod chain;
#[cfg(test)]
mod tests;

pub use chain::open_chain;

use crate::metadata::Record;
use crate::name::{Journal, Role, uuids_in};
use crate::store::{Bytes, Entry, Kind, Store};
use crate::{Error, Result};
use container::{Container, Facts, Format, ParentRef};
use disk::Cx;
use ondisk::guid::Uuid;
use ondisk::{Finding, Len};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

/// Chains that are longer get no more snapshots from the host.
const DEPTH: usize = 30;

/// What a repository holds.
#[derive(Clone, Debug)]
pub struct Repository {
    /// The virtual disks, in the order of their identifiers.
    pub vdis: Vec<Vdi>,
    /// Changes that the host has not finished, by the names of their journals.
    pub pending: Vec<(String, Journal)>,
    /// What operations have left behind.
    pub leftovers: Vec<String>,
    /// What is wrong or strange about it, its storage included.
    pub findings: Vec<Finding>,
    /// Those that stand on each, in the order of their identifiers.
    children: BTreeMap<Uuid, Vec<Uuid>>,
}

/// A virtual disk.
#[derive(Clone, Debug)]
pub struct Vdi {
    /// Its identifier.
    pub uuid: Uuid,
    /// The format of its image, by its name.
    pub format: Format,
    /// The volume or file.
    pub entry: Entry,
    /// What its image says; `None` where it cannot be read.
    pub image: Option<Image>,
    /// What it stands on.
    pub parent: Parent,
    /// What `MGT` says about it.
    pub record: Option<Record>,
}

/// What the image of a VDI says.
#[derive(Clone, Debug)]
pub struct Image {
    /// The size of the disk.
    pub virtual_len: Len,
    /// Marked as the parent of others.
    pub hidden: bool,
    /// The identity by which children know it.
    pub id: Option<Uuid>,
    /// When it was made, in seconds since 1970, where it says so.
    pub timestamp: Option<u64>,
    /// What it says about its parent.
    pub wanted: Option<ParentRef>,
}

/// What a VDI stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parent {
    /// On nothing.
    None,
    /// On another VDI of the repository.
    Vdi(Uuid),
    /// On something that is not there, as the child names it.
    Missing(String),
}

impl Vdi {
    /// Whether people do not see it: a base copy, or garbage.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.entry.hidden || self.image.as_ref().is_some_and(|image| image.hidden)
    }

    /// The VDI that it stands on.
    #[must_use]
    pub const fn parent(&self) -> Option<Uuid> {
        match self.parent {
            Parent::Vdi(uuid) => Some(uuid),
            _ => None,
        }
    }
}

impl Repository {
    /// Looks at all of it.
    ///
    /// # Errors
    /// Where the operator interrupts. What cannot be read is told in the findings.
    pub fn read(store: &dyn Store, cx: &Cx<'_>) -> Result<Self> {
        let mut repository = Self {
            vdis: Vec::new(),
            pending: Vec::new(),
            leftovers: Vec::new(),
            findings: store.title().findings.clone(),
            children: BTreeMap::new(),
        };
        let mut vdis = BTreeMap::new();
        for entry in store.entries() {
            cx.cancel.check()?;
            match &entry.role {
                Role::Vdi(uuid, format) => match vdis.entry(*uuid) {
                    Slot::Vacant(slot) => {
                        slot.insert(repository.look_at(store, entry, (*uuid, *format), cx));
                    }
                    Slot::Occupied(_) => {
                        repository.damage(format!("{}: another image is called {uuid}, too", entry.name));
                    }
                },
                Role::Pending(journal) => repository.pending.push((entry.name.clone(), *journal)),
                Role::Leftover => repository.leftovers.push(entry.name.clone()),
                Role::Metadata | Role::ChangedBlocks(_) | Role::Other => {}
            }
        }
        repository.vdis = vdis.into_values().collect();
        repository.connect();
        repository.compare_with_metadata(store);
        repository.look_at_chains();
        for (name, journal) in &repository.pending {
            let what = journal.described();
            repository.findings.push(Finding::note(format!("{name}: {what} was not finished")));
        }
        for name in &repository.leftovers {
            repository.findings.push(Finding::note(format!("{name} was left behind by an operation")));
        }
        Ok(repository)
    }

    /// The VDI of that identifier.
    #[must_use]
    pub fn vdi(&self, uuid: Uuid) -> Option<&Vdi> {
        let at = self.vdis.binary_search_by_key(&uuid, |vdi| vdi.uuid).ok()?;
        self.vdis.get(at)
    }

    /// Those that stand on a VDI.
    pub fn children(&self, uuid: Uuid) -> impl Iterator<Item = &Vdi> {
        self.children.get(&uuid).into_iter().flatten().filter_map(|child| self.vdi(*child))
    }

    fn damage(&mut self, text: String) {
        self.findings.push(Finding::damage(text));
    }

    fn note(&mut self, text: String) {
        self.findings.push(Finding::note(text));
    }

    fn look_at(
        &mut self,
        store: &dyn Store,
        entry: &Entry,
        (uuid, format): (Uuid, Format),
        cx: &Cx<'_>,
    ) -> Vdi {
        let image = open(store, entry, uuid, format, cx).map(|image| Image::of(&image));
        let image = image.map_err(|error| self.damage(error.to_string())).ok();
        Vdi { uuid, format, entry: entry.clone(), image, parent: Parent::None, record: None }
    }

    /// Finds the parents.
    fn connect(&mut self) {
        let known: BTreeMap<Uuid, Option<Uuid>> =
            self.vdis.iter().map(|vdi| (vdi.uuid, vdi.image.as_ref().and_then(|image| image.id))).collect();
        let by_id: BTreeMap<Uuid, Uuid> =
            known.iter().filter_map(|(uuid, id)| Some(((*id)?, *uuid))).collect();
        let mut findings = Vec::new();
        for vdi in &mut self.vdis {
            let Some(wanted) = vdi.image.as_ref().and_then(|image| image.wanted.as_ref()) else { continue };
            let named =
                wanted.names.iter().flat_map(|name| uuids_in(name)).find(|uuid| known.contains_key(uuid));
            let meant = wanted.id.and_then(|id| by_id.get(&id).copied());
            vdi.parent = match named.or(meant) {
                Some(parent) => Parent::Vdi(parent),
                None => Parent::Missing(wanted.to_string()),
            };
            match (named, wanted.id) {
                (Some(named), Some(id))
                    if known.get(&named).copied().flatten().is_some_and(|own| own != id) =>
                {
                    let text = format!(
                        "{}: it names {named} as its parent, and the identity {id} of another",
                        vdi.uuid
                    );
                    findings.push(Finding::damage(text));
                }
                (None, _) if meant.is_none() => {
                    findings.push(Finding::damage(format!("{}: its parent {wanted} is not there", vdi.uuid)));
                }
                _ => {}
            }
        }
        self.findings.append(&mut findings);
        for vdi in &self.vdis {
            if let Some(parent) = vdi.parent() {
                self.children.entry(parent).or_default().push(vdi.uuid);
            }
        }
    }

    /// Gives the VDIs what `MGT` says about them.
    fn compare_with_metadata(&mut self, store: &dyn Store) {
        let Some(metadata) = &store.title().metadata else { return };
        for record in &metadata.vdis {
            let at = self.vdis.binary_search_by_key(&record.uuid, |vdi| vdi.uuid);
            match at.ok().and_then(|at| self.vdis.get_mut(at)) {
                Some(vdi) => vdi.record = Some(record.clone()),
                None => self.note(format!("MGT has VDI {}, of which there is no volume", record.uuid)),
            }
        }
        let nameless: Vec<Uuid> =
            self.vdis.iter().filter(|vdi| vdi.record.is_none()).map(|vdi| vdi.uuid).collect();
        for uuid in nameless {
            self.note(format!("{uuid}: MGT does not have it, so that its name is not known"));
        }
    }

    /// Chains that come back to themselves, are too long, or stand on what they should not.
    fn look_at_chains(&mut self) {
        let mut findings = Vec::new();
        let depths = self.depths();
        for vdi in &self.vdis {
            match depths.get(&vdi.uuid).copied().flatten() {
                None => findings
                    .push(Finding::damage(format!("{}: its parents come back to themselves", vdi.uuid))),
                Some(depth) if depth > DEPTH => {
                    findings.push(Finding::note(format!("{}: it stands on {depth} others", vdi.uuid)));
                }
                Some(_) => {}
            }
            let leaf = self.children(vdi.uuid).next().is_none();
            if leaf && vdi.is_hidden() {
                findings
                    .push(Finding::note(format!("{}: garbage, hidden and nothing stands on it", vdi.uuid)));
            } else if !leaf && !vdi.is_hidden() {
                let text = format!("{}: others stand on it, and it is not hidden", vdi.uuid);
                findings.push(Finding::note(text));
            }
        }
        self.findings.append(&mut findings);
    }

    /// Checks the image of every VDI by itself.
    ///
    /// # Errors
    /// Where the operator interrupts.
    pub fn check(&self, store: &dyn Store, cx: &Cx<'_>) -> Result<Vec<(Uuid, container::Finding)>> {
        let task = cx.progress.task("check", disk::Total::Count(ondisk::num::to_u64(self.vdis.len())));
        let mut findings = Vec::new();
        for vdi in self.vdis.iter().filter(|vdi| vdi.image.is_some()) {
            cx.cancel.check()?;
            let checked = open(store, &vdi.entry, vdi.uuid, vdi.format, cx)
                .and_then(|image| image.check().map_err(|source| Error::Image { vdi: vdi.uuid, source }));
            match checked {
                Ok(found) => findings.extend(found.iter().cloned().map(|finding| (vdi.uuid, finding))),
                Err(error) => findings.push((vdi.uuid, damage(&error))),
            }
            task.advance(1);
        }
        Ok(findings)
    }
}

fn damage(error: &Error) -> container::Finding {
    let severity = ondisk::Severity::Damage;
    container::Finding { severity, text: error.to_string(), place: None }
}

impl Image {
    fn of(image: &Container<Bytes>) -> Self {
        let (hidden, timestamp) = match image.facts() {
            Facts::Vhd(facts) => (facts.hidden, Some(facts.timestamp)),
            Facts::Qcow2(facts) => (facts.hidden, None),
            _ => (false, None),
        };
        let (virtual_len, id, wanted) = (image.virtual_len(), image.uuid(), image.parent_ref());
        Self { virtual_len, hidden, id, timestamp, wanted }
    }
}

/// Opens the image of a VDI, without its parents.
fn open(
    store: &dyn Store,
    entry: &Entry,
    uuid: Uuid,
    format: Format,
    cx: &Cx<'_>,
) -> Result<Container<Bytes>> {
    let bytes = store.open(entry, cx)?;
    let image = Container::open(bytes, format, &cx.limits);
    let mut image = image.map_err(|source| Error::Image { vdi: uuid, source })?;
    if store.title().kind == Kind::Lvhd {
        image.set_fixed_len();
    }
    Ok(image)
}
