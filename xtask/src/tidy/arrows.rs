//! Layers: a crate may use only crates of lower layers.
//!
//! ```text
//! 5  imgtool                               3  stack
//! 4  grub  sr                              2  container  table  lvm2  extfs  delta
//!                                          1  disk          0  ondisk  lease
//! ```

use super::files::File;

/// Every crate of ours and its layer.
const LAYERS: &[(&str, u32)] = &[
    ("ondisk", 0),
    ("lease", 0),
    ("disk", 1),
    ("container", 2),
    ("table", 2),
    ("lvm2", 2),
    ("extfs", 2),
    ("delta", 2),
    ("stack", 3),
    ("grub", 4),
    ("sr", 4),
    ("imgtool", 5),
];

/// The crate of the one system call that nobody wraps, which takes its lints by name.
const UNSAFE: &str = "lease";

/// Crates of others that only the command line may use.
const ONLY_ON_TOP: &[&str] =
    &["clap", "indicatif", "serde", "serde_json", "anstream", "anstyle", "signal-hook"];

fn layer(name: &str) -> Option<u32> {
    LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer)
}

/// What is wrong with the manifests.
pub fn findings(files: &[File]) -> Vec<String> {
    let manifests = files.iter().filter_map(|file| {
        let name = file.path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")?;
        Some((name, file.text()?))
    });
    manifests.flat_map(|(name, text)| manifest(name, text)).collect()
}

fn manifest(name: &str, text: &str) -> Vec<String> {
    let say = |what: String| format!("crates/{name}/Cargo.toml: {what}");
    if name == "testkit" {
        return Vec::new();
    }
    let Some(own) = layer(name) else { return vec![say("has no layer in xtask/src/tidy/arrows.rs".into())] };
    let mut findings = Vec::new();
    if name != UNSAFE && !text.contains("[lints]\nworkspace = true") {
        findings.push(say("does not take the lints of the workspace".into()));
    }
    for used in used(text) {
        match layer(used) {
            Some(other) if other >= own => {
                findings.push(say(format!("layer {own} uses {used} of layer {other}")))
            }
            None if used == "testkit" => findings.push(say("uses testkit outside of tests".into())),
            None if own < 5 && ONLY_ON_TOP.contains(&used) => {
                findings.push(say(format!("uses {used}, which belongs to imgtool")));
            }
            _ => {}
        }
    }
    findings
}

/// The names in `[dependencies]` and in its platform forms, not those in `[dev-dependencies]`.
fn used(text: &str) -> Vec<&str> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[dependencies]"
                || (line.starts_with("[target.") && line.ends_with(".dependencies]"));
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            names.extend(line.split(['.', '=', ' ']).next());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_point_down() {
        let lints = "[lints]\nworkspace = true\n";
        let good = format!(
            "[dependencies]\ndisk.workspace = true\n[dev-dependencies]\ntestkit.workspace = true\n{lints}"
        );
        assert_eq!(manifest("table", &good), Vec::<String>::new());
        for bad in [
            "extfs.workspace = true",
            "stack = { workspace = true }",
            "testkit.workspace = true",
            "serde = \"1\"",
        ] {
            assert_eq!(manifest("table", &format!("[dependencies]\n{bad}\n{lints}")).len(), 1, "{bad}");
        }
        assert_eq!(manifest("table", "[dependencies]\n").len(), 1);
        assert_eq!(manifest("new", lints).len(), 1);
    }
}
