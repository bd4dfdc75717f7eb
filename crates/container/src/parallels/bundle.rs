//! Bundles: a folder whose `DiskDescriptor.xml` tells which file holds the disk.
//!
//! 1. One storage with one image is read. Split disks and snapshots are refused by name.
//! 2. The image's name is only text here; who opens the file decides whether to trust it.

use super::Parallels;
use crate::foreign::{Body, Fact, Facts, Files, Owners, Place, Run, stored};
use crate::xml::{self, Node};
use crate::{Error, Findings, Result};
use disk::Limits;
use ondisk::text::Printable;
use ondisk::{Len, Offset, Span};

const DESCRIPTION: &str = "DiskDescriptor.xml";
/// No description is longer.
const LEN_MAX: Len = Len::mib(1);
const SECTOR: u64 = 512;

/// What is known of a bundle.
pub(crate) struct Bundle {
    disk: Len,
    name: String,
    image: Image,
}

/// What the file of the bundle holds.
enum Image {
    /// Nobody has opened it yet.
    Unopened,
    /// The disk, byte by byte.
    Plain,
    /// An image with a BAT.
    Expanding(Parallels),
}

impl Bundle {
    pub fn open(files: &Files<'_>, limits: &Limits) -> Result<Self> {
        let text = xml::read(files, DESCRIPTION, Span::whole(files.len(0)?), LEN_MAX, limits)?;
        let document = xml::parse(DESCRIPTION, &text)?;
        let root = document.root_element();
        let bad = |problem: String| Error::corrupt(DESCRIPTION, Offset::ZERO, problem);
        if root.tag_name().name() != "Parallels_disk_image" {
            return Err(bad(format!("it describes a {}", Printable(root.tag_name().name().as_bytes()))));
        }
        let parameters = xml::child(root, "Disk_Parameters");
        let sectors =
            parameters.and_then(|node| number(node, "Disk_size")).and_then(|n| n.checked_mul(SECTOR));
        let disk = Len::new(sectors.ok_or_else(|| bad("it does not say how large the disk is".to_owned()))?);
        let storages: Vec<Node<'_, '_>> = xml::child(root, "StorageData")
            .map(|data| xml::children(data, "Storage").collect())
            .unwrap_or_default();
        let images: Vec<Node<'_, '_>> =
            storages.iter().flat_map(|storage| xml::children(*storage, "Image")).collect();
        let [image] = images.as_slice() else {
            return Err(Error::unsupported(format!(
                "the bundle has {} storages with {} images; bundles with snapshots or split disks are not supported",
                storages.len(),
                images.len()
            )));
        };
        let name = xml::child_text(*image, "File").unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err(bad("it names no image".to_owned()));
        }
        let plain = match xml::child_text(*image, "Type") {
            Some("Plain") => true,
            Some("Compressed") => false,
            other => {
                let kind = Printable(other.unwrap_or_default().as_bytes()).to_string();
                return Err(Error::unsupported(format!(
                    "images of type '{kind}' in a bundle are not supported"
                )));
            }
        };
        let image = match (files.has(1), plain) {
            (false, _) => Image::Unopened,
            (true, true) => Image::Plain,
            (true, false) => Image::Expanding(Parallels::open(files, 1)?),
        };
        Ok(Self { disk, name, image })
    }

    fn missing(&self) -> Error {
        Error::PartMissing { name: Printable(self.name.as_bytes()).to_string() }
    }
}

/// A number in a child of a node.
fn number(node: Node<'_, '_>, name: &str) -> Option<u64> {
    xml::child_text(node, name)?.parse().ok()
}

impl Body for Bundle {
    fn len(&self) -> Len {
        match &self.image {
            Image::Expanding(image) => image.len(),
            _ => self.disk,
        }
    }

    fn granule(&self) -> Len {
        match &self.image {
            Image::Expanding(image) => image.granule(),
            _ => Len::mib(1),
        }
    }

    fn run(&self, files: &Files<'_>, within: Span) -> Result<Run> {
        match &self.image {
            Image::Unopened => Err(self.missing()),
            Image::Plain => {
                let place = Place { part: 1, at: Offset::ZERO };
                stored(files, "Parallels image", Span::whole(self.disk), Some(place), within)
            }
            Image::Expanding(image) => image.run(files, within),
        }
    }

    fn facts(&self, files: &Files<'_>) -> Facts {
        let name = Printable(self.name.as_bytes()).to_string();
        let mut facts = match &self.image {
            Image::Expanding(image) => image.facts(files),
            _ => Facts { title: "Parallels image, plain".to_owned(), ..Facts::default() },
        };
        facts.title = facts.title.replace("Parallels image", "Parallels bundle");
        facts.lines.push(format!("its bytes are in '{name}'"));
        facts.fields.push(("file", Fact::Text(name)));
        facts
    }

    fn check(&self, files: &Files<'_>, owners: &mut Owners, findings: &mut Findings) -> Result<()> {
        match &self.image {
            Image::Unopened => Err(self.missing()),
            Image::Plain => Ok(()),
            Image::Expanding(image) => {
                if image.len() != self.disk {
                    let text = format!("the image has {} bytes, its description {}", image.len(), self.disk);
                    findings.push(ondisk::Severity::Note, None, text);
                }
                image.check(files, owners, findings)
            }
        }
    }

    fn part_names(&self) -> Vec<String> {
        vec![self.name.clone()]
    }
}
