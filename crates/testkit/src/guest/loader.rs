//! Boot loaders: GRUB 2 as `grub-install` embeds it, and GRUB 0.97.

use std::fs::{OpenOptions, create_dir_all, read, write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use ondisk::Len;

use crate::loader::legacy_shell;
use crate::tool::{find, run};

/// What each core holds.
const MODULES: [&str; 7] = ["ext2", "xfs", "normal", "linux", "serial", "part_gpt", "part_msdos"];

/// GRUB's core: where it finds the rest of itself.
pub(super) struct Core {
    prefix: String,
    config: String,
}

impl Core {
    /// One that knows its device, as GRUB calls it.
    pub(super) fn at(device: &str, dir: &str) -> Self {
        Self { prefix: format!("({device}){dir}"), config: String::new() }
    }

    /// One that looks for the filesystem with that UUID first.
    pub(super) fn searching(uuid: &str, dir: &str) -> Self {
        let config = format!("search.fs_uuid {uuid} root\nset prefix=($root){dir}\n");
        Self { prefix: dir.to_owned(), config }
    }

    fn image(&self, target: &str, modules: &[&str], to: &Path) {
        let mut options =
            vec!["-O", target, "-p", &self.prefix, "-o", to.to_str().expect("test paths are UTF-8")];
        let config = tempfile::NamedTempFile::new().expect("a temporary file");
        write(config.path(), &self.config).expect("a configuration");
        if !self.config.is_empty() {
            options.extend(["-c", config.path().to_str().expect("test paths are UTF-8"), "search_fs_uuid"]);
        }
        options.extend(self.prefix.starts_with("(lvm").then_some("lvm"));
        run("grub-mkimage", options.iter().chain(&MODULES).chain(modules));
    }

    /// Puts GRUB's boot sector and this core where `grub-bios-setup` would, the core at sector `core_at`.
    pub(super) fn embed(&self, disk: &Path, core_at: u64) {
        let work = tempfile::tempdir().expect("a temporary folder");
        let core = work.path().join("core.img");
        self.image("i386-pc", &["biosdisk"], &core);
        let mut core = read(core).expect("a core image");
        core.resize(core.len().next_multiple_of(512), 0);
        core[0x1f4..0x1fc].copy_from_slice(&(core_at + 1).to_le_bytes()); // diskboot's list: where the rest lies
        let mut boot = read(find("/usr/lib/grub/i386-pc/boot.img")).expect("a boot sector");
        boot[0x5c..0x64].copy_from_slice(&core_at.to_le_bytes());
        boot[0x66..0x68].copy_from_slice(&[0x90, 0x90]); // a hard disk: trust no drive number but the BIOS's
        let disk = OpenOptions::new().read(true).write(true).open(disk).expect("a disk");
        let mut old = [0; 512];
        disk.read_exact_at(&mut old, 0).expect("the partition table's sector");
        boot[0x003..0x05a].copy_from_slice(&old[0x003..0x05a]);
        boot[0x1b8..0x200].copy_from_slice(&old[0x1b8..0x200]);
        disk.write_all_at(&boot, 0).expect("the boot sector");
        disk.write_all_at(&core, core_at * 512).expect("the core image");
    }
}

/// A FAT filesystem with GRUB where UEFI looks on removable media.
pub(super) fn system_partition(len: Len, core: &Core, image: &Path) {
    std::fs::File::create(image).and_then(|file| file.set_len(len.get())).expect("a sparse file");
    run("mkfs.fat", ["-n".as_ref(), "EFI".as_ref(), "-i".as_ref(), "0a1b2c3d".as_ref(), image.as_os_str()]);
    let work = tempfile::tempdir().expect("a temporary folder");
    let dir = work.path().join("EFI/BOOT");
    create_dir_all(&dir).expect("a folder");
    core.image("x86_64-efi", &["efi_gop"], &dir.join("BOOTX64.EFI"));
    let from = work.path().join("EFI");
    run("mcopy", ["-s".as_ref(), "-i".as_ref(), image.as_os_str(), from.as_os_str(), "::".as_ref()]);
}

/// Lets GRUB 0.97 install itself from the boot partition's files.
pub(super) fn install_legacy(disk: &Path, boot: u32) {
    legacy_shell(disk, &format!("root (hd0,{})\nsetup (hd0)", boot - 1));
}
