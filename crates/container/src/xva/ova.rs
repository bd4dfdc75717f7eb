//! `ova.xml`: what was exported, as XML-RPC writes it.
//!
//! ```text
//! struct { version, objects: array of struct { class: VDI, id: Ref:10, snapshot: struct { uuid, virtual_size, … } } }
//! ```

use crate::foreign::Choice;
use crate::xml::{self, Node};
use crate::{Error, Result};
use ondisk::text::Printable;
use ondisk::{Len, Offset};

pub const OVA: &str = "ova.xml";
/// No export has a longer one.
pub const LEN_MAX: Len = Len::mib(8);
/// So many disks, at most, are looked at.
const DISKS_MAX: usize = 1024;

/// A disk of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The folder of its chunks.
    pub folder: String,
    pub uuid: String,
    pub name: String,
    /// What the guest calls it.
    pub device: String,
    /// Where it was plugged in.
    pub number: String,
    pub len: Len,
}

impl Disk {
    /// What it may be called.
    pub fn choice(&self) -> Choice {
        let safe = |text: &str| Printable(text.as_bytes()).to_string();
        Choice { name: safe(&self.name), uuid: safe(&self.uuid), device: safe(self.device()), len: self.len }
    }

    fn device(&self) -> &str {
        if self.device.is_empty() { &self.number } else { &self.device }
    }

    /// Whether the operator means this one.
    pub fn is_called(&self, what: &str) -> bool {
        let by_number =
            self.number.parse().ok().and_then(|n: u8| char::from_u32(u32::from(b'a').checked_add(n.into())?));
        self.uuid.eq_ignore_ascii_case(what)
            || [&self.name, &self.device, &self.number, &self.folder].into_iter().any(|name| name == what)
            || by_number.is_some_and(|letter| what.strip_prefix("xvd") == Some(letter.to_string().as_str()))
    }
}

/// The value of a member of a struct.
fn member<'a>(value: Node<'a, 'a>, name: &'a str) -> Option<Node<'a, 'a>> {
    let all = xml::child(value, "struct")?;
    let found = xml::children(all, "member").find(|member| xml::child_text(*member, "name") == Some(name))?;
    xml::child(found, "value")
}

/// A text, with or without an element of its own around it.
fn text<'a>(value: Node<'a, 'a>, name: &'a str) -> Option<&'a str> {
    let value = member(value, name)?;
    let inner = value.children().find(Node::is_element).unwrap_or(value);
    Some(inner.text().unwrap_or_default().trim())
}

/// The disks of an export, in the order of the guest's devices.
pub fn disks(source: &str) -> Result<Vec<Disk>> {
    let document = xml::parse(OVA, source)?;
    let bad = |problem: String| Error::corrupt(OVA, Offset::ZERO, problem);
    let root = document.root_element();
    let objects =
        member(root, "objects").and_then(|objects| xml::child(xml::child(objects, "array")?, "data"));
    let objects = objects.ok_or_else(|| bad("it lists no objects".to_owned()))?;
    let of_class = |class: &'static str| {
        xml::children(objects, "value").filter(move |object| text(*object, "class") == Some(class))
    };
    let mut disks = Vec::new();
    for object in of_class("VDI") {
        let Some(known) = member(object, "snapshot") else { continue };
        let folder = text(object, "id").unwrap_or_default().to_owned();
        let size = text(known, "virtual_size").and_then(|size| size.parse().ok());
        let size: u64 = size
            .filter(|size| *size < 1 << 62)
            .ok_or_else(|| bad(format!("the disk {} has no size", Printable(folder.as_bytes()))))?;
        let field = |name: &'static str| text(known, name).unwrap_or_default().to_owned();
        let (uuid, name) = (field("uuid"), field("name_label"));
        disks.push(Disk {
            folder,
            uuid,
            name,
            device: String::new(),
            number: String::new(),
            len: Len::new(size),
        });
        if disks.len() > DISKS_MAX {
            return Err(bad(format!("it lists more than {DISKS_MAX} disks")));
        }
    }
    let mut no_disks = Vec::new();
    for known in of_class("VBD").filter_map(|object| member(object, "snapshot")).take(DISKS_MAX) {
        let folder = text(known, "VDI").unwrap_or_default();
        if text(known, "type") == Some("CD") {
            no_disks.push(folder.to_owned());
        } else if let Some(disk) =
            disks.iter_mut().find(|disk| disk.folder == folder && disk.number.is_empty())
        {
            text(known, "device").unwrap_or_default().clone_into(&mut disk.device);
            text(known, "userdevice").unwrap_or_default().clone_into(&mut disk.number);
        }
    }
    disks.retain(|disk| !no_disks.contains(&disk.folder));
    disks.sort_by_key(|disk| disk.number.parse().unwrap_or(u32::MAX));
    Ok(disks)
}
