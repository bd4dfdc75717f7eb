//! Disks with boot loaders of grub-bios-setup, GRUB 0.97's shell and extlinux.

use crate::base::{Base, Place, span};
use crate::ext::load;
use disk::{ReadAt, Sparse};
use ondisk::{Len, Offset};
use std::path::Path;
use testkit::loader::{self, Grub2, UUID};

const MIB: u64 = 1 << 20;
const MBR: &str = "label: dos\nlabel-id: 0x0a1b2c3d\nstart=2048,type=83,bootable\n";
const BOOT: (Offset, Len) = (Offset::new(MIB), Len::mib(24));

/// One disk for each way to install.
#[must_use]
pub fn bases() -> Vec<Base> {
    let search = format!("search.fs_uuid {UUID} root \nset prefix=($root)/boot/grub\n");
    let modules = ["biosdisk", "part_msdos", "ext2", "search_fs_uuid"];
    let core = Grub2 { prefix: "/boot/grub", config: Some(&search), modules: &modules };
    let listed = Grub2 { prefix: "(,msdos1)/boot/grub", config: None, modules: &modules[..3] };
    let direct = "root (hd0,0)\ninstall /boot/grub/stage1 (hd0) /boot/grub/stage2 p /boot/grub/menu.lst";
    vec![
        base("core in the gap", &|disk| core.install(disk, BOOT)),
        base("core in a file", &|disk| listed.install_into_partition(disk, BOOT)),
        base("stage 1.5", &|disk| loader::install_legacy(disk, BOOT, "root (hd0,0)\nsetup (hd0)")),
        base("stage 2", &|disk| loader::install_legacy(disk, BOOT, direct)),
        base("extlinux", &|disk| loader::install_extlinux(disk, BOOT)),
    ]
}

fn base(name: &str, install: &dyn Fn(&Path)) -> Base {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("disk");
    loader::disk(&path, Len::mib(26), MBR, "ext3-1k", BOOT);
    install(&path);
    let disk = load(&path);
    let sectors = [0, MIB].map(|at| Place::on(&disk, span(at, 440), None));
    // What either kind of boot sector points at: the sector with the list, the one behind it, the start of the stream.
    let next = [0, MIB].into_iter().flat_map(|at| [number(&disk, at + 0x5c), number(&disk, at + 0x44)]);
    let next: Vec<u64> = next.map(|sector| sector * 512).filter(|at| (512..20 * MIB).contains(at)).collect();
    let lists = next.iter().map(|at| Place::on(&disk, span(at + 0x1a0, 0x60), None)).collect();
    let heads = next.iter().map(|at| Place::on(&disk, span(at + 512, 96), None)).collect();
    let streams = next.iter().map(|at| Place::on(&disk, span(at + 512 + 2848, 26_000), None)).collect();
    Base::new(name, disk, vec![sectors.into(), lists, heads, streams])
}

fn number(disk: &Sparse, at: u64) -> u64 {
    let mut bytes = [0; 4];
    disk.read_at(Offset::new(at), &mut bytes).expect("a base can be read");
    u32::from_le_bytes(bytes).into()
}
