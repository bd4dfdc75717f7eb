//! Man pages and completions, from the definition that the program itself uses.

use std::fs::create_dir_all;
use std::path::Path;

use clap_complete::{Shell, generate_to};

use crate::run::Result;

/// Writes man pages to `to/man` and completions to `to/completions`.
pub fn pages(to: &Path) -> Result {
    let failed = |error: std::io::Error| format!("{}: {error}", to.display());
    let [man, completions] = ["man", "completions"].map(|name| to.join(name));
    create_dir_all(&man).map_err(failed)?;
    create_dir_all(&completions).map_err(failed)?;
    let mut command = imgtool::args::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "imgtool", &completions).map_err(failed)?;
    }
    clap_mangen::generate_to(command, &man).map_err(failed)
}
