//! What `sparsify` takes.

use super::{Change, OutFormat};
use clap::ValueHint;
use std::path::PathBuf;

/// `sparsify IMAGE [OUT]`
#[derive(Clone, Debug, clap::Args)]
pub struct Sparsify {
    /// The image
    #[arg(value_hint = ValueHint::FilePath)]
    pub image: PathBuf,
    /// Make a new image without what is free, and leave IMAGE as it is
    #[arg(value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    /// The format of OUT: raw, vhd, vhd-fixed, qcow2 [default: by the name's ending, else raw]
    #[arg(
        short = 'O',
        long = "output-format",
        value_name = "FORMAT",
        requires = "out",
        hide_possible_values = true
    )]
    pub output_format: Option<OutFormat>,
    /// How to change it.
    #[command(flatten)]
    pub change: Change,
}

impl Sparsify {
    /// Whether an option is there that means nothing.
    pub(super) fn contradicts(&self) -> bool {
        self.out.is_some() && self.change != Change::default()
    }
}
