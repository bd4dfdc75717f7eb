//! Tables made, changed and judged by `sfdisk` and `sgdisk`, and our changes applied to the same files.

use disk::{Data, Disk, ExtentKind, ExtentMap, Limits, Overlay, ReadAt};
use ondisk::{Len, Offset, SectorSize, Span};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use table::{Plan, Severity, Table, To};
use tempfile::TempDir;

pub const MIB: u64 = 1 << 20;

/// A disk image in a file called `disk`, so that the tools' output does not depend on where it lies.
pub struct Image {
    dir: TempDir,
    size: SectorSize,
}

struct FileDisk(File);

impl ReadAt for FileDisk {
    fn len(&self) -> Len {
        Len::new(self.0.metadata().unwrap().len())
    }
    fn read_at(&self, at: Offset, buf: &mut [u8]) -> disk::Result<()> {
        self.0.read_exact_at(buf, at.get()).unwrap();
        Ok(())
    }
    fn extents(&self, within: Span) -> disk::Result<ExtentMap> {
        Ok(ExtentMap::single(within, ExtentKind::Data))
    }
}

/// Runs a tool, which must be there and succeed: what it says on stdout and on stderr.
fn run(mut command: Command, input: &str) -> (String, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, warned) = (text(&out.stdout), text(&out.stderr));
    assert!(out.status.success(), "{command:?}: {said}{warned}");
    (said, warned)
}

impl Image {
    pub fn new(len: u64) -> Self {
        let image = Self { dir: TempDir::new().unwrap(), size: SectorSize::B512 };
        File::create(image.path()).unwrap().set_len(len).unwrap();
        image
    }

    /// One whose sectors have 4096 bytes: the tools see it through a loop device.
    pub fn new_4k(len: u64) -> Self {
        Self { size: SectorSize::B4096, ..Self::new(len) }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    pub fn copy(&self) -> Self {
        let copy = Self { dir: TempDir::new().unwrap(), size: self.size };
        let mut cp = Command::new("cp");
        cp.arg("--sparse=always").arg(self.path()).arg(copy.path());
        run(cp, "");
        copy
    }

    pub fn set_len(&self, len: u64) -> &Self {
        OpenOptions::new().write(true).open(self.path()).unwrap().set_len(len).unwrap();
        self
    }

    pub fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut buf = vec![0; len];
        File::open(self.path()).unwrap().read_exact_at(&mut buf, at).unwrap();
        buf
    }

    pub fn write(&self, at: u64, bytes: &[u8]) -> &Self {
        OpenOptions::new().write(true).open(self.path()).unwrap().write_all_at(bytes, at).unwrap();
        self
    }

    /// Runs `tool ARGS… disk` there; its output.
    pub fn tool(&self, tool: &str, args: &[&str], input: &str) -> String {
        let mut command = Command::new(tool);
        command.current_dir(self.dir.path()).args(args);
        if self.size == SectorSize::B512 {
            command.arg("disk");
            return run(command, input).0;
        }
        let mut losetup = Command::new("losetup");
        losetup.args(["--sector-size", "4096", "--show", "--find"]).arg(self.path());
        let device = run(losetup, "").0.trim().to_owned();
        let detach = Detach(device.clone());
        command.arg(&device);
        let text = run(command, input).0.replace(&device, "disk");
        drop(detach);
        text
    }

    /// As [`Self::tool`], whatever it thinks of the image; all of its output.
    pub fn try_tool(&self, tool: &str, args: &[&str]) -> String {
        let out = Command::new(tool).current_dir(self.dir.path()).args(args).arg("disk").output().unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
    }

    pub fn sfdisk(&self, script: &str) -> &Self {
        self.tool("sfdisk", &["--quiet", "--no-reread", "--no-tell-kernel"], script);
        self
    }

    pub fn sgdisk(&self, args: &[&str]) -> &Self {
        self.tool("sgdisk", args, "");
        self
    }

    /// What `sfdisk ,+` makes of a partition.
    pub fn sfdisk_grow(&self, number: u32) -> &Self {
        let number = number.to_string();
        self.tool("sfdisk", &["--quiet", "--no-reread", "--no-tell-kernel", "-N", &number], ", +\n");
        self
    }

    pub fn dump(&self) -> String {
        self.tool("sfdisk", &["--dump"], "")
    }

    pub fn disk(&self) -> impl ReadAt + use<> {
        FileDisk(OpenOptions::new().read(true).open(self.path()).unwrap())
    }

    pub fn table(&self) -> Table {
        table::read(&self.disk(), &Limits::default()).unwrap().expect("a table")
    }

    pub fn damage(&self) -> Vec<String> {
        let findings = table::check(&self.disk(), &Limits::default()).unwrap();
        findings.into_iter().filter(|f| f.severity == Severity::Damage).map(|f| f.text).collect()
    }

    /// Applies a plan the way a command does: staged over the file, then as a change of it.
    pub fn apply(&self, plan: Plan, new_len: u64) -> &Self {
        let disk = self.disk();
        let mut overlay = Overlay::new(&disk, &Limits::default());
        overlay.resize(Len::new(new_len)).unwrap();
        plan.apply(&mut overlay).unwrap();
        let change = overlay.into_change().unwrap();
        self.set_len(new_len);
        for write in change.fresh.iter().chain(&change.home) {
            match &write.data {
                Data::Bytes(bytes) => self.write(write.at.get(), bytes),
                Data::Zero(len) => self.write(write.at.get(), &vec![0; len.to_usize()]),
            };
        }
        self
    }

    /// Grows a partition with the disk.
    pub fn grow(&self, number: u32, to: To, new_len: u64) -> &Self {
        let plan = table::plan_grow_partition(&self.table(), number, to, Len::new(new_len)).unwrap();
        self.apply(plan, new_len)
    }

    /// All tools and our own check agree that nothing is wrong.
    pub fn assert_clean(&self) -> &Self {
        assert_eq!(self.damage(), Vec::<String>::new());
        let text = self.tool("sfdisk", &["--verify"], "");
        assert!(text.contains("No errors detected"), "{text}");
        if self.table().kind() == table::Kind::Gpt {
            let text = self.tool("sgdisk", &["--verify"], "");
            assert!(text.contains("No problems found") && !text.contains("ERROR"), "{text}");
        }
        self
    }

    /// The dump with the size of one partition, and where GPT's usable sectors end, replaced.
    pub fn dump_with(&self, number: u32, sectors: u64, last: Option<u64>) -> String {
        let prefix = format!("disk{number} :");
        let prefix_loop = format!("diskp{number} :");
        let line = |line: &str| {
            if let (Some(last), true) = (last, line.starts_with("last-lba:")) {
                return format!("last-lba: {last}\n");
            }
            if !line.starts_with(&prefix) && !line.starts_with(&prefix_loop) {
                return format!("{line}\n");
            }
            let (head, rest) = line.split_once("size=").unwrap();
            let (_, tail) = rest.split_once(',').unwrap();
            format!("{head}size={sectors:>12},{tail}\n")
        };
        self.dump().lines().map(line).collect()
    }
}

/// Both images hold the same bytes there.
pub fn assert_same(ours: &Image, theirs: &Image, at: u64, len: usize) {
    let (left, right) = (ours.bytes(at, len), theirs.bytes(at, len));
    let first = left.iter().zip(&right).position(|(a, b)| a != b);
    assert_eq!(first, None, "first difference, from {at}");
}

struct Detach(String);

impl Drop for Detach {
    fn drop(&mut self) {
        let status = Command::new("losetup").args(["--detach", &self.0]).status();
        assert!(status.is_ok_and(|status| status.success()), "cannot detach {}", self.0);
    }
}
