//! `info IMAGE`: what an image is made of, at one glance.

mod boot;
mod foreign;
mod groups;

use crate::args::Info;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::json::put_bytes;
use crate::open::Opened;
use crate::output::Output;
use crate::render::Tree;
use crate::sandbox::Needs;
use container::{Container, Facts, Format, VhdFacts, qcow2};
use disk::ReadAt;
use grub::Boot;
use ondisk::size::Human;
use ondisk::text::Printable;
use ondisk::{Classified, Len};
use serde_json::{Map, Value, json};
use stack::select::text_of;
use stack::{Content, ExtFacts, Ident, Layout, Volume, discover};
use std::os::unix::fs::MetadataExt;
use table::{DiskId, Kind, Partition, Table};

/// Runs it.
///
/// # Errors
/// Where the image cannot be read.
pub fn run(args: &Info, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let opened = session.open_reading(&args.image, session.globals.format)?;
    let stored = match opened.within() {
        Some(bytes) => bytes.len(),
        None => {
            let meta = std::fs::metadata(&args.image).map_err(|error| Failure::io(&args.image, &error))?;
            Len::new(meta.blocks().saturating_mul(512))
        }
    };
    session.confine(&Needs::nothing(), out);
    if let Some(disks) = opened.choices(session)? {
        return foreign::tell_choices(&opened, stored, &disks, out);
    }
    let (tree, document) = opened.with_disk(session, out, |disk| {
        let picture = Picture { opened: &opened, stored, facts: disk.facts(), len: disk.len() };
        let inside = match &opened.unfollowed {
            None => {
                let layout = discover(disk, &session.cx()).of(&args.image)?;
                let boot = grub::look(disk, &layout, &session.cx()).of(&args.image)?;
                Some(Inside { layout, boot })
            }
            Some(_) => None,
        };
        Ok((picture.tree(inside.as_ref()), picture.document(disk, inside.as_ref())))
    })?;
    if let Some(why) = &opened.unfollowed {
        out.warn(format!(
            "the files that it names were not opened: {why}; say -f {} to look inside",
            opened.format
        ));
    }
    out.tree(&tree);
    out.document(&document)?;
    Ok(Exit::Done)
}

/// What is known of the virtual disk.
struct Inside {
    layout: Layout,
    boot: Boot,
}

/// What is known of the container.
struct Picture<'a> {
    opened: &'a Opened<'a>,
    stored: Len,
    facts: Facts,
    len: Len,
}

impl Picture<'_> {
    fn tree(&self, inside: Option<&Inside>) -> Tree {
        let mut tree = Tree::new();
        let file = self.opened.file_len();
        tree.push(
            0,
            format!(
                "{}: {}, disk {} ({} bytes), file {}, {} allocated",
                show(self.opened.path),
                self.kind(),
                Human(self.len),
                self.len,
                Human(file),
                Human(self.stored)
            ),
        );
        for line in self.lines() {
            tree.push(1, line);
        }
        if let Some(Inside { layout, boot }) = inside {
            push_layout(&mut tree, layout);
            boot::push(&mut tree, boot);
        }
        tree
    }

    fn kind(&self) -> String {
        match &self.facts {
            Facts::Raw => self.opened.format_name().to_owned(),
            Facts::Vhd(facts) => format!("{} VHD", facts.kind.name()),
            Facts::Qcow2(facts) => format!("qcow2 version {}", facts.version),
            Facts::Foreign(facts) => facts.title.clone(),
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = match &self.facts {
            Facts::Raw => Vec::new(),
            Facts::Vhd(facts) => vhd_lines(facts),
            Facts::Qcow2(facts) => qcow2_lines(facts),
            Facts::Foreign(facts) => facts.lines.clone(),
        };
        lines.extend(self.opened.bases().map(|path| format!("base {}", show(path))));
        lines.extend(self.opened.chain.iter().map(|path| format!("parent {}", show(path))));
        lines
    }

    fn document(&self, disk: &Container<&dyn ReadAt>, inside: Option<&Inside>) -> Value {
        let mut document = Map::new();
        let mut put = |key: &str, value: Value| {
            document.insert(key.to_owned(), value);
        };
        put("filename", show(self.opened.path).into());
        put("format", self.opened.format_name().into());
        put("virtual-size", self.len.get().into());
        put("actual-size", self.stored.get().into());
        put("file-size", self.opened.file_len().get().into());
        match &self.facts {
            Facts::Qcow2(facts) => {
                put("cluster-size", facts.cluster_size.get().into());
                put("dirty-flag", facts.dirty.into());
            }
            Facts::Foreign(facts) => {
                if let Some(cluster) = facts.cluster_size {
                    put("cluster-size", cluster.get().into());
                }
                put("dirty-flag", facts.dirty.into());
            }
            Facts::Raw | Facts::Vhd(_) => {}
        }
        if let Some(parent) = disk.parent_ref() {
            put("backing-filename", parent.names.first().cloned().into());
            put("backing-filename-format", parent.format.map(|format| format.name()).into());
            put("full-backing-filename", self.opened.chain.first().map(|path| show(path)).into());
        }
        if self.opened.is_patch() {
            put("bases", self.opened.bases().map(show).collect::<Vec<_>>().into());
        }
        put("chain", self.opened.chain.iter().map(|path| show(path)).collect::<Vec<_>>().into());
        if let Some(specific) = specific(&self.facts, self.opened.format) {
            put("format-specific", specific);
        }
        if let Some(Inside { layout, boot }) = inside {
            put("partitiontable", layout.table.as_ref().map(|table| table_json(table, layout)).into());
            if layout.table.is_none() {
                put("content", layout.volumes.first().map(content_json).into());
            }
            put("volume-groups", groups::json(layout));
            put("boot", boot::json(boot));
        }
        Value::Object(document)
    }
}

fn vhd_lines(facts: &VhdFacts) -> Vec<String> {
    let (major, minor) = facts.creator_version;
    let mut lines = vec![format!("created by '{}' {major}.{minor}, id {}", facts.creator, facts.uuid)];
    if let Some(block) = facts.block_size {
        lines.push(format!("blocks of {}", Human(block)));
    }
    if let Some(other) = facts.other_size {
        lines.push(format!("other programs may take the disk for {} ({other} bytes)", Human(other)));
    }
    if facts.hidden {
        lines.push("hidden: other images stand on it".to_owned());
    }
    lines
}

fn qcow2_lines(facts: &qcow2::Facts) -> Vec<String> {
    let mut lines = vec![format!(
        "clusters of {}, compressed with {}",
        Human(facts.cluster_size),
        facts.compression.name()
    )];
    if facts.dirty {
        lines.push("not closed: its refcounts may be stale".to_owned());
    }
    if facts.corrupt {
        lines.push("marked as corrupt".to_owned());
    }
    lines.extend(facts.snapshots.iter().map(|one| format!("snapshot {} '{}'", one.id, one.name)));
    lines.extend(facts.bitmaps.iter().map(|one| format!("bitmap '{}'", one.name)));
    lines
}

fn specific(facts: &Facts, format: Format) -> Option<Value> {
    match facts {
        Facts::Raw => None,
        Facts::Foreign(facts) => Some(foreign::specific(facts, format)),
        Facts::Vhd(facts) => Some(json!({"type": "vpc", "data": {
            "subformat": facts.kind.name(),
            "creator": facts.creator,
            "creator-version": format!("{}.{}", facts.creator_version.0, facts.creator_version.1),
            "uuid": facts.uuid.to_string(),
            "block-size": facts.block_size.map(Len::get),
            "current-size": facts.current_size.get(),
            "other-size": facts.other_size.map(Len::get),
            "timestamp": facts.timestamp,
            "hidden": facts.hidden,
        }})),
        Facts::Qcow2(facts) => Some(json!({"type": "qcow2", "data": {
            "compat": if facts.version == 2 { "0.10" } else { "1.1" },
            "compression-type": facts.compression.name(),
            "lazy-refcounts": facts.lazy_refcounts,
            "refcount-bits": facts.refcount_bits,
            "corrupt": facts.corrupt,
            "extended-l2": facts.extended_l2,
            "bitmaps": facts.bitmaps.iter().map(|one| json!({"name": one.name, "granularity": one.granularity.get()})).collect::<Vec<_>>(),
            "snapshots": facts.snapshots.iter().map(|one| json!({"id": one.id, "name": one.name})).collect::<Vec<_>>(),
        }})),
    }
}

fn push_layout(tree: &mut Tree, layout: &Layout) {
    match &layout.table {
        None => {
            for volume in layout.volumes.iter().filter(|volume| !volume.id.is_logical()) {
                push_content(tree, 1, volume);
            }
        }
        Some(table) => {
            let kind = label(table);
            let id = disk_id(table);
            tree.push(1, format!("{kind} partition table, {id}, sectors of {}", table.sector_size()));
            for partition in table.partitions() {
                tree.push(2, partition_line(partition));
                if let Some(volume) = volume_of(layout, partition) {
                    push_content(tree, 3, volume);
                }
            }
        }
    }
    groups::push(tree, layout);
}

fn volume_of<'l>(layout: &'l Layout, partition: &Partition) -> Option<&'l Volume> {
    layout.volume(&stack::VolumeId::Partition(partition.number))
}

fn partition_line(partition: &Partition) -> String {
    let kind = partition.kind.name().map_or_else(|| partition.kind.to_string(), str::to_owned);
    let name = match partition.name.as_str() {
        "" => String::new(),
        name => format!(" \"{}\"", Printable(name.as_bytes())),
    };
    let boot = if partition.bootable { ", boot" } else { "" };
    let (start, len) = (Len::new(partition.span.start().get()), partition.span.len());
    format!("{}  {kind}{name}, {} at {}{boot}", partition.number, Human(len), Human(start))
}

fn push_content(tree: &mut Tree, depth: usize, volume: &Volume) {
    match &volume.ext {
        None => tree.push(depth, content_line(volume)),
        Some(Err(error)) => tree.push(depth, format!("ext, damaged: {error}")),
        Some(Ok(facts)) => {
            tree.push(depth, ext_line(facts));
            if let Some(guest) = &facts.guest {
                let name = if guest.name.is_empty() { "root filesystem" } else { &guest.name };
                tree.push(depth.saturating_add(1), name);
            }
        }
    }
}

fn content_line(volume: &Volume) -> String {
    let mut line = match volume.content {
        Content::Swap { hibernated: true } => "swap with the memory of a hibernated system".to_owned(),
        other => other.to_string(),
    };
    let Ident { label, uuid, size, free } = &volume.ident;
    if let Some(label) = label {
        line.push_str(&format!(" \"{}\"", Printable(label)));
    }
    if let Some(size) = size {
        line.push_str(&format!(", {}", Human(*size)));
    }
    if let (Some(size), Some(free)) = (size, free) {
        let used = Len::new(size.get().saturating_sub(free.get()));
        line.push_str(&format!(", {} used, {} free", Human(used), Human(*free)));
    }
    if let Some(uuid) = uuid {
        line.push_str(&format!(", UUID {uuid}"));
    }
    line
}

fn ext_line(facts: &ExtFacts) -> String {
    let mut line = facts.version.to_owned();
    if !facts.label.is_empty() {
        line.push_str(&format!(" \"{}\"", Printable(&facts.label)));
    }
    let used = Len::new(facts.size.get().saturating_sub(facts.free.get()));
    line.push_str(&format!(
        ", {}, {} used, {} free, UUID {}",
        Human(facts.size),
        Human(used),
        Human(facts.free),
        facts.uuid
    ));
    for (is, what) in [
        (facts.needs_recovery, "needs recovery"),
        (facts.has_orphans, "has orphans"),
        (facts.has_errors, "marked as having errors"),
    ] {
        if is {
            line.push_str(", ");
            line.push_str(what);
        }
    }
    line
}

const fn label(table: &Table) -> &'static str {
    match table.kind() {
        Kind::Mbr => "dos",
        Kind::Gpt => "gpt",
    }
}

fn disk_id(table: &Table) -> String {
    match table.id() {
        DiskId::Mbr(signature) => format!("{signature:#010x}"),
        DiskId::Gpt(guid) => guid.to_string().to_ascii_uppercase(),
    }
}

/// The words of `sfdisk --json`, in bytes.
fn table_json(table: &Table, layout: &Layout) -> Value {
    let partitions: Vec<Value> = table
        .partitions()
        .iter()
        .map(|one| {
            let mut object = Map::new();
            object.insert("number".to_owned(), one.number.into());
            object.insert("start".to_owned(), one.span.start().get().into());
            object.insert("size".to_owned(), one.span.len().get().into());
            object.insert("type".to_owned(), one.kind.to_string().into());
            object.insert("uuid".to_owned(), text_of(one.uuid).into());
            if !one.name.is_empty() {
                object.insert("name".to_owned(), one.name.clone().into());
            }
            if one.bootable {
                object.insert("bootable".to_owned(), true.into());
            }
            object.insert("content".to_owned(), volume_of(layout, one).map(content_json).into());
            Value::Object(object)
        })
        .collect();
    json!({
        "label": label(table),
        "id": disk_id(table),
        "unit": "bytes",
        "sectorsize": table.sector_size().bytes(),
        "partitions": partitions,
    })
}

fn content_json(volume: &Volume) -> Value {
    match &volume.ext {
        None => {
            let mut object = Map::new();
            object.insert("type".to_owned(), volume.content.name().into());
            if let Content::Swap { hibernated } = volume.content {
                object.insert("hibernated".to_owned(), hibernated.into());
            }
            let Ident { label, uuid, size, free } = &volume.ident;
            if let Some(label) = label {
                put_bytes(&mut object, "label", label);
            }
            if let Some(uuid) = uuid {
                object.insert("uuid".to_owned(), uuid.clone().into());
            }
            for (key, len) in [("size", size), ("free", free)] {
                if let Some(len) = len {
                    object.insert(key.to_owned(), len.get().into());
                }
            }
            Value::Object(object)
        }
        Some(Err(error)) => {
            json!({"type": "ext", "error": error.to_string(), "class": format!("{:?}", error.class())})
        }
        Some(Ok(facts)) => ext_json(facts),
    }
}

fn ext_json(facts: &ExtFacts) -> Value {
    let mut object = Map::new();
    object.insert("type".to_owned(), facts.version.into());
    put_bytes(&mut object, "label", &facts.label);
    let rest = json!({
        "uuid": facts.uuid.to_string(),
        "block-size": facts.block_size.get(),
        "size": facts.size.get(),
        "used": facts.size.get().saturating_sub(facts.free.get()),
        "free": facts.free.get(),
        "inodes": facts.inodes.0,
        "inodes-free": facts.inodes.1,
        "features": facts.features,
        "needs-recovery": facts.needs_recovery,
        "has-orphans": facts.has_orphans,
        "has-errors": facts.has_errors,
        "guest": facts.guest.as_ref().map(|guest| guest.name.clone()),
    });
    if let Value::Object(rest) = rest {
        object.extend(rest);
    }
    Value::Object(object)
}
