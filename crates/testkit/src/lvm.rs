//! LVM2's own tools on loop devices, with a configuration, locks and backups of their own. They need no device-mapper
//! as long as nothing is activated.

use std::path::Path;
use std::process::{Command, Output};

use crate::oracle::Loop;
use crate::tool::{done, said, tool};

/// Options of `lvcreate` and friends that let them edit metadata where the kernel has no device-mapper.
pub const OFFLINE: &[&str] = &["--driverloaded", "n", "-an", "-y"];

/// The tools, seeing some devices and no others.
#[derive(Debug)]
pub struct Lvm<'a> {
    dir: tempfile::TempDir,
    devices: Vec<&'a Path>,
}

impl<'a> Lvm<'a> {
    /// The tools on these devices, which their outputs call `dev0`, `dev1`, ….
    #[must_use]
    pub fn on(devices: &'a [Loop]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let devices: Vec<&Path> = devices.iter().map(Loop::path).collect();
        let allowed: Vec<String> =
            devices.iter().map(|path| format!("\"a|^{}$|\"", path.display())).collect();
        let conf = format!(
            "devices {{\nuse_devicesfile=0\nglobal_filter=[{}, \"r|.*|\"]\nobtain_device_list_from_udev=0\n\
             external_device_info_source=\"none\"\n}}\n\
             backup {{\nbackup=0\narchive=0\n}}\nactivation {{\nudev_sync=0\nudev_rules=0\n}}\n\
             global {{\nlocking_dir=\"{}\"\n}}\n",
            allowed.join(", "),
            dir.path().display()
        );
        std::fs::write(dir.path().join("lvm.conf"), conf).expect("a configuration");
        Self { dir, devices }
    }

    /// `lvm ARGS…`, where `dev0` stands for the first device.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = tool("lvm");
        command.env("LVM_SYSTEM_DIR", self.dir.path()).env("LVM_SUPPRESS_FD_WARNINGS", "1");
        for arg in args {
            // `dev0`, or some of its extents: `dev0:3-5`.
            let (name, extents) = arg.split_at(arg.find(':').unwrap_or(arg.len()));
            let device = name.strip_prefix("dev").and_then(|number| number.parse::<usize>().ok());
            match device.and_then(|number| self.devices.get(number)) {
                Some(path) => command.arg(format!("{}{extents}", path.display())),
                None => command.arg(arg),
            };
        }
        command
    }

    /// Runs a command, which must succeed, and returns its stdout.
    pub fn run(&self, args: &[&str]) -> String {
        self.renamed(done(&mut self.command(args)))
    }

    /// Runs a command, whatever it thinks.
    #[must_use]
    pub fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("lvm can be started")
    }

    /// Makes physical volumes of all devices and one volume group of them.
    pub fn create(&self, vg: &str, pvcreate: &[&str], vgcreate: &[&str]) {
        let names: Vec<String> = (0..self.devices.len()).map(|number| format!("dev{number}")).collect();
        let names = names.iter().map(String::as_str);
        self.run(
            &["pvcreate", "-q", "-ff", "-y"]
                .into_iter()
                .chain(pvcreate.iter().copied())
                .chain(names.clone())
                .collect::<Vec<_>>(),
        );
        let vgcreate = vgcreate.iter().copied();
        self.run(
            &["vgcreate", "-q"].into_iter().chain(vgcreate).chain([vg]).chain(names).collect::<Vec<_>>(),
        );
    }

    /// Makes a linear or striped logical volume: `-l 5 -n root vg`.
    pub fn lvcreate(&self, args: &[&str]) {
        self.run(&[&["lvcreate", "-q", "-Zn", "-Wn"], OFFLINE, args].concat());
    }

    /// A table of `pvs`, `vgs` or `lvs`: one row a line, columns between `|`, sizes in bytes.
    #[must_use]
    pub fn report(&self, kind: &str, columns: &str) -> Vec<String> {
        let mut args =
            vec![kind, "--noheadings", "--separator", "|", "--units", "b", "--nosuffix", "-o", columns];
        if kind == "lvs" {
            args.extend(["-a", "--segments", "-O", "lv_name,seg_start_pe"]);
        }
        let mut rows: Vec<String> = self.run(&args).lines().map(|line| line.trim().to_owned()).collect();
        if kind == "pvs" {
            // The tools sort by the devices' real names.
            rows.sort();
        }
        rows
    }

    /// The committed text on a device, as the tools read it.
    ///
    /// # Panics
    /// Where they find none.
    #[must_use]
    pub fn text(&self, device: &str) -> String {
        let said = self.run(&["pvck", "--dump", "metadata", device]);
        let text = said.split_once("  ---\n").and_then(|(_, text)| text.rsplit_once("  ---"));
        text.expect("a text between two rules").0.to_owned()
    }

    /// Expects that the tools find nothing wrong: neither with the volume group nor with any device.
    ///
    /// # Panics
    /// Where they do.
    pub fn assert_clean(&self, vg: &str) {
        for args in [&["vgck", vg][..], &["pvs"], &["vgs"], &["lvs", "-a"]] {
            self.assert_silent(args);
        }
        for number in 0..self.devices.len() {
            self.assert_silent(&["pvck", &format!("dev{number}")]);
            self.assert_silent(&["pvck", "--dump", "headers", &format!("dev{number}")]);
        }
    }

    fn assert_silent(&self, args: &[&str]) {
        let out = self.output(args);
        let text = said(&out);
        let complains = |line: &str| {
            let upper = line.to_uppercase();
            let words =
                ["WARNING", "ERROR", "FAIL", "INCORRECT", "INVALID", "MISMATCH", "INCONSISTEN", "CORRUPT"];
            words.iter().any(|word| upper.contains(word)) && !is_harmless(line)
        };
        let complaints: Vec<&str> = text.lines().filter(|line| complains(line)).collect();
        assert!(out.status.success() && complaints.is_empty(), "{args:?}: {}\n{text}", out.status);
    }

    fn renamed(&self, text: String) -> String {
        let devices = self.devices.iter().enumerate();
        devices.fold(text, |text, (number, path)| {
            let path = path.to_str().expect("devices have plain names");
            // `loop1` is not to be found in `loop12`.
            let mut new = String::new();
            let mut rest = text.as_str();
            while let Some((head, tail)) = rest.split_once(path) {
                let whole = !tail.starts_with(|c: char| c.is_ascii_digit());
                new += head;
                new += if whole { format!("dev{number}") } else { path.to_owned() }.as_str();
                rest = tail;
            }
            new + rest
        })
    }
}

/// What the tools say because there is no device-mapper.
fn is_harmless(line: &str) -> bool {
    let starts = ["/dev/mapper/control", "Failure to communicate with kernel", "Incompatible libdevmapper"];
    let line = line.trim();
    starts.iter().any(|start| line.starts_with(start)) || line.contains("Activation disabled")
}

#[cfg(test)]
mod tests {
    use ondisk::{Len, Offset};

    use super::*;

    #[test]
    fn a_volume_group_is_made_and_damage_is_told() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.as_file().set_len(64 << 20).expect("a sparse file");
        let attach = || [Loop::span(file.path(), Offset::new(1 << 20), Len::mib(60))];
        let devices = attach();
        let lvm = Lvm::on(&devices);
        lvm.create("vg", &[], &[]);
        lvm.lvcreate(&["-l", "3", "-n", "root", "vg"]);
        lvm.assert_clean("vg");
        assert_eq!(lvm.report("lvs", "lv_name,seg_pe_ranges,lv_size"), ["root|dev0:0-2|12582912"]);
        assert!(lvm.text("dev0").contains("\nseqno = 2\n"));
        drop(lvm);
        drop(devices);
        let text = Offset::new((1 << 20) + 4096 + 512 + 1024);
        std::os::unix::fs::FileExt::write_all_at(file.as_file(), b"x", text.get() + 40).expect("a byte");
        let devices = attach();
        let lvm = Lvm::on(&devices);
        assert!(std::panic::catch_unwind(|| lvm.assert_clean("vg")).is_err());
    }
}
