//! What `sparsify` takes.

use super::Change;
use clap::ValueHint;
use std::path::PathBuf;

/// `sparsify IMAGE`
#[derive(Clone, Debug, clap::Args)]
pub struct Sparsify {
    /// The image
    #[arg(value_hint = ValueHint::FilePath)]
    pub image: PathBuf,
    /// How to change it.
    #[command(flatten)]
    pub change: Change,
}
