//! A base: a small sound image, where its metadata are, and how each piece is sealed.

use crate::input::Input;
use disk::{Disk, MemDisk, ReadAt, Slice, Sparse};
use ondisk::{Len, Offset, Span};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Makes checksums right again, on the disk that the place lies on.
pub type Seal = Arc<dyn Fn(&mut dyn Disk) + Send + Sync>;

/// A piece of metadata.
#[derive(Clone)]
pub struct Place {
    /// Where.
    pub at: Offset,
    /// What is there in the base.
    pub bytes: Vec<u8>,
    /// Its checksums, if it has any.
    pub seal: Option<Seal>,
}

/// A base image.
pub struct Base {
    /// For messages.
    pub name: String,
    /// The image.
    pub disk: Sparse,
    /// Its metadata, a list a kind. No list is empty.
    pub kinds: Vec<Vec<Place>>,
}

/// The base that an input means.
#[must_use]
pub fn of<'a>(bases: &'a [Base], input: &Input) -> &'a Base {
    &bases[usize::from(input.base) % bases.len()]
}

impl Place {
    /// The bytes of `disk` at `span`; cut where the disk ends.
    #[must_use]
    pub fn on(disk: &dyn ReadAt, span: Span, seal: Option<Seal>) -> Self {
        let span = span.intersect(Span::whole(disk.len())).unwrap_or_default();
        let mut bytes = vec![0; span.len().to_usize()];
        disk.read_at(span.start(), &mut bytes).expect("a base can be read");
        Self { at: span.start(), bytes, seal }
    }

    /// The same place on a disk of which its own disk is the part at `span`.
    #[must_use]
    pub fn within(&self, span: Span) -> Self {
        let at = self.at.checked_add(Len::new(span.start().get())).expect("a small disk");
        let seal = self.seal.clone().map(|seal| -> Seal {
            Arc::new(move |disk| {
                if let Ok(mut slice) = Slice::new(disk, span) {
                    seal(&mut slice);
                }
            })
        });
        Self { at, bytes: self.bytes.clone(), seal }
    }
}

impl Base {
    /// A base; kinds of which there is nothing are left out. Proves that seals are right: a sound image stays as it is.
    #[must_use]
    pub fn new(name: &str, disk: Sparse, mut kinds: Vec<Vec<Place>>) -> Self {
        kinds.iter_mut().for_each(|kind| kind.retain(|place| !place.bytes.is_empty()));
        kinds.retain(|kind| !kind.is_empty());
        let mut sealed = MemDisk::from(disk.clone());
        let seals = kinds.iter().flatten().filter_map(|place| Some((place.at, place.seal.as_ref()?)));
        for (at, seal) in seals {
            seal(&mut sealed);
            assert!(sealed.bytes() == &disk, "{name}: sealing what lies at {at} changes a sound image");
        }
        Self { name: name.to_owned(), disk, kinds }
    }

    /// A piece of metadata.
    #[must_use]
    pub fn place(&self, kind: u8, index: u16) -> &Place {
        let kind = &self.kinds[usize::from(kind) % self.kinds.len()];
        &kind[usize::from(index) % kind.len()]
    }

    /// The image as the input makes it.
    #[must_use]
    pub fn patched(&self, input: &Input) -> MemDisk {
        let mut disk = self.disk.clone();
        let mut touched = BTreeSet::new();
        for patch in &input.patches {
            let place = self.place(patch.kind, patch.index);
            let at = usize::from(patch.at) % place.bytes.len();
            let bytes = &patch.bytes[..patch.bytes.len().min(place.bytes.len() - at)];
            disk.put(place.at.checked_add(Len::new(at as u64)).expect("a small disk"), bytes);
            let (kinds, kind) = (self.kinds.len(), usize::from(patch.kind) % self.kinds.len());
            touched.insert((kinds - kind, usize::from(patch.index) % self.kinds[kind].len()));
        }
        let mut disk = MemDisk::from(disk);
        if input.sealed {
            // The last kind first: what holds the checksums of others comes before them.
            for (kind, index) in touched {
                if let Some(seal) = &self.kinds[self.kinds.len() - kind][index].seal {
                    seal(&mut disk);
                }
            }
        }
        if let Some(length) = input.length {
            let (old, part) = (u128::from(self.disk.len().get()), u128::from(length));
            let len = if part < 0xc000 { old * part / 0xc000 } else { old * (part - 0x8000) / 0x4000 };
            disk.resize(Len::new(len as u64)).expect("a disk in memory");
        }
        disk
    }

    /// An input in words.
    #[must_use]
    pub fn describe(&self, input: &Input) -> String {
        let patches = input.patches.iter().map(|patch| {
            let place = self.place(patch.kind, patch.index);
            let within = usize::from(patch.at) % place.bytes.len();
            let old = &place.bytes[within..place.bytes.len().min(within + patch.bytes.len())];
            format!("\n  {:#x}+{within:#x}: {old:02x?} -> {:02x?}", place.at.get(), patch.bytes)
        });
        format!(
            "knob {}, sealed {}, length {:?}{}",
            input.knob,
            input.sealed,
            input.length,
            patches.collect::<String>()
        )
    }
}

/// Seals an object of bytes by themselves.
pub fn sealing(span: Span, seal: impl Fn(&mut [u8]) + Send + Sync + 'static) -> Option<Seal> {
    Some(Arc::new(move |disk: &mut dyn Disk| {
        let mut bytes = vec![0; span.len().to_usize()];
        if disk.read_at(span.start(), &mut bytes).is_ok() {
            seal(&mut bytes);
            disk.write_at(span.start(), &bytes).expect("what can be read can be written");
        }
    }))
}

/// A span of a small disk.
#[must_use]
pub fn span(at: u64, len: u64) -> Span {
    Span::new(Offset::new(at), Len::new(len)).expect("a small disk")
}
