//! What the commands on chains take.

use super::{Change, OutFormat};
use clap::{Subcommand, ValueHint};
use std::path::PathBuf;

/// What is to be done with a chain of images.
#[derive(Clone, Debug, Subcommand)]
pub enum Chain {
    /// Show an image and the parents that it stands on
    List(ChainList),
    /// Make a new image on top of one, which then is to be left as it is
    Snapshot(Snapshot),
    /// Merge an image into its parent
    Coalesce(Coalesce),
    /// Copy what the parents have into an image, so that it stands alone
    Flatten(Flatten),
    /// Put an image on another parent, without a change of what it reads as
    Rebase(Rebase),
}

/// `chain list IMAGE`
#[derive(Clone, Debug, clap::Args)]
pub struct ChainList {
    /// The image
    #[arg(value_hint = ValueHint::FilePath)]
    pub image: PathBuf,
}

/// `chain snapshot IMAGE NEW`
#[derive(Clone, Debug, clap::Args)]
pub struct Snapshot {
    /// The image that becomes the parent; it is not touched
    #[arg(value_hint = ValueHint::FilePath)]
    pub image: PathBuf,
    /// The image to be made, which holds what is written from now on
    #[arg(value_hint = ValueHint::FilePath)]
    pub new: PathBuf,
    /// Its format: vhd, qcow2 [default: by the name's ending]
    #[arg(short = 'O', long = "output-format", value_name = "FORMAT", hide_possible_values = true)]
    pub output_format: Option<OutFormat>,
}

/// `chain coalesce IMAGE`
#[derive(Clone, Debug, clap::Args)]
pub struct Coalesce {
    /// The image whose data go into its parent
    #[arg(value_hint = ValueHint::FilePath)]
    pub image: PathBuf,
    /// Remove the image when its parent has everything
    #[arg(long)]
    pub remove: bool,
    /// How to change it.
    #[command(flatten)]
    pub change: Change,
}

/// `chain flatten IMAGE`
#[derive(Clone, Debug, clap::Args)]
pub struct Flatten {
    /// The image
    #[arg(value_hint = ValueHint::FilePath)]
    pub image: PathBuf,
    /// How to change it.
    #[command(flatten)]
    pub change: Change,
}

/// `chain rebase IMAGE PARENT`
#[derive(Clone, Debug, clap::Args)]
pub struct Rebase {
    /// The image
    #[arg(value_hint = ValueHint::FilePath)]
    pub image: PathBuf,
    /// The parent that it shall have
    #[arg(value_name = "NEW-PARENT", value_hint = ValueHint::FilePath)]
    pub new_parent: PathBuf,
    /// Format of NEW-PARENT, where -f tells that of IMAGE: raw, vhd, qcow2
    #[arg(short = 'F', value_name = "FORMAT", value_parser = super::globals::format(), hide_possible_values = true)]
    pub format_parent: Option<container::Format>,
    /// Only write the new parent's name, whatever that makes of the content: for a parent that was moved
    #[arg(long)]
    pub content_may_change: bool,
    /// How to change it.
    #[command(flatten)]
    pub change: Change,
}
