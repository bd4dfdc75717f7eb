//! What is told about new images: `convert`, `create`, `measure`.

use super::commands::{Change, OutFormat};
use clap::builder::ArgPredicate;
use clap::{ValueEnum, ValueHint};
use ondisk::Len;
use ondisk::size::{BadSize, parse_len};
use std::path::{Path, PathBuf};

/// How a new qcow2 image is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Options for qcow2")]
pub struct Layout {
    /// The size of its clusters: 512 to 2M [default: 64K]
    #[arg(long, value_name = "SIZE", value_parser = cluster)]
    pub cluster_size: Option<Len>,
    /// Its version: 1.1 or v3, which is the default, 0.10 or v2
    #[arg(long, value_name = "VERSION", hide_possible_values = true)]
    pub compat: Option<Compat>,
    /// Divide clusters into 32 parts
    #[arg(long)]
    pub extended_l2: bool,
}

/// A version of qcow2, by the version of QEMU that began to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compat {
    /// Version 2.
    #[value(name = "0.10", aliases = ["v2", "2"])]
    V2,
    /// Version 3.
    #[value(name = "1.1", aliases = ["v3", "3"])]
    V3,
}

/// How clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compress {
    /// Quick, and small.
    Zstd,
    /// What every reader of qcow2 knows.
    #[value(alias = "zlib")]
    Deflate,
}

/// `convert SRC DST`
#[derive(Clone, Debug, clap::Args)]
pub struct Convert {
    /// The image to be read, with the parents that it stands on; - is standard input, raw
    #[arg(value_hint = ValueHint::FilePath)]
    pub src: PathBuf,
    /// The image to be made, or a block device to be overwritten; - is standard output, raw
    #[arg(
        value_hint = ValueHint::FilePath,
        required = false,
        required_unless_present = "in_place",
        default_value_if("in_place", ArgPredicate::IsPresent, ".")
    )]
    pub dst: PathBuf,
    /// Write only tables around the data of SRC, which becomes the image: raw, fixed VHD and qcow2
    #[arg(long, requires = "output_format", conflicts_with_all = ["dst", "keep_chain", "compress"])]
    pub in_place: bool,
    /// Its format: raw, vhd, vhd-fixed, qcow2 [default: by the name's ending, else raw]
    #[arg(short = 'O', long = "output-format", value_name = "FORMAT", hide_possible_values = true)]
    pub output_format: Option<OutFormat>,
    /// Convert each image of the chain, and link the new ones in the same way. Parents become NAME.vhd or NAME.qcow2 in
    /// the folder of DST
    #[arg(long)]
    pub keep_chain: bool,
    /// How it is laid out.
    #[command(flatten)]
    pub layout: Layout,
    /// Compress the clusters: zstd, deflate
    #[arg(long, value_name = "HOW", hide_possible_values = true)]
    pub compress: Option<Compress>,
    /// How to change it, with `--in-place`.
    #[command(flatten)]
    pub change: Change,
}

/// `measure SRC`
#[derive(Clone, Debug, clap::Args)]
pub struct Measure {
    /// The image that would be converted
    #[arg(value_hint = ValueHint::FilePath, required_unless_present = "size", conflicts_with = "size")]
    pub src: Option<PathBuf>,
    /// Measure an empty disk of that size instead
    #[arg(long, value_name = "SIZE", value_parser = total)]
    pub size: Option<Len>,
    /// The format it would get: raw, vhd, vhd-fixed, qcow2
    #[arg(
        short = 'O',
        long = "output-format",
        value_name = "FORMAT",
        default_value = "raw",
        hide_possible_values = true
    )]
    pub output_format: OutFormat,
    /// How it would be laid out.
    #[command(flatten)]
    pub layout: Layout,
}

impl Convert {
    /// A conversion into a new image, without anything special.
    #[must_use]
    pub fn plain(src: &Path, dst: &Path, output_format: Option<OutFormat>) -> Self {
        Self {
            src: src.to_owned(),
            dst: dst.to_owned(),
            in_place: false,
            output_format,
            keep_chain: false,
            layout: Layout::default(),
            compress: None,
            change: Change::default(),
        }
    }

    /// Whether standard output carries the disk.
    pub(super) fn streams(&self) -> bool {
        self.dst == Path::new("-")
    }

    /// Whether an option is there that means nothing.
    pub(super) fn contradicts(&self) -> bool {
        !self.in_place && self.change != Change::default()
    }
}

/// The size of a cluster, where a bare number is one of bytes.
fn cluster(text: &str) -> Result<Len, String> {
    let len = match text.parse() {
        Ok(bytes) => Len::new(bytes),
        Err(_) => parse_len(text).map_err(|bad| bad.to_string())?,
    };
    if len.get().is_power_of_two() && (512..=2 << 20).contains(&len.get()) {
        Ok(len)
    } else {
        Err("a cluster has 512 bytes to 2 MiB, a power of two".to_owned())
    }
}

fn total(text: &str) -> Result<Len, BadSize> {
    parse_len(text)
}
