//! What runs in a guest: one process that looks around, reports on the serial console and powers off.

use std::fs::{copy, create_dir_all, read_to_string, set_permissions, write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::layout;
use crate::images::plant;
use crate::oracle::{debugfs, qemu_raw};
use crate::tool::{done, tool};

/// The userland's first and only process.
const INIT: &str = r#"#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -o remount,rw / && echo boot >> /var/log/boots
swapon -a
swap=$(cat /proc/swaps | { read -r _; sum=0; while read -r _ _ size _; do sum=$((sum + size)); done; echo $sum; })
cd / && sha256sum -c -s /etc/checksums && files=good || files=bad
echo "$(uname -sr) is up"
df -h /
set -- $(df -Pk / | tail -n 1)
echo "guest-up size_kib=$2 used_kib=$3 swap_kib=$swap boots=$(wc -l < /var/log/boots) files=$files"
sync
mount -o remount,ro /
poweroff -f
"#;

/// The root folder of a guest around a kernel and a static busybox.
///
/// # Panics
/// Where a file cannot be made.
pub fn skeleton(root: &Path, kernel: &Path, busybox: &Path) {
    for dir in ["bin", "boot/grub", "dev", "etc", "home", "proc", "root", "sbin", "sys", "tmp", "var/log"] {
        create_dir_all(root.join(dir)).expect("a folder");
    }
    copy(kernel, root.join("boot/vmlinuz")).expect("the kernel");
    copy(busybox, root.join("bin/busybox")).expect("busybox");
    let names = "cat df echo ls mount poweroff sh sha256sum swapon sync tail uname wc";
    for name in names.split(' ') {
        symlink("busybox", root.join("bin").join(name)).expect("a link");
    }
    write(root.join("sbin/init"), INIT).expect("init");
    for program in ["sbin/init", "bin/busybox"] {
        set_permissions(root.join(program), PermissionsExt::from_mode(0o755)).expect("its mode");
    }
    write(root.join("etc/hostname"), "demo\n").expect("a file");
    let release = "ID=demo\nNAME=\"Demo guest\"\nPRETTY_NAME=\"Demo guest (Linux, busybox)\"\nVERSION_ID=1\n";
    write(root.join("etc/os-release"), release).expect("a file");
    write(root.join("var/log/boots"), "").expect("a file");
}

/// Writes down the digests of all files that stay as they are; busybox cannot read names with line feeds back.
pub(super) fn sign(root: &Path) {
    let stays = "find . -type f ! -path ./etc/checksums ! -path './var/*' ! -name '*\n*' -print0";
    let sums =
        done(tool("sh").arg("-c").arg(format!("{stays} | sort -z | xargs -0 sha256sum")).current_dir(root));
    write(root.join("etc/checksums"), sums).expect("the digests");
}

/// The compressed VHD of the demo guest.
#[must_use]
pub fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/demo-guest/guest.vhd.gz")
}

/// Unpacks the demo guest to `to`, a dynamic VHD.
///
/// # Panics
/// Where gzip fails.
pub fn unpack_demo(to: &Path) {
    let out = std::fs::File::create(to).expect("an image");
    done(tool("gzip").arg("-dc").arg(demo()).stdout(out));
}

/// The demo guest's root folder, with the test tree below `data` when `planted`.
///
/// # Panics
/// Where debugfs cannot read it.
pub fn demo_root(root: &Path, planted: bool) {
    let work = tempfile::tempdir().expect("a temporary folder");
    let [vhd, raw] = ["guest.vhd", "guest.raw"].map(|name| work.path().join(name));
    unpack_demo(&vhd);
    qemu_raw(&vhd, "vpc", &raw);
    let (at, _) = layout("debian12-cloud").root_span();
    let _ = debugfs(&raw, at, false, &format!("rdump / {}", root.display()));
    std::fs::remove_dir(root.join("lost+found")).expect("an empty folder");
    if planted {
        plant(&root.join("data"));
    }
    assert!(
        read_to_string(root.join("sbin/init")).is_ok_and(|text| text == INIT),
        "the demo guest is out of date"
    );
}
