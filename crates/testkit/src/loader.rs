//! Boot loaders installed by their own programs, as an administrator would from inside the guest.

use std::fs::{File, OpenOptions, copy, create_dir_all, write};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;

use ondisk::{Len, Offset, SectorSize};

use crate::guest::partition;
use crate::images::{flavor, format, place};
use crate::oracle::{Loop, Mount, debugfs};
use crate::tool::{done, find, run, said, tool};

/// GRUB's files for a BIOS.
const GRUB: &str = "/usr/lib/grub/i386-pc";
/// The UUID of filesystems made here.
pub const UUID: &str = "11111111-2222-4333-8444-555555555555";

/// Divides a new disk of `len` bytes as a script for sfdisk says, and puts a filesystem with an empty `/boot/grub` into
/// the span at `at`.
///
/// # Panics
/// Where one of the programs fails.
pub fn disk(path: &Path, len: Len, script: &str, flavor_name: &str, (at, fs): (Offset, Len)) {
    File::create(path).and_then(|file| file.set_len(len.get())).expect("a sparse file");
    if !script.is_empty() {
        partition(path, script);
    }
    let work = tempfile::tempdir().expect("a temporary folder");
    let [root, image] = ["root", "image"].map(|name| work.path().join(name));
    create_dir_all(root.join("boot/grub/i386-pc")).expect("a folder");
    create_dir_all(root.join("etc")).expect("a folder");
    format(flavor(flavor_name), fs, Some(&root), &image);
    run("tune2fs", ["-U".as_ref(), UUID.as_ref(), image.as_os_str()]);
    place(&image, path, at);
}

/// Lets `work` change the files of a filesystem on a disk, through the kernel.
///
/// # Panics
/// Where the kernel does not mount it.
pub fn with_files(disk: &Path, (at, len): (Offset, Len), work: impl FnOnce(&Path)) {
    let device = Loop::span(disk, at, len);
    let mount = Mount::new(device.path(), "rw,noatime");
    work(mount.path());
}

/// What a core of GRUB 2 is made of.
#[derive(Clone, Copy, Debug)]
pub struct Grub2<'a> {
    /// Where its own folder is.
    pub prefix: &'a str,
    /// Commands that it runs first.
    pub config: Option<&'a str>,
    /// Modules; what they depend on comes along.
    pub modules: &'a [&'a str],
}

impl Grub2<'_> {
    /// Makes the core image with grub-mkimage.
    ///
    /// # Panics
    /// Where grub-mkimage fails.
    pub fn make(&self, to: &Path) {
        let work = tempfile::tempdir().expect("a temporary folder");
        let config = work.path().join("load.cfg");
        let mut mkimage = tool("grub-mkimage");
        mkimage.args(["-O", "i386-pc", "-p", self.prefix]).arg("-o").arg(to);
        if let Some(text) = self.config {
            write(&config, text).expect("the commands");
            mkimage.arg("-c").arg(&config);
        }
        done(mkimage.args(self.modules));
    }

    /// Installs it with grub-bios-setup: `/boot/grub` is in the filesystem at `boot`, the boot sector goes to the start
    /// of the disk. Where neither gap nor BIOS boot partition are there, the core's file is listed block by block.
    ///
    /// # Panics
    /// Where grub-bios-setup fails.
    pub fn install(&self, disk: &Path, boot: (Offset, Len)) {
        let whole = Loop::whole(disk, SectorSize::B512);
        if boot.0 == Offset::ZERO {
            self.install_on(whole.path(), whole.path());
        } else {
            let partition = Loop::span(disk, boot.0, boot.1);
            self.install_on(partition.path(), whole.path());
        }
    }

    /// Installs it into the boot sector of the partition at `boot`, which loads the core's file block by block.
    ///
    /// # Panics
    /// As [`Grub2::install`].
    pub fn install_into_partition(&self, disk: &Path, boot: (Offset, Len)) {
        let device = Loop::span(disk, boot.0, boot.1);
        self.install_on(device.path(), device.path());
        drop(device);
        // The program took the partition for a disk of its own: its sectors count from the start of the partition.
        let file = OpenOptions::new().read(true).write(true).open(disk).expect("a disk");
        let by = boot.0.get() / 512;
        let add = |at: u64| {
            let mut word = [0; 8];
            file.read_exact_at(&mut word, at).expect("a sector number");
            let sector = u64::from_le_bytes(word) + by;
            file.write_all_at(&sector.to_le_bytes(), at).expect("a sector number");
            sector
        };
        let core = add(boot.0.get() + 0x5c);
        for entry in (0..).map(|n| core * 512 + 0x1f4 - n * 12) {
            let mut count = [0; 2];
            file.read_exact_at(&mut count, entry + 8).expect("a count");
            if count == [0; 2] {
                break;
            }
            add(entry);
        }
    }

    fn install_on(&self, boot: &Path, target: &Path) {
        let root = Mount::new(boot, "rw,noatime");
        let folder = root.path().join("boot/grub/i386-pc");
        self.make(&folder.join("core.img"));
        for name in ["boot.img", "normal.mod"] {
            copy(find(&format!("{GRUB}/{name}")), folder.join(name)).expect("GRUB's files");
        }
        write(root.path().join("boot/grub/grub.cfg"), "linux /vmlinuz\nboot\n").expect("GRUB's menu");
        let mut setup = tool(&format!("{GRUB}/grub-bios-setup"));
        done(setup.arg("--force").arg("--directory").arg(&folder).arg(target));
    }
}

/// Puts the stages of GRUB 0.97 and a menu into `/boot/grub` below `root`.
///
/// # Panics
/// Where a file cannot be written.
pub fn legacy_files(root: &Path) {
    for name in ["stage1", "stage2", "e2fs_stage1_5"] {
        copy(find(&format!("/usr/lib/grub/x86_64-pc/{name}")), root.join("boot/grub").join(name))
            .expect("GRUB's stages");
    }
    write(root.join("boot/grub/menu.lst"), "default 0\n").expect("GRUB's menu");
}

/// Runs a script in the shell of GRUB 0.97; the disk is `(hd0)`.
///
/// # Panics
/// Where it reports an error.
pub fn legacy_shell(disk: &Path, script: &str) {
    let mut grub = tool("grub");
    grub.args(["--batch", "--device-map=/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = grub.spawn().expect("grub starts");
    let script = format!("device (hd0) {}\n{script}\nquit\n", disk.display());
    child.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("grub reads its script");
    let said = said(&child.wait_with_output().expect("grub ends"));
    assert!(!said.contains("Error"), "{said}");
}

/// Installs GRUB 0.97 with a script for its shell, from stages in `/boot/grub` of the filesystem at `boot`.
///
/// # Panics
/// Where its shell reports an error.
pub fn install_legacy(disk: &Path, boot: (Offset, Len), script: &str) {
    with_files(disk, boot, legacy_files);
    legacy_shell(disk, script);
}

/// Installs EXTLINUX into a filesystem, and its MBR code that starts the active partition.
///
/// # Panics
/// Where extlinux fails.
pub fn install_extlinux(disk: &Path, boot: (Offset, Len)) {
    with_files(disk, boot, |root| {
        let folder = root.join("boot/extlinux");
        create_dir_all(&folder).expect("a folder");
        run("extlinux", ["--install".as_ref(), folder.as_os_str()]);
    });
    let code = std::fs::read(find("/usr/lib/EXTLINUX/mbr.bin")).expect("the MBR code");
    let file = OpenOptions::new().write(true).open(disk).expect("a disk");
    file.write_all_at(&code, 0).expect("the boot sector");
}

/// The blocks of a file in the order of its contents, as debugfs lists them.
///
/// # Panics
/// Where debugfs does not know them.
#[must_use]
pub fn blocks(disk: &Path, at: Offset, path: &str) -> Vec<u64> {
    let text = debugfs(disk, at, false, &format!("blocks {path}"));
    let line = text.lines().rfind(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    let words = line.unwrap_or_else(|| panic!("{path}: {text}")).split_whitespace();
    words.map(|word| word.parse().expect("a block number")).collect()
}
