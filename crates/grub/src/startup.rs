//! What a guest does by itself when it starts, and by which names it then looks for volumes.
//!
//! ```text
//! /etc/fstab                               x-systemd.growfs, device names
//! /etc/cloud/cloud.cfg, cloud.cfg.d        growpart
//! GRUB's menu, loader entries, /etc/initramfs-tools/conf.d/resume      resume=
//! ```
//!
//! Files are read as text, line by line; what a shell would make of them is not followed.

use crate::world::World;
use extfs::Kind;
use ondisk::Len;
use ondisk::text::Printable;
use stack::VolumeId;
use stack::view::Filesystem;

/// What guests on this disk do when they start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Startup {
    /// Root filesystems whose cloud-init grows partition and filesystem.
    pub growpart: Vec<VolumeId>,
    /// Mount points whose filesystems systemd grows; safe to print.
    pub growfs: Vec<String>,
    /// Devices that are named.
    pub names: Vec<Named>,
}

/// A device that some file of a guest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The volume with that file.
    pub volume: VolumeId,
    /// The path of the file.
    pub file: &'static str,
    /// What it is for: `resume`, or a mount point; safe to print.
    pub purpose: String,
    /// The name; safe to print.
    pub spec: String,
    /// What it means on this disk; `None` where nothing here has that name.
    pub place: Option<VolumeId>,
}

/// No such file is longer.
const FILE_MAX: Len = Len::kib(256);
/// More files in a folder are not read.
const FILES_MAX: usize = 64;
/// More names are not kept.
const NAMES_MAX: usize = 64;

/// Files with kernel command lines.
const MENUS: [&str; 10] = [
    "/boot/grub/grub.cfg",
    "/boot/grub2/grub.cfg",
    "/boot/grub/menu.lst",
    "/boot/grub/grub.conf",
    "/grub/grub.cfg",
    "/grub2/grub.cfg",
    "/grub/menu.lst",
    "/grub/grub.conf",
    "/etc/lilo.conf",
    "/etc/initramfs-tools/conf.d/resume",
];
/// Folders with one file for each kernel.
const ENTRIES: [&str; 2] = ["/boot/loader/entries", "/loader/entries"];
/// What may stand around a value.
const QUOTES: [char; 2] = ['"', '\''];
const FSTAB: &str = "/etc/fstab";
const CLOUD: &str = "/etc/cloud/cloud.cfg";
const CLOUD_FOLDER: &str = "/etc/cloud/cloud.cfg.d";
/// Files whose presence switches growing off.
const CLOUD_OFF: [&str; 2] = ["/etc/cloud/cloud-init.disabled", "/etc/growroot-disabled"];

/// Looks into every filesystem of the disk.
pub(crate) fn look(world: &World<'_>) -> Startup {
    let mut startup = Startup::default();
    for volume in &world.layout.volumes {
        let facts = world.with(volume, Facts::of).unwrap_or_default();
        if facts.growpart {
            startup.growpart.push(volume.id.clone());
        }
        startup.growfs.extend(facts.growfs);
        for (file, purpose, spec) in facts.names {
            let place = world.place(&spec);
            let spec = Printable(spec.as_bytes()).to_string();
            let named = Named { volume: volume.id.clone(), file, purpose, spec, place };
            if startup.names.len() < NAMES_MAX && !startup.names.contains(&named) {
                startup.names.push(named);
            }
        }
    }
    startup
}

/// What one filesystem says.
#[derive(Debug, Default)]
struct Facts {
    growpart: bool,
    growfs: Vec<String>,
    names: Vec<(&'static str, String, String)>,
}

impl Facts {
    fn of(fs: &Filesystem<'_>) -> Self {
        let mut facts = Self::default();
        facts.fstab(&text(fs, FSTAB).unwrap_or_default());
        for file in MENUS {
            facts.resume(file, &text(fs, file).unwrap_or_default());
        }
        for folder in ENTRIES {
            for text in texts(fs, folder) {
                facts.resume(folder, &text);
            }
        }
        if let Some(cloud) = text(fs, CLOUD) {
            let more = texts(fs, CLOUD_FOLDER);
            let on = lists_growpart(&cloud) && !more.iter().chain([&cloud]).any(|text| switches_off(text));
            facts.growpart = on && !CLOUD_OFF.iter().any(|path| fs.resolve(path.as_bytes()).is_ok());
        }
        facts
    }

    fn fstab(&mut self, text: &str) {
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            let mut fields = line.split_whitespace();
            let (Some(spec), Some(target), _, options) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let target = Printable(target.as_bytes()).to_string();
            if self.growfs.len() < NAMES_MAX
                && options.is_some_and(|all| all.split(',').any(|option| option == "x-systemd.growfs"))
            {
                self.growfs.push(target.clone());
            }
            if is_kernel_name(spec) {
                self.name(FSTAB, &target, spec);
            }
        }
    }

    fn resume(&mut self, file: &'static str, text: &str) {
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            let lower = line.to_ascii_lowercase();
            for (at, found) in lower.match_indices("resume=") {
                let before = line.get(..at).and_then(|head| head.chars().next_back());
                if before.is_some_and(|c| !c.is_whitespace() && !QUOTES.contains(&c)) {
                    continue;
                }
                let value = line.get(at.saturating_add(found.len())..).unwrap_or_default();
                let value = value.strip_prefix(QUOTES).unwrap_or(value);
                let end = |c: char| c.is_whitespace() || QUOTES.contains(&c);
                let spec = value.split(end).next().unwrap_or_default();
                if !matches!(spec, "" | "none" | "auto") {
                    self.name(file, "resume", spec);
                }
            }
        }
    }

    fn name(&mut self, file: &'static str, purpose: &str, spec: &str) {
        let named = (file, purpose.to_owned(), spec.to_owned());
        if self.names.len() < NAMES_MAX && !self.names.contains(&named) {
            self.names.push(named);
        }
    }
}

/// Whether a name is one that a kernel gives in the order in which it finds disks.
fn is_kernel_name(spec: &str) -> bool {
    spec.strip_prefix("/dev/").is_some_and(|name| {
        !name.contains('/')
            && ["sd", "hd", "vd", "xvd", "nvme", "mmcblk"].iter().any(|family| name.starts_with(family))
    })
}

/// Whether cloud-init's list of modules names `growpart`.
fn lists_growpart(text: &str) -> bool {
    text.lines().map(str::trim).filter_map(|line| line.strip_prefix('-')).any(|item| {
        let item = item.trim().trim_start_matches('[').trim_start();
        let name = item.split([',', ']', ' ']).next().unwrap_or_default();
        name.trim_matches(['"', '\'']) == "growpart"
    })
}

/// Whether a block `growpart:` says `mode: off`.
fn switches_off(text: &str) -> bool {
    let mut inside = false;
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty()) {
        if !line.starts_with([' ', '\t']) {
            inside = line.starts_with("growpart:");
        }
        let off = line.split_once("mode:").is_some_and(|(_, mode)| {
            let mode = mode.split([',', '}', '#']).next().unwrap_or_default();
            matches!(mode.trim().trim_matches(['"', '\'']), "off" | "false" | "False" | "no")
        });
        if inside && off {
            return true;
        }
    }
    false
}

fn text(fs: &Filesystem<'_>, path: &str) -> Option<String> {
    let inode = fs.resolve(path.as_bytes()).ok()?;
    if inode.kind() != Some(Kind::File) || inode.size() > FILE_MAX {
        return None;
    }
    Some(String::from_utf8_lossy(&fs.read_whole(&inode).ok()?).into_owned())
}

/// The files of a folder.
fn texts(fs: &Filesystem<'_>, folder: &str) -> Vec<String> {
    let Ok(dir) = fs.resolve(folder.as_bytes()) else { return Vec::new() };
    let Ok(entries) = fs.entries(&dir) else { return Vec::new() };
    let names = entries.map_while(Result::ok).take(FILES_MAX).filter_map(|entry| {
        let name = String::from_utf8(entry.name).ok()?;
        [".conf", ".cfg"].iter().any(|end| name.ends_with(end)).then_some(())?;
        text(fs, &format!("{folder}/{name}"))
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fstab_names_and_grows() {
        let mut facts = Facts::default();
        facts.fstab(
            "# /dev/sda9 /old ext4 defaults 0 0\n\
             UUID=0a1b / ext4 discard,x-systemd.growfs 0 1\n\
             /dev/sda5 none swap sw 0 0\n\
             /dev/mapper/vg-home /home ext4 x-systemd.growfs-not 0 2\n\
             /dev/sda1\n",
        );
        assert_eq!(facts.growfs, ["/"]);
        assert_eq!(facts.names, [(FSTAB, "none".to_owned(), "/dev/sda5".to_owned())]);
    }

    #[test]
    fn resume_is_found_in_command_lines() {
        let mut facts = Facts::default();
        let menu =
            "linux /vmlinuz root=UUID=1 ro resume=UUID=2 quiet\nlinux /old resume=UUID=2\n# resume=/dev/no\n";
        facts.resume("menu", menu);
        facts.resume("menu", "append=\"resume=/dev/hda2\" noresume=x\nRESUME=none\nRESUME=\"UUID=3\"\n");
        let specs: Vec<&str> = facts.names.iter().map(|(_, _, spec)| spec.as_str()).collect();
        assert_eq!(specs, ["UUID=2", "/dev/hda2", "UUID=3"]);
    }

    #[test]
    fn cloud_init() {
        assert!(lists_growpart("cloud_init_modules:\n - migrator\n - growpart\n"));
        assert!(lists_growpart("cloud_init_modules:\n  - [ growpart, always ]\n"));
        assert!(!lists_growpart("# - growpart\ncloud_init_modules:\n - resizefs\n"));
        assert!(switches_off("growpart:\n  mode: off\n"));
        assert!(switches_off("growpart: {mode: 'off', devices: [/]}\n"));
        assert!(!switches_off("growpart:\n  mode: auto\nother:\n  mode: off\n"));
        assert!(!switches_off("# growpart:\n#  mode: off\n"));
    }
}
