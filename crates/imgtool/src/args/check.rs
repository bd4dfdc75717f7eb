//! What `check` takes.

use super::Change;
use clap::ValueHint;
use std::path::PathBuf;

/// `check IMAGE`
#[derive(Clone, Debug, clap::Args)]
pub struct Check {
    /// The image
    #[arg(value_hint = ValueHint::FilePath)]
    pub image: PathBuf,
    /// Mend what a surviving copy or a count proves, and leave everything else as it is
    #[arg(long)]
    pub repair: bool,
    /// How to change it.
    #[command(flatten)]
    pub change: Change,
}

impl Check {
    /// Whether an option is there that only a repair can mean.
    pub(super) fn contradicts(&self) -> bool {
        !self.repair && self.change != Change::default()
    }
}
