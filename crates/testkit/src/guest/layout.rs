//! How distributions divide disks.

use std::fmt::Write as _;

use ondisk::{Len, Offset};

/// What a partition or a logical volume is there for. Filesystems name their flavour, `xfs` or `btrfs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Where GRUB's core lies on a GPT disk that a BIOS starts.
    BiosBoot,
    /// The system partition of UEFI.
    Esp,
    /// The filesystem of `/boot`.
    Boot(&'static str),
    /// The root filesystem.
    Root(&'static str),
    /// Swap space.
    Swap,
    /// An extended partition.
    Extended,
    /// A physical volume of LVM, the only one of its group.
    Pv(&'static Group),
}

/// A volume group: its name, its logical volumes as (name, MiB, role) in the order in which they were made.
#[derive(Debug, PartialEq, Eq)]
pub struct Group(pub &'static str, pub &'static [(&'static str, u64, Role)]);

/// A partition: its number, first sector, sectors, role. A disk without a table is one with the number 0.
#[derive(Clone, Copy, Debug)]
pub struct Part(pub u32, pub u64, pub u64, pub Role);

/// What starts a guest, and how it finds its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loader {
    /// GRUB 2 with a prefix that names the partition or the logical volume.
    Grub2,
    /// GRUB 2 with a configuration in its core that searches for the UUID of the filesystem.
    Grub2Search,
    /// GRUB 0.97: knows neither `meta_bg` nor large group descriptors.
    GrubLegacy,
    /// None: a disk of data.
    Nothing,
}

/// How a distribution divides a disk.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// For messages and look-up.
    pub name: &'static str,
    /// `dos`, `gpt`, or nothing where there is no table.
    pub label: &'static str,
    pub(super) loader: Loader,
    /// The size of the disk.
    pub disk: Len,
    /// What is on it.
    pub parts: &'static [Part],
}

const MIB: u64 = 2048; // in sectors

const fn dos(name: &'static str, loader: Loader, disk: Len, parts: &'static [Part]) -> Layout {
    Layout { name, label: "dos", loader, disk, parts }
}

const fn gpt(name: &'static str, loader: Loader, disk: Len, parts: &'static [Part]) -> Layout {
    Layout { name, label: "gpt", loader, disk, parts }
}

/// The layouts of the guests that matter.
pub const LAYOUTS: &[Layout] = &[
    // The demo guest: as Debian's cloud images, the root partition is the first by number and the last by place.
    gpt(
        "debian12-cloud",
        Loader::Grub2,
        Len::gib(2),
        &[
            Part(1, 32 * MIB, 2015 * MIB, Role::Root("ext4-4k")),
            Part(14, MIB, 3 * MIB, Role::BiosBoot),
            Part(15, 4 * MIB, 28 * MIB, Role::Esp),
        ],
    ),
    // Debian's installer: root, then swap as a logical partition behind it.
    dos(
        "debian12",
        Loader::Grub2,
        Len::gib(1),
        &[
            Part(1, MIB, 893 * MIB, Role::Root("ext4-4k")),
            Part(2, 894 * MIB + 2046, 128 * MIB + 2, Role::Extended),
            Part(5, 895 * MIB, 128 * MIB, Role::Swap),
        ],
    ),
    // Debian's installer on a machine with UEFI: swap is the last.
    gpt(
        "debian12-uefi",
        Loader::Grub2Search,
        Len::gib(1),
        &[
            Part(1, MIB, 64 * MIB, Role::Esp),
            Part(2, 65 * MIB, 850 * MIB, Role::Root("ext4-4k")),
            Part(3, 915 * MIB, 108 * MIB, Role::Swap),
        ],
    ),
    // Debian's guided LVM: a boot partition, and the physical volume as a logical partition up to the last sector.
    dos(
        "debian12-lvm",
        Loader::Grub2,
        Len::gib(1),
        &[
            Part(1, MIB, 120 * MIB, Role::Boot("ext2-1k")),
            Part(2, 122 * MIB + 2046, 902 * MIB - 2046, Role::Extended),
            Part(
                5,
                123 * MIB,
                901 * MIB,
                Role::Pv(&Group(
                    "debian-vg",
                    &[("root", 772, Role::Root("ext4-4k")), ("swap_1", 128, Role::Swap)],
                )),
            ),
        ],
    ),
    // All in one group, /boot too: GRUB reads LVM.
    dos(
        "boot-in-lvm",
        Loader::Grub2,
        Len::gib(1),
        &[Part(
            1,
            MIB,
            1023 * MIB,
            Role::Pv(&Group("vg0", &[("root", 800, Role::Root("ext4-4k")), ("swap", 100, Role::Swap)])),
        )],
    ),
    // Everything in logical partitions, as older guides had it.
    dos(
        "logical-root",
        Loader::Grub2,
        Len::gib(1),
        &[
            Part(1, MIB, 100 * MIB, Role::Boot("ext2-1k")),
            Part(2, 101 * MIB + 2046, 922 * MIB + 2, Role::Extended),
            Part(5, 102 * MIB, 64 * MIB, Role::Swap),
            Part(6, 167 * MIB, 857 * MIB, Role::Root("ext4-4k")),
        ],
    ),
    // Root and a primary swap behind it.
    dos(
        "root-swap",
        Loader::Grub2Search,
        Len::gib(1),
        &[Part(1, MIB, 895 * MIB, Role::Root("ext4-4k")), Part(2, 896 * MIB, 128 * MIB, Role::Swap)],
    ),
    // CentOS 5: GRUB 0.97, sector 63, ext3 with small inodes, swap before root.
    dos(
        "centos5",
        Loader::GrubLegacy,
        Len::gib(1),
        &[
            Part(1, 63, 208_782, Role::Boot("ext3-1k")),
            Part(2, 208_845, 257_040, Role::Swap),
            Part(3, 465_885, 1_622_565, Role::Root("ext3-centos5")),
        ],
    ),
    // The same in the other order, ending with a cylinder.
    dos(
        "centos5-swap-last",
        Loader::GrubLegacy,
        Len::gib(1),
        &[
            Part(1, 63, 208_782, Role::Boot("ext3-1k")),
            Part(2, 208_845, 1_622_565, Role::Root("ext3-centos5")),
            Part(3, 1_831_410, 257_040, Role::Swap),
        ],
    ),
    // CentOS 6 without LVM: aligned to MiB, swap in the middle.
    dos(
        "centos6",
        Loader::GrubLegacy,
        Len::gib(1),
        &[
            Part(1, MIB, 150 * MIB, Role::Boot("ext3-centos5")),
            Part(2, 151 * MIB, 128 * MIB, Role::Swap),
            Part(3, 279 * MIB, 745 * MIB, Role::Root("ext4-no-checksums")),
        ],
    ),
    dos(
        "centos6-swap-last",
        Loader::GrubLegacy,
        Len::gib(1),
        &[
            Part(1, MIB, 150 * MIB, Role::Boot("ext3-centos5")),
            Part(2, 151 * MIB, 745 * MIB, Role::Root("ext4-no-checksums")),
            Part(3, 896 * MIB, 128 * MIB, Role::Swap),
        ],
    ),
    // CentOS 6 as its installer does it by itself.
    dos(
        "centos6-lvm",
        Loader::GrubLegacy,
        Len::gib(1),
        &[
            Part(1, MIB, 150 * MIB, Role::Boot("ext3-centos5")),
            Part(
                2,
                151 * MIB,
                873 * MIB,
                Role::Pv(&Group(
                    "VolGroup",
                    &[("lv_root", 744, Role::Root("ext4-no-checksums")), ("lv_swap", 128, Role::Swap)],
                )),
            ),
        ],
    ),
    // Ubuntu 24.04's cloud images: a boot partition with the number 16.
    gpt(
        "ubuntu2404",
        Loader::Grub2,
        Len::gib(2),
        &[
            Part(1, 1025 * MIB, 1022 * MIB, Role::Root("ext4-4k")),
            Part(14, MIB, 4 * MIB, Role::BiosBoot),
            Part(15, 5 * MIB, 106 * MIB, Role::Esp),
            Part(16, 111 * MIB, 914 * MIB, Role::Boot("ext4-4k")),
        ],
    ),
    // Ubuntu's server installer: hyphens in the names, and half of the group is left free.
    gpt(
        "ubuntu2404-lvm",
        Loader::Grub2,
        Len::gib(2),
        &[
            Part(1, MIB, MIB, Role::BiosBoot),
            Part(2, 2 * MIB, 300 * MIB, Role::Boot("ext4-4k")),
            Part(
                3,
                302 * MIB,
                1745 * MIB,
                Role::Pv(&Group("ubuntu-vg", &[("ubuntu-lv", 872, Role::Root("ext4-orphan-file"))])),
            ),
        ],
    ),
    // RHEL 9's cloud images with ext4 in place of xfs.
    gpt(
        "rhel9",
        Loader::Grub2,
        Len::gib(2),
        &[
            Part(1, MIB, MIB, Role::BiosBoot),
            Part(2, 2 * MIB, 100 * MIB, Role::Esp),
            Part(3, 102 * MIB, 500 * MIB, Role::Boot("ext4-4k")),
            Part(4, 602 * MIB, 1445 * MIB, Role::Root("ext4-csum-seed")),
        ],
    ),
    gpt(
        "rhel9-xfs",
        Loader::Grub2,
        Len::gib(2),
        &[
            Part(1, MIB, MIB, Role::BiosBoot),
            Part(2, 2 * MIB, 100 * MIB, Role::Esp),
            Part(3, 102 * MIB, 500 * MIB, Role::Boot("xfs")),
            Part(4, 602 * MIB, 1445 * MIB, Role::Root("xfs")),
        ],
    ),
    // RHEL's installer makes the group's swap first; with ext4 in place of xfs.
    gpt(
        "rhel9-lvm",
        Loader::Grub2,
        Len::gib(2),
        &[
            Part(1, MIB, 100 * MIB, Role::Esp),
            Part(2, 101 * MIB, 500 * MIB, Role::Boot("ext4-4k")),
            Part(
                3,
                601 * MIB,
                1446 * MIB,
                Role::Pv(&Group("rhel", &[("swap", 160, Role::Swap), ("root", 1284, Role::Root("ext4-4k"))])),
            ),
        ],
    ),
    gpt(
        "rhel9-lvm-xfs",
        Loader::Grub2,
        Len::gib(2),
        &[
            Part(1, MIB, 100 * MIB, Role::Esp),
            Part(2, 101 * MIB, 500 * MIB, Role::Boot("xfs")),
            Part(
                3,
                601 * MIB,
                1446 * MIB,
                Role::Pv(&Group("rhel", &[("swap", 160, Role::Swap), ("root", 1284, Role::Root("xfs"))])),
            ),
        ],
    ),
    // Fedora's cloud images.
    gpt(
        "fedora-btrfs",
        Loader::Grub2,
        Len::gib(2),
        &[
            Part(1, MIB, MIB, Role::BiosBoot),
            Part(2, 2 * MIB, 100 * MIB, Role::Esp),
            Part(3, 102 * MIB, 500 * MIB, Role::Boot("ext4-4k")),
            Part(4, 602 * MIB, 1445 * MIB, Role::Root("btrfs")),
        ],
    ),
    // A physical volume on a disk without a table.
    Layout {
        name: "whole-lvm",
        label: "",
        loader: Loader::Nothing,
        disk: Len::gib(1),
        parts: &[Part(0, 0, 1024 * MIB, Role::Pv(&Group("data", &[("files", 900, Role::Root("ext4-4k"))])))],
    },
];

/// The layout of that name.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn layout(name: &str) -> &'static Layout {
    LAYOUTS.iter().find(|layout| layout.name == name).unwrap_or_else(|| panic!("there is no layout {name}"))
}

impl Part {
    /// Where it lies on a disk that is as it was installed.
    #[must_use]
    pub const fn span(self) -> (Offset, Len) {
        (Offset::new(self.1 * 512), Len::new(self.2 * 512))
    }
}

impl Role {
    /// Whether this, or a logical volume in it, is there for what `is` says.
    fn has(self, is: fn(Self) -> bool) -> bool {
        match self {
            Self::Pv(group) => group.1.iter().any(|volume| is(volume.2)),
            role => is(role),
        }
    }
}

impl Layout {
    pub(super) fn part(&self, is: fn(Role) -> bool) -> Option<Part> {
        self.parts.iter().copied().find(|part| part.3.has(is))
    }

    /// The partition that is or holds the root filesystem.
    pub(super) fn root_part(&self) -> Part {
        self.part(|role| matches!(role, Role::Root(_))).expect("each layout has a root")
    }

    /// The partition that is or holds the filesystem of `/boot`.
    pub(super) fn boot_part(&self) -> Part {
        self.part(|role| matches!(role, Role::Boot(_))).unwrap_or(self.root_part())
    }

    /// The number of the partition that is or holds the root filesystem.
    #[must_use]
    pub fn root(&self) -> u32 {
        self.root_part().0
    }

    /// Where that partition lies when the disk is as it was installed.
    #[must_use]
    pub fn root_span(&self) -> (Offset, Len) {
        self.root_part().span()
    }

    /// Whether it has a system partition for UEFI.
    #[must_use]
    pub fn has_uefi(&self) -> bool {
        self.part(|role| role == Role::Esp).is_some()
    }

    /// The physical volume and its group.
    #[must_use]
    pub fn group(&self) -> Option<(Part, &'static Group)> {
        self.parts.iter().find_map(|part| match part.3 {
            Role::Pv(group) => Some((*part, group)),
            _ => None,
        })
    }

    pub(super) fn part_uuid(&self, number: u32) -> String {
        if self.label == "gpt" {
            format!("0a1b2c3d-0000-4000-8000-{number:012}")
        } else {
            format!("0a1b2c3d-{number:02}")
        }
    }

    /// What the kernel is told to mount as root.
    pub(super) fn root_argument(&self) -> String {
        let part = self.root_part();
        match part.3 {
            Role::Pv(Group(name, volumes)) => {
                let root = volumes.iter().find(|volume| matches!(volume.2, Role::Root(_)));
                let double = |name: &str| name.replace('-', "--");
                format!("/dev/mapper/{}-{}", double(name), double(root.expect("a root").0))
            }
            _ => format!("PARTUUID={}", self.part_uuid(part.0)),
        }
    }

    /// Its partition table as sfdisk reads it.
    pub(super) fn script(&self) -> String {
        let gpt = self.label == "gpt";
        let id = if gpt { "0a1b2c3d-0000-4000-8000-00000000000d" } else { "0x0a1b2c3d" };
        let mut script = format!("label: {}\nlabel-id: {id}\nunit: sectors\n", self.label);
        for &Part(number, start, sectors, role) in self.parts {
            let kind = match role {
                Role::BiosBoot => "21686148-6449-6E6F-744E-656564454649",
                Role::Esp => "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
                Role::Swap if gpt => "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F",
                Role::Swap => "82",
                Role::Extended => "5",
                Role::Pv(_) if gpt => "E6D6D379-F507-44C2-A23C-238F2A3DF928",
                Role::Pv(_) => "8e",
                Role::Boot(_) | Role::Root(_) if gpt => "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
                Role::Boot(_) | Role::Root(_) => "83",
            };
            let _ = write!(script, "disk{number} : start={start}, size={sectors}, type={kind}");
            if gpt {
                let _ = write!(script, ", uuid={}", self.part_uuid(number));
            }
            script.push('\n');
        }
        script
    }
}
