//! Files as such: sizes, fixtures, words that belong to one machine, links of documents.

use std::fs::{read, read_dir};
use std::path::{Path, PathBuf};

use crate::run::Result;

/// A file of the repository.
pub struct File {
    /// Its path below the root.
    pub path: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl File {
    /// Its content where it is text.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }
}

/// Folders that git does not keep.
const LEFT_OUT: &[&str] = &[".git", "target", "fuzz/target", "fuzz/corpus", "fuzz/artifacts"];

const MIB: usize = 1 << 20;

/// Every file below `root`, sorted.
pub fn all(root: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(dir) = open.pop() {
        let here = root.join(&dir);
        let failed = |error: std::io::Error| format!("{}: {error}", here.display());
        for entry in read_dir(&here).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = dir.join(entry.file_name());
            if LEFT_OUT.iter().any(|out| path == Path::new(out)) {
                continue;
            }
            if entry.file_type().map_err(failed)?.is_dir() {
                open.push(path);
            } else {
                let bytes = read(root.join(&path)).map_err(failed)?;
                files.push(File { path: path.to_string_lossy().into_owned(), bytes });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Words that tie the repository to one machine or network. Split, so that this list does not find itself.
const WORDS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("cra", "tes.io"),
    concat!("deb", ".debian.org"),
    concat!("localhost", ":"),
];

/// Files whose text is not ours to choose.
const FREE: &[(&str, &str)] = &[("Cargo.lock", "cargo writes it"), ("fuzz/Cargo.lock", "cargo writes it")];

/// What is wrong with files as such.
pub fn findings(files: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files {
        if file.bytes.len() > 3 * MIB {
            findings.push(format!("{}: larger than 3 MiB", file.path));
        }
        if !FREE.iter().any(|(free, _)| file.path == *free) {
            findings.extend(words(file));
        }
        if file.path.ends_with(".md") {
            findings.extend(links(file, files));
        }
    }
    findings.extend(fixtures(files));
    findings
}

fn words(file: &File) -> impl Iterator<Item = String> {
    let text = file.text().unwrap_or_default();
    let found = WORDS.iter().filter(|word| text.contains(**word));
    found.map(|word| format!("{}: names {word}, which exists only elsewhere", file.path))
}

/// Links of a document to files that are not there.
fn links(file: &File, files: &[File]) -> Vec<String> {
    let folder = Path::new(&file.path).parent().unwrap_or(Path::new(""));
    let targets = file.text().unwrap_or_default().split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let inside = targets.map(|(target, _)| target.split('#').next().unwrap_or_default());
    let inside = inside.filter(|target| !target.is_empty() && !target.contains(':'));
    let broken = inside.filter(|target| {
        let path = folder.join(target);
        !files.iter().any(|other| Path::new(&other.path).starts_with(&path))
    });
    broken.map(|target| format!("{}: links to {target}, which is not there", file.path)).collect()
}

/// Each folder of `fixtures/` has a recipe, and all of them together stay small.
fn fixtures(files: &[File]) -> Vec<String> {
    let parts = |file: &File| file.path.strip_prefix("fixtures/").map(|rest| rest.to_owned());
    let inside: Vec<(String, usize)> =
        files.iter().filter_map(|file| Some((parts(file)?, file.bytes.len()))).collect();
    let mut findings = Vec::new();
    if inside.iter().map(|(_, len)| len).sum::<usize>() > 8 * MIB {
        findings.push("fixtures: larger than 8 MiB together".to_owned());
    }
    for (path, len) in &inside {
        let Some((name, _)) = path.split_once('/') else {
            findings.push(format!("fixtures/{path}: lies in no folder of its own"));
            continue;
        };
        if !inside.iter().any(|(other, _)| *other == format!("{name}/recipe")) {
            findings.push(format!("fixtures/{path}: has no recipe beside it"));
        }
        if name != "demo-guest" && *len > 64 << 10 {
            findings.push(format!("fixtures/{path}: larger than 64 KiB"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), bytes: text.as_bytes().to_vec() }
    }

    #[test]
    fn a_fixture_without_recipe_is_found() {
        assert_eq!(
            fixtures(&[file("fixtures/a/image", "x"), file("fixtures/a/recipe", "y")]),
            Vec::<String>::new()
        );
        assert_eq!(fixtures(&[file("fixtures/a/image", "x")]).len(), 1);
        assert_eq!(fixtures(&[file("fixtures/image", "x")]).len(), 1);
    }

    #[test]
    fn a_broken_link_is_found() {
        let files =
            [file("docs/a.md", "[b](b.md#here) [c](../c) [d](https://d) [e](e.md)"), file("docs/b.md", "")];
        assert_eq!(
            links(&files[0], &files),
            ["docs/a.md: links to ../c, which is not there", "docs/a.md: links to e.md, which is not there"]
        );
    }

    #[test]
    fn a_machine_path_is_found() {
        assert_eq!(words(&file("a", &["see /wo", "rk/here"].concat())).count(), 1);
        assert_eq!(words(&file("a", "see network/here")).count(), 0);
    }
}
