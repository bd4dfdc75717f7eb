//! Growing beside the usual tools.

use crate::oracles;
use crate::run::{Result, cargo, run};

/// Runs the comparison in `benches/`.
pub fn bench(args: &[&str]) -> Result {
    oracles::install()?;
    run(cargo().args(["bench", "--package", "imgtool", "--bench", "grow", "--"]).args(args))
}
