//! Our commands beside the usual tools.

use crate::oracles;
use crate::run::{Result, cargo, root, run};

/// Runs the comparisons in `benches/`: the one that is named first, or all; further words choose among its cases.
pub fn bench(args: &[&str]) -> Result {
    oracles::install()?;
    let all = names()?;
    let (chosen, rest) = match args.split_first() {
        Some((first, rest)) if all.iter().any(|name| name == first) => (vec![(*first).to_owned()], rest),
        _ => (all, args),
    };
    for name in chosen {
        run(cargo().args(["bench", "--package", "imgtool", "--bench", &name, "--"]).args(rest))?;
    }
    Ok(())
}

fn names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    let failed = |error: std::io::Error| format!("benches: {error}");
    for entry in std::fs::read_dir(root().join("benches")).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}
