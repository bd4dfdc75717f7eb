//! What the commands on storage repositories take.

use super::{OutFormat, Where};
use clap::{Subcommand, ValueEnum, ValueHint};
use std::path::PathBuf;

/// What is to be done with a storage repository.
#[derive(Clone, Debug, Subcommand)]
pub enum Sr {
    /// List the virtual disks of a repository, and which stands on which
    Scan(SrScan),
    /// Check a repository: its volumes, its metadata, every image, every chain
    Check(SrCheck),
    /// Copy one virtual disk, with all that it stands on, into an image of its own
    Export(SrExport),
    /// Copy all virtual disks into images, chains as chains; repeated, it goes on
    Convert(SrConvert),
}

/// What a repository is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SrTo {
    /// A folder with a file for each virtual disk.
    File,
}

/// The repository.
#[derive(Clone, Debug, clap::Args)]
pub struct Repository {
    /// The repository: a block device or an image of one, or the folder of a file-based one
    #[arg(value_name = "SR", value_hint = ValueHint::AnyPath)]
    pub sr: PathBuf,
    /// Which partition of the device.
    #[command(flatten)]
    pub at: Where,
}

/// `sr scan SR`
#[derive(Clone, Debug, clap::Args)]
pub struct SrScan {
    /// Which.
    #[command(flatten)]
    pub of: Repository,
}

/// `sr check SR`
#[derive(Clone, Debug, clap::Args)]
pub struct SrCheck {
    /// Which.
    #[command(flatten)]
    pub of: Repository,
}

/// `sr convert SR DEST --to file`
#[derive(Clone, Debug, clap::Args)]
pub struct SrConvert {
    /// Which.
    #[command(flatten)]
    pub of: Repository,
    /// The folder; made where it is not there
    #[arg(value_hint = ValueHint::DirPath)]
    pub dest: PathBuf,
    /// What is to be made: file, a folder with a file for each virtual disk
    #[arg(long, value_name = "KIND", hide_possible_values = true)]
    pub to: SrTo,
}

/// `sr export SR --vdi UUID OUT`
#[derive(Clone, Debug, clap::Args)]
pub struct SrExport {
    /// The repository: a block device or an image of one, or the folder of a file-based one
    #[arg(value_name = "SR", value_hint = ValueHint::AnyPath)]
    pub sr: PathBuf,
    /// The image to be made
    #[arg(value_hint = ValueHint::FilePath)]
    pub out: PathBuf,
    /// Its format: raw, vhd, vhd-fixed, qcow2 [default: by the name's ending, else raw]
    #[arg(short = 'O', long = "output-format", value_name = "FORMAT", hide_possible_values = true)]
    pub output_format: Option<OutFormat>,
}
