//! Second opinions: e2fsprogs, qemu, partition tools and the kernel, with exit code *and* text judged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ondisk::{Len, Offset, SectorSize, Span};

use crate::tool::{output, run, said};

/// A filesystem at `at` of an image, in the notation of e2fsprogs.
#[must_use]
pub fn ext_at(image: &Path, at: Offset) -> String {
    let path = image.to_str().expect("test paths are UTF-8");
    if at == Offset::ZERO { path.to_owned() } else { format!("{path}?offset={}", at.get()) }
}

/// What `e2fsck -fn` thinks of a filesystem.
#[derive(Clone, Debug)]
pub struct Fsck {
    /// The exit code.
    pub code: i32,
    /// All that it said.
    pub text: String,
    /// The lines that report something wrong: not empty means damage, whatever the exit code.
    pub complaints: Vec<String>,
    /// Whether a journal waits for its replay (the check then looked at the state before the replay).
    pub needs_recovery: bool,
}

impl Fsck {
    /// Whether nothing at all is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.code == 0 && self.complaints.is_empty()
    }
}

/// Asks `e2fsck -fn` about the filesystem at `at`.
#[must_use]
pub fn e2fsck(image: &Path, at: Offset) -> Fsck {
    let out = output("e2fsck", ["-fn", &ext_at(image, at)]);
    let text = said(&out);
    let complaints = text.lines().filter(|line| !is_harmless(line)).map(str::to_owned).collect();
    let needs_recovery = text.contains("skipping journal recovery");
    Fsck { code: out.status.code().unwrap_or(-1), text, complaints, needs_recovery }
}

/// Lines that e2fsck prints for a good filesystem. All others count: it exits 0 after falling back to backups.
fn is_harmless(line: &str) -> bool {
    let starts = ["e2fsck 1.", "Pass 1: ", "Pass 2: ", "Pass 3: ", "Pass 4: ", "Pass 5: "];
    let totals = |line: &str| line.contains(" files (") && line.contains(" non-contiguous), ");
    line.trim().is_empty()
        || starts.iter().any(|start| line.starts_with(start))
        || line.ends_with("Optimize? no")
        || line.starts_with("Warning: skipping journal recovery")
        || totals(line)
}

/// Expects a clean filesystem.
///
/// # Panics
/// Where `e2fsck -fn` finds anything.
pub fn assert_clean(image: &Path, at: Offset) {
    let fsck = e2fsck(image, at);
    assert!(fsck.is_clean(), "e2fsck {}: exit {}\n{}", ext_at(image, at), fsck.code, fsck.text);
}

/// The superblock as `dumpe2fs -h` prints it: "Block count" → "65536".
#[must_use]
pub fn dumpe2fs(image: &Path, at: Offset) -> BTreeMap<String, String> {
    let text = run("dumpe2fs", ["-h", &ext_at(image, at)]);
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

/// The blocks that the bitmaps call free as `dumpe2fs` lists them, as bytes of the image.
///
/// # Panics
/// Where it lists something else.
#[must_use]
pub fn free_blocks(image: &Path, at: Offset) -> Vec<Span> {
    let text = run("dumpe2fs", [&ext_at(image, at)]);
    let number = |text: &str| text.trim().parse::<u64>().unwrap_or_else(|_| panic!("dumpe2fs: {text}"));
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(number);
    let [block, count] = ["Block size:", "Block count:"].map(|name| field(name).expect("a number"));
    // Of the last cluster of a run the first block is told.
    let cluster = field("Cluster size:").map_or(1, |size| size / block);
    let lists = text.lines().filter_map(|line| line.strip_prefix("  Free blocks: "));
    let ranges = lists.flat_map(|list| list.split(", ")).filter(|range| !range.is_empty());
    let span = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, end) = (number(first) * block, (number(last) + cluster).min(count) * block);
        Span::new(Offset::new(at.get() + first), Len::new(end - first)).expect("within the image")
    };
    ranges.map(span).collect()
}

/// Runs debugfs commands, one a line; `write` lets them change the filesystem.
///
/// # Panics
/// Where debugfs cannot open the filesystem.
#[must_use]
pub fn debugfs(image: &Path, at: Offset, write: bool, commands: &str) -> String {
    let script = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(script.path(), commands).expect("a temporary file takes a script");
    let mut args = vec!["-f", script.path().to_str().expect("test paths are UTF-8")];
    args.extend(write.then_some("-w"));
    let place = ext_at(image, at);
    args.push(&place);
    let out = output("debugfs", args);
    let text = said(&out);
    assert!(out.status.success() && !text.contains("Filesystem not open"), "debugfs {place}: {text}");
    text
}

/// Expects that `qemu-img check` finds nothing, not even a leak. `format` is qemu's name of it.
///
/// # Panics
/// Where it does.
pub fn assert_qemu_check(image: &Path, format: &str) {
    let out = output("qemu-img", ["check".as_ref(), "-f".as_ref(), format.as_ref(), image.as_os_str()]);
    assert!(out.status.success(), "qemu-img check {}: {}", image.display(), said(&out));
}

/// Whether two images have the same virtual content; a longer one must be zero behind the other's end.
///
/// # Panics
/// Where qemu-img cannot tell.
#[must_use]
pub fn qemu_same(a: &Path, a_format: &str, b: &Path, b_format: &str) -> bool {
    let out = output(
        "qemu-img",
        [
            "compare".as_ref(),
            "-f".as_ref(),
            a_format.as_ref(),
            "-F".as_ref(),
            b_format.as_ref(),
            a.as_os_str(),
            b.as_os_str(),
        ],
    );
    match out.status.code() {
        Some(0) => true,
        Some(1) => false,
        _ => panic!("qemu-img compare {} {}: {}", a.display(), b.display(), said(&out)),
    }
}

/// Copies `from` into a new image of another format. `options` are qemu's (`subformat=fixed`, `compat=0.10`, …).
///
/// # Panics
/// Where qemu-img fails.
pub fn qemu_convert(from: &Path, from_format: &str, to: &Path, to_format: &str, options: &[&str]) {
    let mut args = vec!["convert", "-f", from_format, "-O", to_format];
    let options = options.join(",");
    if !options.is_empty() {
        args.extend(["-o", &options]);
    }
    let paths = [from, to].map(|path| path.to_str().expect("test paths are UTF-8"));
    run("qemu-img", args.into_iter().chain(paths));
}

/// The virtual content of an image as a sparse raw file.
///
/// # Panics
/// Where qemu-img fails.
pub fn qemu_raw(image: &Path, format: &str, raw: &Path) {
    qemu_convert(image, format, raw, "raw", &[]);
}

/// Expects that `sfdisk --verify` is content with the partition table of a raw image.
///
/// # Panics
/// Where it is not.
pub fn assert_sfdisk_verify(image: &Path) {
    let out = output("sfdisk", ["--verify".as_ref(), image.as_os_str()]);
    let text = said(&out);
    assert!(
        out.status.success() && text.contains("No errors detected"),
        "sfdisk {}: {text}",
        image.display()
    );
}

/// Expects that `sgdisk -v` finds no problem in the GPT of a raw image or block device.
///
/// # Panics
/// Where it does.
pub fn assert_sgdisk_verify(image: &Path) {
    let out = output("sgdisk", ["-v".as_ref(), image.as_os_str()]);
    let text = said(&out);
    // sfdisk lets partitions begin at 1 MiB; sgdisk finds that unusual.
    let told = text.to_lowercase().replace("warning: there is a gap between the main partition table", "");
    let content = text.contains("No problems found") && !told.contains("warning");
    assert!(out.status.success() && content, "sgdisk {}: {text}", image.display());
}

/// A partition as the kernel's tools see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// As Linux numbers it.
    pub number: u32,
    /// Where it begins.
    pub start: Offset,
    /// How long it is.
    pub len: Len,
    /// The type: `0x83` or a GUID.
    pub kind: String,
    /// The PARTUUID.
    pub uuid: String,
    /// The name (GPT only; a space reads as `\x20`).
    pub name: String,
}

/// The partitions of a raw image or block device, by number.
#[must_use]
pub fn partitions(image: &Path, sector: SectorSize) -> Vec<Partition> {
    let size = sector.bytes().to_string();
    let columns = ["-g", "-r", "-o", "NR,START,SECTORS,TYPE,UUID,NAME", "-S", &size];
    let text = run("partx", columns.map(std::ffi::OsStr::new).into_iter().chain([image.as_os_str()]));
    let mut all: Vec<Partition> = text.lines().map(partition).collect();
    all.sort_by_key(|partition| partition.number);
    all
}

fn partition(line: &str) -> Partition {
    let words: Vec<&str> = line.split(' ').collect();
    let number = |i: usize| words[i].parse::<u64>().unwrap_or_else(|_| panic!("partx: {line}"));
    let text = |i: usize| words.get(i).copied().unwrap_or_default().to_owned();
    Partition {
        number: u32::try_from(number(0)).expect("a small number"),
        start: Offset::new(number(1) * 512), // partx counts in 512 bytes whatever the sector size
        len: Len::new(number(2) * 512),
        kind: text(3),
        uuid: text(4),
        name: text(5),
    }
}

/// A loop device over (a part of) a raw image; it goes away with the value.
#[derive(Debug)]
pub struct Loop(PathBuf);

impl Loop {
    /// Attaches the whole image with the given sector size; partitions appear as `p1`, `p2`, ….
    #[must_use]
    pub fn whole(image: &Path, sector: SectorSize) -> Self {
        Self::attach(&["-P", "-b", &sector.bytes().to_string()], image)
    }

    /// Attaches one span of the image.
    #[must_use]
    pub fn span(image: &Path, at: Offset, len: Len) -> Self {
        Self::attach(&["-o", &at.get().to_string(), "--sizelimit", &len.get().to_string()], image)
    }

    fn attach(options: &[&str], image: &Path) -> Self {
        let options = ["--show", "-f"].iter().chain(options).map(std::ffi::OsStr::new);
        Self(PathBuf::from(run("losetup", options.chain([image.as_os_str()])).trim()))
    }

    /// The device.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let out = output("losetup", ["-d".as_ref(), self.0.as_os_str()]);
        if !out.status.success() && !std::thread::panicking() {
            panic!("losetup -d {}: {}", self.0.display(), said(&out));
        }
    }
}

/// A mounted filesystem; unmounted with the value, also when the test panics.
#[derive(Debug)]
pub struct Mount(tempfile::TempDir);

impl Mount {
    /// Mounts the filesystem that fills a raw image, read-only and as it is: no journal is replayed.
    #[must_use]
    pub fn read_only(image: &Path) -> Self {
        Self::new(image, "ro,noload,noatime,loop")
    }

    /// Mounts the filesystem in a span of a raw image, read-only and as it is.
    #[must_use]
    pub fn read_only_at(image: &Path, at: Offset, len: Len) -> Self {
        Self::new(image, &format!("ro,noload,noatime,loop,offset={},sizelimit={}", at.get(), len.get()))
    }

    /// Mounts for writing: the kernel replays the journal.
    #[must_use]
    pub fn read_write(image: &Path) -> Self {
        Self::new(image, "rw,noatime,loop")
    }

    /// Mounts with any options.
    #[must_use]
    pub fn new(what: &Path, options: &str) -> Self {
        // ext2 knows no journal, hence no `noload`.
        let dir = tempfile::tempdir().expect("a temporary folder");
        run("mount", ["-o".as_ref(), options.as_ref(), what.as_os_str(), dir.path().as_os_str()]);
        Self(dir)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// How many bytes `statfs` reports in all.
    #[must_use]
    pub fn total(&self) -> Len {
        let fs = rustix::fs::statvfs(self.path()).expect("a mounted filesystem answers statfs");
        Len::new(fs.f_blocks * fs.f_frsize)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let out = output("umount", [self.path()]);
        if !out.status.success() {
            // Somebody (an indexer, a shell) is inside: detach now, the kernel finishes when they leave.
            let _ = output("umount", ["-l".as_ref(), self.path().as_os_str()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::done;

    #[test]
    fn partitions_are_counted_in_bytes_whatever_the_sector() {
        for sector in [SectorSize::B512, SectorSize::B4096] {
            let image = tempfile::NamedTempFile::new().expect("a temporary file");
            image.as_file().set_len(64 << 20).expect("a sparse file");
            let device = Loop::whole(image.path(), sector);
            let script = format!(
                "printf 'label: gpt\\n7: start={}, name=\"a b\"\\n' | sfdisk -q {}",
                (1 << 20) / sector.bytes(),
                device.path().display()
            );
            done(crate::tool::tool("sh").arg("-c").arg(script));
            let [partition] = partitions(image.path(), sector).try_into().expect("one partition");
            assert_eq!((partition.number, partition.start), (7, Offset::new(1 << 20)));
            assert!(partition.len > Len::mib(61) && partition.len < Len::mib(63), "{partition:?}");
            assert_eq!(partition.name, "a\\x20b");
        }
    }

    #[test]
    fn damage_is_told_from_harmless_remarks() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let image = dir.path().join("image");
        crate::images::make(
            crate::images::flavor("ext4-1k"),
            Len::mib(64),
            crate::images::Fill::Tree,
            &image,
        );
        assert!(e2fsck(&image, Offset::ZERO).is_clean());
        let _ = debugfs(&image, Offset::ZERO, true, "clri /big");
        assert!(!e2fsck(&image, Offset::ZERO).is_clean());
    }
}
