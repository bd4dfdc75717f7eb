//! Fixtures are built, not collected: each folder has a `recipe`.

use std::fs::read_dir;

use crate::run::{Result, program, root, run};

/// Runs the recipes of the named fixtures, or of all.
pub fn fixtures(names: &[&str]) -> Result {
    let dir = root().join("fixtures");
    let entries = read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut all: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    all.sort();
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|known| known == *name)) {
        return Err(format!("there is no fixture {unknown}; there are {}", all.join(", ")));
    }
    let chosen = all.iter().filter(|name| names.is_empty() || names.contains(&name.as_str()));
    chosen.into_iter().try_for_each(|name| {
        println!("== {name}");
        run(&mut program(dir.join(name).join("recipe")))
    })
}
