//! House rules that a compiler does not know. A rule without a check is a wish.

mod arrows;
mod files;
mod source;

use crate::run::{Result, root};

/// Looks at the whole repository and lists what breaks a rule.
pub fn tidy() -> Result {
    let files = files::all(root())?;
    let sources: Vec<source::Source> = files.iter().filter_map(source::Source::of).collect();
    let mut findings = Vec::new();
    findings.extend(arrows::findings(&files));
    findings.extend(files::findings(&files));
    for source in &sources {
        findings.extend(source.findings());
    }
    findings.sort();
    if findings.is_empty() {
        Ok(())
    } else {
        Err(format!("the house rules are broken:\n  {}", findings.join("\n  ")))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_repository_is_tidy() {
        super::tidy().unwrap_or_else(|findings| panic!("{findings}"));
    }
}
