//! Whether what a boot loader looks for is there, and whether it could read it.
//!
//! ```text
//! commands of the core   search → root,  set prefix=($root)/path
//! prefix of the core     (device)/path
//! device → partition → filesystem → path        each with the module that it takes
//! ```

use crate::core::Core;
use crate::legacy::{Next, Stages};
use crate::name::{self, Device, Part, Search};
use crate::world::World;
use ondisk::text::Printable;
use stack::content::Foreign;
use stack::{Content, Place, Volume, VolumeId, select};
use table::Kind;

/// What a look-up has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// The volume that the boot loader reads, as far as it is found.
    pub volume: Option<VolumeId>,
    /// Why it would not start; safe to print.
    pub problems: Vec<String>,
    /// What cannot be told from this disk; safe to print.
    pub unknown: Vec<String>,
}

impl Resolution {
    /// Whether it resolves; `None` where that cannot be told.
    #[must_use]
    pub const fn resolves(&self) -> Option<bool> {
        match (self.problems.is_empty(), self.unknown.is_empty()) {
            (false, _) => Some(false),
            (true, false) => None,
            (true, true) => Some(true),
        }
    }

    fn problem(&mut self, what: impl Into<String>) {
        self.problems.push(what.into());
    }

    fn cannot_tell(&mut self, what: impl Into<String>) {
        self.unknown.push(what.into());
    }

    fn needs(&mut self, module: &str, what: &str, core: &Core) {
        if !core.has(module) {
            self.problem(format!("the core has no module {module} for {what}"));
        }
    }
}

/// Follows what GRUB 2 would do.
pub(crate) fn grub2(world: &World<'_>, core: &Core) -> Resolution {
    let mut found = Resolution::default();
    let commands = core.config.as_deref().map(name::commands).unwrap_or_default();
    let built_in = core.prefix.as_deref().map(name::path).unwrap_or_default();
    let (device, path) = match commands.prefix {
        Some((device, path)) => (device, path),
        None => (built_in.0.or(Some(BOOTED)), built_in.1),
    };
    let volume = match (device, commands.search, commands.root) {
        (Some(device), ..) | (None, None, Some(device)) => by_device(world, &device, &mut found),
        (None, Some(search), _) => by_search(world, &search, core, &mut found),
        (None, None, None) => by_device(world, &BOOTED, &mut found),
    };
    if !["biosdisk", "ahci", "ata", "pata", "usbms"].iter().any(|module| core.has(module)) {
        found.problem("the core has no module biosdisk for disks");
    }
    if let Some(volume) = volume {
        found.volume = Some(volume.id.clone());
        drivers(world, volume, core, &mut found);
        files(world, volume, core, &path, &mut found);
    }
    found
}

/// The drive that was booted from, as a whole.
const BOOTED: Device = Device::Disk { disk: None, part: Part::Whole };

fn by_device<'a>(world: &World<'a>, device: &Device, found: &mut Resolution) -> Option<&'a Volume> {
    let (disk, part) = match device {
        Device::Disk { disk, part } => (disk, part),
        Device::Lvm(name) => return logical(world, world.place(&format!("/dev/mapper/{name}")), name, found),
        Device::LvmId(vg, lv) => {
            let id = world.logical(|group, one| {
                [(group.uuid(), vg), (one.uuid(), lv)].iter().all(|(own, wanted)| own.to_string() == **wanted)
            });
            return logical(world, id, &format!("{vg}/{lv}"), found);
        }
        Device::Other(name) => {
            found.cannot_tell(format!("it names the device {name}"));
            return None;
        }
    };
    if let Some(number) = disk.filter(|number| *number > 0) {
        found.cannot_tell(format!("it names the disk hd{number}, which is another one"));
        return None;
    }
    match (part, &world.layout.table) {
        (Part::Whole, None) => world.layout.volume(&VolumeId::Whole),
        (Part::Whole, Some(_)) => {
            found.problem("it names no partition, and the disk has some");
            None
        }
        (Part::Number(_, number), None) => {
            found.problem(format!("it names partition {number}, and the disk has no partition table"));
            None
        }
        (Part::Number(kind, number), Some(table)) => {
            if let Some(kind) = kind.as_deref().filter(|kind| *kind != label(table.kind())) {
                found
                    .problem(format!("it names a partition of {kind}, the table is {}", label(table.kind())));
                return None;
            }
            let volume = world.layout.volume(&VolumeId::Partition(*number));
            if volume.is_none() {
                found.problem(format!("it names partition {number}, which does not exist"));
            }
            volume
        }
    }
}

fn logical<'a>(
    world: &World<'a>,
    id: Option<VolumeId>,
    name: &str,
    found: &mut Resolution,
) -> Option<&'a Volume> {
    let Some(id) = id else {
        found.problem(format!("it names the logical volume {name}, which does not exist"));
        return None;
    };
    let volume = world.layout.volume(&id);
    if volume.is_none() {
        found.cannot_tell(format!("the logical volume {id} cannot be looked into"));
    }
    volume
}

/// The kind of a table as GRUB 2 names it.
const fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::Mbr => "msdos",
        Kind::Gpt => "gpt",
    }
}

fn by_search<'a>(
    world: &World<'a>,
    search: &Search,
    core: &Core,
    found: &mut Resolution,
) -> Option<&'a Volume> {
    let (module, place, what) = match search {
        Search::Uuid(uuid) => {
            ("search_fs_uuid", Place::Uuid(uuid.clone()), format!("the UUID {}", shown(uuid)))
        }
        Search::Label(label) => {
            ("search_label", Place::Label(label.clone()), format!("the label {}", shown(label)))
        }
        Search::File(file) => {
            found.cannot_tell(format!("it searches for the file {}", shown(file)));
            return None;
        }
    };
    found.needs(module, "its search", core);
    match (select::named(world.layout, &place), world.hidden()) {
        (Ok(id), _) => return world.layout.volume(&id),
        (Err(stack::Error::Several { choices }), _) => {
            found.cannot_tell(format!("several filesystems have {what}: {choices}"));
        }
        (Err(_), Some(hidden)) => found.cannot_tell(format!(
            "no filesystem seen here has {what}, but {} ({}) may hold it",
            hidden.id, hidden.content
        )),
        (Err(_), None) => found.problem(format!("no filesystem on this disk has {what}")),
    }
    None
}

fn shown(text: &str) -> String {
    Printable(text.as_bytes()).to_string()
}

/// Whether the core has what it takes to read a volume.
fn drivers(world: &World<'_>, volume: &Volume, core: &Core, found: &mut Resolution) {
    if let Some(table) = &world.layout.table {
        match table.kind() {
            Kind::Mbr => found.needs("part_msdos", "the partition table", core),
            Kind::Gpt => found.needs("part_gpt", "the partition table", core),
        }
    }
    if volume.id.is_logical() {
        found.needs("lvm", "logical volumes", core);
    }
    let module = match volume.content {
        Content::Ext => Some("ext2"),
        Content::Foreign(Foreign::Fat) => Some("fat"),
        Content::Foreign(Foreign::Squashfs) => Some("squash4"),
        Content::Foreign(foreign) => Some(foreign.name()),
        Content::Swap { .. } | Content::LvmPv | Content::Member(_) | Content::Empty | Content::Unknown => {
            None
        }
    };
    match module {
        Some(module) => found.needs(module, volume.content.name(), core),
        None => found.problem(format!("{} ({}) holds no filesystem", volume.id, volume.content)),
    }
}

/// Whether what the core loads next is in the prefix.
fn files(world: &World<'_>, volume: &Volume, core: &Core, path: &[u8], found: &mut Resolution) {
    let next: &[u8] = if core.has("normal") { b"/grub.cfg" } else { b"/i386-pc/normal.mod" };
    file(world, volume, &[path, next].concat(), found);
}

fn file(world: &World<'_>, volume: &Volume, path: &[u8], found: &mut Resolution) {
    match world.has(volume, path) {
        Some(true) => {}
        Some(false) => found.problem(format!("{} has no file {}", volume.id, Printable(path))),
        None => found.cannot_tell(format!("{} ({}) cannot be read here", volume.id, volume.content)),
    }
}

/// Follows what GRUB 0.9x would do.
pub(crate) fn legacy(world: &World<'_>, stages: &Stages) -> Resolution {
    let mut found = Resolution::default();
    let id = match (stages.partition, &world.layout.table) {
        (Some(number), _) => VolumeId::Partition(number),
        (None, None) => VolumeId::Whole,
        (None, Some(_)) => {
            found.cannot_tell("it reads the partition that it was started from");
            return found;
        }
    };
    let Some(volume) = world.layout.volume(&id) else {
        found.problem(format!("it reads {id}, which does not exist"));
        return found;
    };
    found.volume = Some(id);
    if stages.next == Next::Stage1_5 {
        match stages.stage2.as_deref() {
            Some(path) => file(world, volume, path, &mut found),
            None => found.problem("stage 1.5 names no stage 2"),
        }
    }
    file(world, volume, stages.menu_or_default(), &mut found);
    found
}
