//! Images that the products themselves have made, read beside `qemu-img`.
//!
//! QEMU's own tests have some, in its source package. They are not ours to hand on, so each machine gets them from
//! Debian, once, and knows them by their digests.

use std::fs::{self, create_dir_all, remove_dir_all};
use std::path::{Path, PathBuf};

use crate::oracles;
use crate::run::{Result, cargo, program, read, run, target};

/// Where they lie in the source package.
const FOLDER: &str = "tests/qemu-iotests/sample_images";

/// `sha256 name format expectation` a line: the digest of the compressed file, QEMU's name of the format.
const LIST: &str = include_str!("../samples.txt");

/// One of them.
struct Sample {
    sha256: &'static str,
    name: &'static str,
    format: &'static str,
    expected: Expected,
}

/// How it must be read.
enum Expected {
    /// As QEMU reads it.
    Same,
    /// As QEMU reads it once it has replayed the log.
    Replayed,
    /// Not at all: a fuzzer made it.
    Damaged,
}

/// Gets the samples, where they are not there yet, and reads each of them.
pub fn samples() -> Result {
    oracles::install()?;
    let dir = target().join("samples");
    let all = list()?;
    if all.iter().any(|sample| !sample.is_in(&dir)) {
        fetch(&dir)?;
    }
    let strange: Vec<&str> = all.iter().filter(|sample| !sample.is_in(&dir)).map(|s| s.name).collect();
    if !strange.is_empty() {
        return Err(format!("QEMU's source package does not hold them as they were: {}", strange.join(", ")));
    }
    run(cargo().args(["build", "--package", "imgtool"]))?;
    let imgtool = target().join("debug/imgtool");
    let work = dir.join("work");
    for sample in &all {
        fresh(&work)?;
        sample.judge(&dir, &work, &imgtool).map_err(|why| format!("{}: {why}", sample.name))?;
        println!("{:<28} ok", sample.name);
    }
    remove(&work)
}

fn list() -> Result<Vec<Sample>> {
    let lines = LIST.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(Sample::of).collect()
}

impl Sample {
    fn of(line: &'static str) -> Result<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (sha256, name, format, expected) = match *words.as_slice() {
            [sha256, name, format, "same"] => (sha256, name, format, Expected::Same),
            [sha256, name, format, "replayed"] => (sha256, name, format, Expected::Replayed),
            [sha256, name, format, "damaged"] => (sha256, name, format, Expected::Damaged),
            _ => return Err(format!("samples.txt: {line}")),
        };
        Ok(Self { sha256, name, format, expected })
    }

    fn packed(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.bz2", self.name))
    }

    /// Whether it is there, and is what it was.
    fn is_in(&self, dir: &Path) -> bool {
        let told = read(program("sha256sum").arg(self.packed(dir)));
        told.is_ok_and(|told| told.split(' ').next() == Some(self.sha256))
    }

    fn judge(&self, dir: &Path, work: &Path, imgtool: &Path) -> Result {
        let (image, raw) = (work.join(self.name), work.join("disk.raw"));
        unpack(&self.packed(dir), &image)?;
        let ours = |command: &str, also: Option<&Path>| {
            program(imgtool)
                .args(["-q", command, "-f", self.ours()])
                .arg(&image)
                .args(also)
                .output()
                .map_err(|error| format!("imgtool {command}: {error}"))
        };
        for (command, also) in [("check", None), ("map", None), ("convert", Some(&*raw))] {
            let out = ours(command, also)?;
            let code = if matches!(self.expected, Expected::Damaged) { 4 } else { 0 };
            if out.status.code() != Some(code) {
                let said = String::from_utf8_lossy(&out.stderr);
                return Err(format!("imgtool {command}: {}, expected {code}\n{said}", out.status));
            }
        }
        let theirs = |args: &[&str]| read(program("qemu-img").args(args).arg(&image));
        match self.expected {
            Expected::Damaged => return Ok(()),
            Expected::Replayed => drop(theirs(&["check", "-q", "-r", "all", "-f", self.format])?),
            Expected::Same => {}
        }
        let told = theirs(&["info", "--output=json", "-f", self.format])?;
        let len = fs::metadata(&raw).map_err(|error| format!("{}: {error}", raw.display()))?.len();
        if !told.contains(&format!("\"virtual-size\": {len},")) {
            return Err(format!("the disk has {len} bytes; qemu-img info says {told}"));
        }
        let compare = ["compare", "-q", "-F", "raw", "-f", self.format];
        read(program("qemu-img").args(compare).args([&image, &raw])).map(drop)
    }

    /// What we call its format.
    fn ours(&self) -> &'static str {
        if self.format == "vpc" { "vhd" } else { self.format }
    }
}

/// Downloads the source package of QEMU as apt trusts it, and keeps the samples.
fn fetch(dir: &Path) -> Result {
    fresh(dir)?;
    let apt = dir.join("apt");
    for folder in ["lists/partial", "archives/partial"] {
        let path = apt.join(folder);
        create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let list = apt.join("sources.list");
    fs::write(&list, sources()?).map_err(|error| format!("{}: {error}", list.display()))?;
    let option = |name: &str, value: &Path| format!("-o{name}={}", value.display());
    let options = [
        option("Dir::Etc::sourcelist", &list),
        option("Dir::Etc::sourceparts", Path::new("-")),
        option("Dir::State::lists", &apt.join("lists")),
        option("Dir::Cache::archives", &apt.join("archives")),
        "-oDir::Cache::pkgcache=".to_owned(),
        "-oDir::Cache::srcpkgcache=".to_owned(),
        "-oAPT::Sandbox::User=root".to_owned(),
        "-oAcquire::Retries=3".to_owned(),
        "-q".to_owned(),
    ];
    run(program("apt-get").args(&options).arg("update"))?;
    let source = ["source", "--download-only", "--only-source", "qemu"];
    run(program("apt-get").current_dir(&apt).args(&options).args(source))?;
    let archive = archive(&apt)?;
    let wanted = format!("*/{FOLDER}/*.bz2");
    let unpack = ["--strip-components=4", "--wildcards", &wanted, "-xf"];
    run(program("tar").current_dir(dir).args(unpack).arg(archive))?;
    remove(&apt)
}

/// The sources that belong to the packages of this machine's own release.
fn sources() -> Result<String> {
    let release = read(program("sh").args(["-c", ". /etc/os-release && echo $VERSION_CODENAME"]))?;
    let targets = ["indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Identifier: Packages"];
    let all = read(program("apt-get").args(targets))?;
    let suffix = format!(" {} main", release.trim());
    let own = all.lines().find(|line| line.ends_with(&suffix));
    let own = own.ok_or_else(|| format!("apt knows no packages of {}", release.trim()))?;
    Ok(format!("deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {own}\n"))
}

/// What was downloaded of the program itself.
fn archive(apt: &Path) -> Result<PathBuf> {
    let failed = |error: std::io::Error| format!("{}: {error}", apt.display());
    let names = fs::read_dir(apt).map_err(failed)?;
    let mut paths = names.filter_map(|entry| Some(entry.ok()?.path()));
    let is_source = |path: &PathBuf| path.to_string_lossy().contains(".orig.tar.");
    paths.find(is_source).ok_or_else(|| "apt has downloaded no source of QEMU".to_owned())
}

/// Unpacks with holes: most of such an image is zeros.
fn unpack(packed: &Path, to: &Path) -> Result {
    let script = "bzip2 -dc \"$1\" | dd of=\"$2\" bs=64K iflag=fullblock conv=sparse status=none";
    run(program("bash").args(["-o", "pipefail", "-c", script, "unpack"]).args([packed, to]))
}

fn fresh(dir: &Path) -> Result {
    remove(dir)?;
    create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))
}

fn remove(dir: &Path) -> Result {
    if !dir.exists() {
        return Ok(());
    }
    remove_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))
}
