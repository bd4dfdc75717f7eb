//! What runs before a root filesystem in LVM is there: lvm2 and its libraries as the machine has them, and busybox.

use std::fs::{create_dir_all, set_permissions, write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::tool::{done, find, run, tool};

/// The first process. lvm2 must like what it finds: otherwise the guest does not come up.
const INIT: &str = r#"#!/bin/sh
export PATH=/bin LVM_SUPPRESS_FD_WARNINGS=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
for word in $(cat /proc/cmdline); do
    case $word in root=*) root=${word#root=} ;; esac
done
lvm vgck && lvm vgchange -ay --sysinit && mount -o ro "$root" /mnt || poweroff -f
lvm pvs
lvm vgs
lvm lvs --segments -o +seg_pe_ranges
mount -o move /dev /mnt/dev
umount /run /sys /proc
exec switch_root /mnt /sbin/init
"#;

const CONFIG: &str = "devices { use_devicesfile=0 hints=\"none\" obtain_device_list_from_udev=0 \
external_device_info_source=\"none\" }\nbackup { backup=0 archive=0 }\n\
activation { udev_sync=0 udev_rules=0 monitoring=0 }\nglobal { use_lvmpolld=0 locking_dir=\"/run\" }\n";

/// Packs an initramfs for the guest whose root folder is `tree`.
pub(super) fn pack(tree: &Path, to: &Path) {
    let work = tempfile::tempdir().expect("a temporary folder");
    let root = work.path();
    for dir in ["bin", "dev", "etc/lvm", "mnt", "proc", "run", "sys"] {
        create_dir_all(root.join(dir)).expect("a folder");
    }
    for (from, name) in [(tree.join("bin/busybox"), "bin/busybox"), (find("lvm"), "bin/lvm")] {
        std::fs::copy(from, root.join(name)).expect("a program");
    }
    for name in ["cat", "mount", "poweroff", "sh", "switch_root", "umount"] {
        symlink("busybox", root.join("bin").join(name)).expect("a link");
    }
    write(root.join("init"), INIT).expect("init");
    set_permissions(root.join("init"), PermissionsExt::from_mode(0o755)).expect("its mode");
    write(root.join("etc/lvm/lvm.conf"), CONFIG).expect("lvm2's configuration");
    let libraries = run("ldd", [find("lvm")]);
    let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    run("cp", ["-L", "--parents"].into_iter().chain(libraries).chain([root.to_str().expect("UTF-8")]));
    let archive = "find . -print0 | sort -z | cpio -0 --quiet --reproducible -o -H newc | gzip -1n";
    let out = std::fs::File::create(to).expect("an initramfs");
    done(tool("sh").args(["-ec", archive]).current_dir(root).stdout(out));
}
