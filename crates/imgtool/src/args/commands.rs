//! The commands and what each takes.

use clap::{Subcommand, ValueEnum, ValueHint};
use ondisk::Len;
use ondisk::size::{BadSize, SizeSpec, parse_len};
use stack::place::Place;
use std::path::{Path, PathBuf};

use super::Check;
use super::convert::{Convert, Layout, Measure};
use crate::glob::Glob;

/// What is to be done.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Grow a disk, its last partition and the filesystem in it
    Grow(Grow),
    /// Finish or take back an interrupted change
    Recover(Recover),
    /// Show what an image is made of
    Info(Info),
    /// Show which parts of an image are stored where
    Map(Map),
    /// Check an image, its partition table and its filesystems, and mend what can be mended
    Check(Check),
    /// Compare the virtual content of two images
    Compare(Compare),
    /// Print the BLAKE3 digest of the virtual content
    Digest(Digest),
    /// Make an empty image, or a child of another one
    Create(Create),
    /// Give the space that the guest does not need back to this machine
    Sparsify(super::Sparsify),
    /// Make an image with the content of another one, in another format
    Convert(Convert),
    /// Tell how large the result of a conversion would be
    Measure(Measure),
    /// Show and change chains of images that stand on each other
    #[command(subcommand)]
    Chain(super::Chain),
    /// Ship the difference between images, not the images
    #[command(subcommand)]
    Delta(super::Delta),
    /// Look into and copy storage repositories of XenServer and XCP-ng
    #[command(subcommand)]
    Sr(super::Sr),
    /// Look into the filesystem of an image
    #[command(subcommand)]
    Fs(Fs),
}

impl Command {
    /// Whether it reads one virtual disk, and leaves it as it is: it may lie in a repository, or be made by a patch.
    pub(super) fn only_reads(&self) -> bool {
        use super::{Delta, Sr};
        match self {
            Self::Info(_) | Self::Map(_) | Self::Compare(_) | Self::Digest(_) => true,
            Self::Check(check) => !check.repair,
            Self::Sparsify(sparsify) => sparsify.out.is_some(),
            Self::Convert(convert) => !convert.in_place && convert.src != Path::new("-"),
            Self::Measure(measure) => measure.src.is_some(),
            Self::Delta(Delta::Create(_) | Delta::Verify(_) | Delta::Signature(_)) => true,
            Self::Delta(Delta::Apply(apply)) => !apply.in_place,
            Self::Delta(Delta::Info(_) | Delta::Compose(_)) => false,
            Self::Sr(sr) => matches!(sr, Sr::Export(_)),
            Self::Fs(fs) => !matches!(fs, Fs::Replay(_)),
            Self::Grow(_) | Self::Recover(_) | Self::Create(_) | Self::Chain(_) => false,
        }
    }
}

/// What is to be done with a filesystem.
#[derive(Clone, Debug, Subcommand)]
pub enum Fs {
    /// List a folder
    Ls(Ls),
    /// Print a file
    Cat(Cat),
    /// Show everything about a file but its content
    Stat(Stat),
    /// Search for files
    Find(Find),
    /// Copy a file or folder out of the image
    CopyOut(CopyOut),
    /// Write a folder as a tar archive
    TarOut(TarOut),
    /// Replay the journal and clear orphans, as a mount does
    Replay(Replay),
}

/// What every command takes that changes an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Options for changes")]
pub struct Change {
    /// Check wholly what is about to change, and the result before it is committed
    #[arg(long)]
    pub check: bool,
    /// Where the redo journal lies [default: beside the image]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub journal: Option<PathBuf>,
    /// Keep what the change overwrites: `recover --undo FILE` takes the change back
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub undo: Option<PathBuf>,
    /// Go on although the image seems to be in use
    #[arg(long)]
    pub force: bool,
}

/// Which place inside an image.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Where {
    /// The place inside the image: 3, LABEL=…, UUID=…, PARTUUID=…, PARTLABEL=…, vg/lv, whole, /dev/sda3
    #[arg(short, long, value_name = "PLACE")]
    pub partition: Option<Place>,
}

impl Where {
    /// The place, or the one that the command can mean.
    #[must_use]
    pub fn place(&self) -> Place {
        self.partition.clone().unwrap_or_default()
    }
}

/// `grow IMAGE SIZE`
#[derive(Clone, Debug, clap::Args)]
pub struct Grow {
    /// The image
    #[arg(value_hint = ValueHint::FilePath)]
    pub image: PathBuf,
    /// The new total size, so much more, or all that is free on the disk: 20G, +10G, +50%, max
    #[arg(value_parser = growth)]
    pub size: SizeSpec,
    /// Which filesystem.
    #[command(flatten)]
    pub at: Where,
    /// Move the partitions behind the one that grows to the end of the disk, whatever they hold. Without it only swap
    /// and an extended partition's end are moved
    #[arg(long = "move", conflicts_with = "disk_only")]
    pub move_behind: bool,
    /// Leave the partition table as it is
    #[arg(long, conflicts_with_all = ["no_fs", "partition"])]
    pub disk_only: bool,
    /// Stop before the filesystem
    #[arg(long)]
    pub no_fs: bool,
    /// How to change it.
    #[command(flatten)]
    pub change: Change,
}

/// `recover IMAGE`
#[derive(Clone, Debug, clap::Args)]
pub struct Recover {
    /// The image
    #[arg(value_hint = ValueHint::FilePath)]
    pub image: PathBuf,
    /// Take back the finished change that this file was written for
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub undo: Option<PathBuf>,
    /// Where the redo journal lies [default: beside the image]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub journal: Option<PathBuf>,
    /// Go on although the image seems to be in use
    #[arg(long)]
    pub force: bool,
}

macro_rules! of_image {
    ($($(#[$doc:meta])* $name:ident),*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, clap::Args)]
        pub struct $name {
            /// The image
            #[arg(value_hint = ValueHint::FilePath)]
            pub image: PathBuf,
        }
    )*};
}
of_image!(
    /// `info IMAGE`
    Info,
    /// `map IMAGE`
    Map,
    /// `digest IMAGE`
    Digest
);

/// `compare A B`
#[derive(Clone, Debug, clap::Args)]
pub struct Compare {
    /// One image
    #[arg(value_hint = ValueHint::FilePath)]
    pub a: PathBuf,
    /// The other
    #[arg(value_hint = ValueHint::FilePath)]
    pub b: PathBuf,
    /// Format of B, where -f tells that of A
    #[arg(short = 'F', value_name = "FORMAT", value_parser = super::globals::format(), hide_possible_values = true)]
    pub format_b: Option<container::Format>,
}

/// `create IMAGE SIZE`
#[derive(Clone, Debug, clap::Args)]
pub struct Create {
    /// The image to be made
    #[arg(value_hint = ValueHint::FilePath)]
    pub image: PathBuf,
    /// Its virtual size; a child has that of BASE where it is left out
    #[arg(value_parser = total, required_unless_present = "backing")]
    pub size: Option<Len>,
    /// Its format: raw, vhd, vhd-fixed, qcow2 [default: by the name's ending, else raw]
    #[arg(short = 'O', long = "output-format", value_name = "FORMAT", hide_possible_values = true)]
    pub output_format: Option<OutFormat>,
    /// Make a child that holds only what differs from BASE
    #[arg(long, value_name = "BASE", value_hint = ValueHint::FilePath)]
    pub backing: Option<PathBuf>,
    /// How it is laid out.
    #[command(flatten)]
    pub layout: Layout,
}

/// `fs ls IMAGE [PATH]`
#[derive(Clone, Debug, clap::Args)]
pub struct Ls {
    /// The image
    #[arg(value_hint = ValueHint::FilePath)]
    pub image: PathBuf,
    /// The folder or file inside it
    #[arg(default_value = "/")]
    pub path: PathBuf,
    /// Show mode, links, owner, size and time
    #[arg(short)]
    pub long: bool,
    /// Descend into folders
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Which filesystem.
    #[command(flatten)]
    pub at: Where,
}

macro_rules! of_image_and_path {
    ($($(#[$doc:meta])* $name:ident),*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, clap::Args)]
        pub struct $name {
            /// The image
            #[arg(value_hint = ValueHint::FilePath)]
            pub image: PathBuf,
            /// The file inside it
            pub path: PathBuf,
            /// Which filesystem.
            #[command(flatten)]
            pub at: Where,
        }
    )*};
}
of_image_and_path!(
    /// `fs cat IMAGE PATH`
    Cat,
    /// `fs stat IMAGE PATH`
    Stat
);

/// `fs find IMAGE [PATH]`
#[derive(Clone, Debug, clap::Args)]
pub struct Find {
    /// The image
    #[arg(value_hint = ValueHint::FilePath)]
    pub image: PathBuf,
    /// The folder inside it where the search begins
    #[arg(default_value = "/")]
    pub path: PathBuf,
    /// Only names that match: * any text, ? any character, [a-z] one of these
    #[arg(long, value_name = "GLOB")]
    pub name: Option<Glob>,
    /// Only files (f), folders (d) or symbolic links (l)
    #[arg(long = "type", value_name = "f|d|l", hide_possible_values = true)]
    pub kind: Option<EntryType>,
    /// Which filesystem.
    #[command(flatten)]
    pub at: Where,
}

/// `fs copy-out IMAGE PATH DEST`
#[derive(Clone, Debug, clap::Args)]
pub struct CopyOut {
    /// The image
    #[arg(value_hint = ValueHint::FilePath)]
    pub image: PathBuf,
    /// The file or folder inside it
    pub path: PathBuf,
    /// Where it goes on this machine
    #[arg(value_hint = ValueHint::AnyPath)]
    pub dest: PathBuf,
    /// Which filesystem.
    #[command(flatten)]
    pub at: Where,
}

/// `fs tar-out IMAGE [PATH]`
#[derive(Clone, Debug, clap::Args)]
pub struct TarOut {
    /// The image
    #[arg(value_hint = ValueHint::FilePath)]
    pub image: PathBuf,
    /// The folder inside it
    #[arg(default_value = "/")]
    pub path: PathBuf,
    /// Where the archive goes; - is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
    /// Which filesystem.
    #[command(flatten)]
    pub at: Where,
}

/// `fs replay IMAGE`
#[derive(Clone, Debug, clap::Args)]
pub struct Replay {
    /// The image
    #[arg(value_hint = ValueHint::FilePath)]
    pub image: PathBuf,
    /// Which filesystem.
    #[command(flatten)]
    pub at: Where,
    /// How to change it.
    #[command(flatten)]
    pub change: Change,
}

/// What `create` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutFormat {
    /// Byte by byte, sparse.
    Raw,
    /// A dynamic VHD, or a differencing one.
    #[value(alias = "vpc")]
    Vhd,
    /// A fixed VHD.
    VhdFixed,
    /// qcow2, version 3.
    Qcow2,
}

/// What `find --type` looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EntryType {
    /// A regular file.
    #[value(name = "f")]
    File,
    /// A folder.
    #[value(name = "d")]
    Dir,
    /// A symbolic link.
    #[value(name = "l")]
    Symlink,
}

impl Fs {
    /// Whether standard output carries the content of files.
    pub(super) fn streams(&self) -> bool {
        match self {
            Self::Cat(_) => true,
            Self::TarOut(tar) => tar.output == Path::new("-"),
            _ => false,
        }
    }
}

/// A size to grow to or by.
fn growth(text: &str) -> Result<SizeSpec, String> {
    match text.parse().map_err(|bad: BadSize| bad.to_string())? {
        spec @ (SizeSpec::Total(_) | SizeSpec::Plus(_) | SizeSpec::PlusPercent(_) | SizeSpec::Max) => {
            Ok(spec)
        }
        _ => {
            Err("write the new total size, + and how much more, or max for what is free on the disk"
                .to_owned())
        }
    }
}

/// A total size.
fn total(text: &str) -> Result<Len, BadSize> {
    parse_len(text)
}
