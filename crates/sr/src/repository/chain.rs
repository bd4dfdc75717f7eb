//! What a VDI stands on.

use super::{Parent, Repository, Vdi, open};
use crate::store::Store;
use crate::{Error, Result};
use disk::Cx;
use ondisk::guid::Uuid;
use stack::source;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Repository {
    /// The VDI of that identifier.
    ///
    /// # Errors
    /// Where there is none.
    pub fn named(&self, store: &dyn Store, uuid: Uuid) -> Result<&Vdi> {
        let sr = store.title().uuid;
        self.vdi(uuid).ok_or_else(|| Error::NoVdi {
            vdi: uuid,
            sr: sr.map_or_else(|| "without an identifier".to_owned(), |uuid| uuid.to_string()),
        })
    }

    /// What a VDI stands on, nearest first.
    ///
    /// # Errors
    /// Where one is not there, or they are too many: they may come back to themselves.
    pub fn chain<'a>(&'a self, store: &dyn Store, vdi: &'a Vdi, cx: &Cx<'_>) -> Result<Vec<&'a Vdi>> {
        let mut chain: Vec<&Vdi> = Vec::new();
        let mut child = vdi;
        let wrong = |vdi: &Vdi, why: String| Err(Error::Chain { vdi: vdi.uuid, why });
        loop {
            match &child.parent {
                Parent::None => return Ok(chain),
                Parent::Missing(name) => return wrong(child, format!("its parent {name} is not there")),
                Parent::Vdi(_) if chain.len() >= cx.limits.chain_depth => {
                    return wrong(vdi, format!("it stands on more than {} others", cx.limits.chain_depth));
                }
                Parent::Vdi(parent) => child = self.named(store, *parent)?,
            }
            chain.push(child);
        }
    }

    /// How many VDIs are below each; `None` where they come back to themselves.
    pub(super) fn depths(&self) -> BTreeMap<Uuid, Option<usize>> {
        let mut depths = BTreeMap::new();
        for vdi in &self.vdis {
            let (mut path, mut at) = (Vec::new(), vdi);
            let mut depth = loop {
                if let Some(known) = depths.get(&at.uuid) {
                    break above(*known);
                }
                // Whoever comes by here again has come back.
                depths.insert(at.uuid, None);
                path.push(at.uuid);
                match at.parent().and_then(|uuid| self.vdi(uuid)) {
                    Some(parent) => at = parent,
                    None => break Some(0),
                }
            };
            for uuid in path.into_iter().rev() {
                depths.insert(uuid, depth);
                depth = above(depth);
            }
        }
        depths
    }
}

/// The depth of what stands on one of that depth.
fn above(depth: Option<usize>) -> Option<usize> {
    depth.map(|depth| depth.saturating_add(1))
}

/// Opens the VDIs of a chain, the lowest first; each has the one before below it.
///
/// # Errors
/// Where one cannot be read.
pub fn open_chain(store: &dyn Store, chain: &[&Vdi], cx: &Cx<'_>) -> Result<Vec<source::Parent>> {
    let mut opened: Vec<source::Parent> = Vec::new();
    for vdi in chain.iter().rev() {
        let mut disk = open(store, &vdi.entry, vdi.uuid, vdi.format, cx)?;
        if let Some(parent) = opened.last().cloned() {
            let set = disk.set_parent(Box::new(parent.disk), parent.id);
            set.map_err(|source| Error::Image { vdi: vdi.uuid, source })?;
        }
        opened.push(source::Parent { id: disk.uuid(), disk: Arc::new(disk) });
    }
    Ok(opened)
}
