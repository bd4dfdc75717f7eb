//! Starting a guest.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use ondisk::Len;

use crate::tool::{find, tool};

/// The firmware that starts a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// A PC BIOS and an IDE disk.
    Bios,
    /// UEFI and a virtio disk.
    Uefi,
}

/// What a guest says of itself when it is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Up {
    /// The size of its root filesystem as `df` has it.
    pub size: Len,
    /// How much of it is used.
    pub used: Len,
    /// How much swap space it has found by UUID and uses.
    pub swap: Len,
    /// How often it was started, this time included.
    pub boots: u64,
    /// Whether all its files have the digests that they were installed with.
    pub files_good: bool,
}

/// Starts the guest in `image` (`format` is qemu's name of the container), and waits until it powers off.
/// The guest writes to the image.
///
/// # Panics
/// Where it does not come up within five minutes: with its console's text.
#[must_use]
pub fn boot(image: &Path, format: &str, firmware: Firmware) -> Up {
    let mut qemu = tool("qemu-system-x86_64");
    // Emulated, not virtualised: a few seconds more, but the same on every host, nested ones included.
    qemu.args(["-accel", "tcg", "-m", "256", "-display", "none", "-serial", "stdio"]);
    qemu.args(["-monitor", "none", "-nic", "none", "-no-reboot"]);
    // Time goes by instructions, so that no busy host makes the kernel doubt its timer; from a day before those of the
    // host, because e2fsck complains of mounts in the future.
    qemu.args(["-icount", "shift=4,sleep=off"]);
    qemu.args(["-rtc", "base=2024-01-01"]);
    let bus = match firmware {
        Firmware::Bios => "ide",
        Firmware::Uefi => {
            qemu.arg("-bios").arg(find("/usr/share/ovmf/OVMF.fd"));
            "virtio"
        }
    };
    qemu.arg("-drive").arg(format!("file={},format={format},if={bus}", image.display()));
    let child = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let text = console(child.expect("qemu starts"), Duration::from_secs(300));
    report(&text).unwrap_or_else(|| panic!("{} did not come up:\n{text}", image.display()))
}

/// All that a machine says until it powers off or its time is up.
fn console(mut child: Child, time: Duration) -> String {
    let mut out = child.stdout.take().expect("a pipe");
    let mut err = child.stderr.take().expect("a pipe");
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = out.read_to_end(&mut bytes);
        let _ = err.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let end = Instant::now() + time;
    while child.try_wait().expect("qemu is our child").is_none() {
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    reader.join().expect("the console was read")
}

fn report(text: &str) -> Option<Up> {
    let line = text.lines().find_map(|line| line.split_once("guest-up ")).map(|(_, line)| line.trim())?;
    let value = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let number = |name: &str| value(name)?.parse::<u64>().ok();
    Some(Up {
        size: Len::new(number("size_kib")? * 1024),
        used: Len::new(number("used_kib")? * 1024),
        swap: Len::new(number("swap_kib")? * 1024),
        boots: number("boots")?,
        files_good: value("files")? == "good",
    })
}
