//! As many images as no repository has.
#![expect(clippy::arithmetic_side_effects, reason = "small numbers of a test")]

use super::{Parent, Repository};
use crate::name::Role;
use crate::store::{Bytes, Entry, Kind, Store, Title};
use container::Format;
use disk::{Cancel, Cx, MemDisk};
use ondisk::Len;
use ondisk::guid::Uuid;
use ondisk::num::to_u64;
use std::time::{Duration, Instant};
use testkit::vhd::Image;

const COUNT: usize = 10_000;
/// So many stand on each other; three that follow do so in a ring; all others on the first.
const CHAIN: usize = 4000;

fn uuid(number: usize) -> Uuid {
    Uuid((u128::from(to_u64(number)) + 1).to_be_bytes())
}

fn parent(number: usize) -> Option<usize> {
    match number.checked_sub(CHAIN) {
        None => number.checked_sub(1),
        Some(0) => Some(CHAIN + 2),
        Some(1 | 2) => Some(number - 1),
        Some(_) => Some(0),
    }
}

/// VHDs that have nothing but a parent.
struct Made {
    title: Title,
    entries: Vec<Entry>,
}

impl Made {
    fn new() -> Self {
        let title = Title {
            kind: Kind::File,
            uuid: None,
            size: Len::ZERO,
            free: Len::ZERO,
            metadata: None,
            findings: Vec::new(),
        };
        let entry = |number: usize| Entry {
            name: number.to_string(),
            role: Role::Vdi(uuid(number % COUNT), Format::Vhd),
            len: Len::ZERO,
            hidden: false,
        };
        // The last one is there twice.
        Self { title, entries: (0..COUNT).chain([2 * COUNT - 1]).map(entry).collect() }
    }
}

impl Store for Made {
    fn title(&self) -> &Title {
        &self.title
    }

    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn open(&self, entry: &Entry, _: &Cx<'_>) -> crate::Result<Bytes> {
        let number = entry.name.parse().unwrap();
        let mut image = Image { uuid: uuid(number).0, ..Image::dynamic(*b"tap\0", 2 << 20) };
        if let Some(parent) = parent(number) {
            image.kind = 4;
            image.parent = Some((uuid(parent).0, Vec::new()));
        }
        Ok(Box::new(MemDisk::from_bytes(&image.build())))
    }
}

#[test]
fn thousands_of_images() {
    let (store, cancel) = (Made::new(), Cancel::new());
    let start = Instant::now();
    let repository = Repository::read(&store, &testkit::sim::cx(&cancel)).unwrap();
    let children: usize = repository.vdis.iter().map(|vdi| repository.children(vdi.uuid).count()).sum();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!((repository.vdis.len(), children), (COUNT, COUNT - 1));
    for (number, vdi) in (0..).zip(&repository.vdis) {
        assert_eq!(vdi.parent, parent(number).map_or(Parent::None, |parent| Parent::Vdi(uuid(parent))));
    }
    let depths = repository.depths();
    assert_eq!(depths[&uuid(CHAIN - 1)], Some(CHAIN - 1));
    assert_eq!((depths[&uuid(CHAIN)], depths[&uuid(COUNT - 1)]), (None, Some(1)));
    let told = |what: &str| repository.findings.iter().filter(|finding| finding.text.contains(what)).count();
    assert_eq!(told("come back to themselves"), 3);
    assert_eq!(told("it stands on "), CHAIN - super::DEPTH - 1);
    assert_eq!(told("another image is called"), 1);
}
