//! Rust source: lengths, banned words, records in their place. Formatted source needs no parser: a function ends at the
//! first closing brace in the column where it began.

use super::files::File;

/// Lines of a function, without blank ones and comments.
const FUNCTION_LINES: usize = 70;

/// Lines of a file, without its tests.
const FILE_LINES: usize = 600;

/// Where one of the rules does not hold: start of the path, rule, reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("crates/lease/src/lib.rs", "unsafe ", "the one system call that no crate wraps"),
    ("crates/disk/src/dev", "std::fs", "the floor: the only user of files"),
    ("crates/disk/src/image/open.rs", "std::fs", "finds the place of the journal beside the image"),
    ("crates/disk/src/lock", "std::fs", "locks files, and asks /proc who holds them"),
    ("crates/disk/src/lock", "std::process", "needs its own process number to leave itself out"),
];

/// Words that no library crate may use, and what to do instead.
const BANNED: &[(&str, &str)] = &[
    ("std::fs", "only disk::dev touches files"),
    ("std::process", "libraries start nothing"),
    ("std::env", "the environment belongs to imgtool"),
    ("std::net", "nothing here talks to a network"),
    ("println!", "the library prints nothing"),
    ("print!(", "the library prints nothing"),
    ("SystemTime::now", "the clock arrives as an argument"),
    ("Instant::now", "the clock arrives as an argument"),
];

/// Words that no crate of the program may use.
const BANNED_EVERYWHERE: &[(&str, &str)] = &[
    ("unsafe ", "the workspace is safe Rust"),
    ("todo!(", "finish it or leave it out"),
    ("unimplemented!(", "a limitation is an error and a test"),
    ("dbg!(", "left over"),
];

/// A file of Rust, without its tests.
pub struct Source<'a> {
    path: &'a str,
    lines: Vec<&'a str>,
}

impl<'a> Source<'a> {
    /// The source in `file`, where it is one and not a test.
    pub fn of(file: &'a File) -> Option<Self> {
        let is_test = |path: &str| {
            path.starts_with("tests/")
                || path.contains("/tests/")
                || path.ends_with("/tests.rs")
                || path.starts_with("fuzz/")
        };
        if !file.path.ends_with(".rs") || is_test(&file.path) {
            return None;
        }
        let mut lines: Vec<&str> = file.text()?.lines().collect();
        let tests =
            lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod "));
        lines.truncate(tests.filter(|at| lines[at + 1].ends_with('{')).unwrap_or(lines.len()));
        Some(Self { path: &file.path, lines })
    }

    /// What is wrong with it.
    pub fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        if self.lines.len() > FILE_LINES {
            self.find(
                &mut findings,
                self.lines.len(),
                "length",
                &format!("a file of more than {FILE_LINES} lines"),
            );
        }
        self.functions(&mut findings);
        let in_crates = self.path.strip_prefix("crates/").filter(|rest| !rest.starts_with("testkit/"));
        if let Some(rest) = in_crates {
            self.words(&mut findings, BANNED_EVERYWHERE);
            if !rest.starts_with("imgtool/") {
                self.words(&mut findings, BANNED);
            }
            self.records(&mut findings);
        }
        findings
    }

    fn find(&self, findings: &mut Vec<String>, line: usize, rule: &str, what: &str) {
        let excused = EXCEPTIONS.iter().any(|(path, r, _)| self.path.starts_with(path) && *r == rule);
        if !excused {
            findings.push(format!("{}:{line}: {what}", self.path));
        }
    }

    fn functions(&self, findings: &mut Vec<String>) {
        for (start, line) in self.lines.iter().enumerate() {
            let code = line.trim_start();
            let is_head = code.split_once("fn ").is_some_and(|(head, _)| is_qualifiers(head));
            // A function on one line, or without a body, has no closing brace of its own.
            if !is_head || code.ends_with(['}', ';']) {
                continue;
            }
            let closing = format!("{}}}", &line[..line.len() - code.len()]);
            let Some(length) = self.lines[start..].iter().position(|line| *line == closing) else { continue };
            let body = &self.lines[start..start + length];
            let lines = body.iter().filter(|line| !line.trim().is_empty() && !is_comment(line)).count();
            if lines > FUNCTION_LINES {
                self.find(findings, start + 1, "length", &format!("a function of {lines} lines"));
            }
        }
    }

    fn words(&self, findings: &mut Vec<String>, banned: &[(&str, &str)]) {
        for (number, line) in self.lines.iter().enumerate().filter(|(_, line)| !is_comment(line)) {
            for (word, instead) in banned.iter().filter(|(word, _)| line.contains(word)) {
                self.find(findings, number + 1, word, &format!("{}: {instead}", word.trim()));
            }
        }
    }

    /// Records as they lie on disk are declared in `layout.rs` or in a folder `layout`.
    fn records(&self, findings: &mut Vec<String>) {
        let is_layout = self.path.ends_with("/layout.rs") || self.path.contains("/layout/");
        let records = self.lines.iter().enumerate().filter(|(_, line)| line.starts_with("#[repr(C"));
        for (number, _) in records.filter(|_| !is_layout) {
            self.find(findings, number + 1, "layout", "a record outside of layout.rs");
        }
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

fn is_qualifiers(head: &str) -> bool {
    let known = |word: &str| matches!(word, "const" | "async" | "extern") || word.starts_with("pub");
    head.split_whitespace().all(|word| known(word) || matches!(word, "in" | "crate)" | "super)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let file = File { path: path.to_owned(), bytes: text.as_bytes().to_vec() };
        Source::of(&file).map(|source| source.findings()).unwrap_or_default()
    }

    #[test]
    fn long_functions_and_files_are_found() {
        let function = |lines| {
            format!("impl X {{\n    pub(crate) fn f() {{\n{}    }}\n}}\n", "        x;\n".repeat(lines))
        };
        assert_eq!(findings("crates/table/src/a.rs", &function(69)), Vec::<String>::new());
        assert_eq!(findings("crates/table/src/a.rs", &function(70)).len(), 1);
        assert_eq!(findings("crates/table/src/a.rs", &function(601)).len(), 2);
        assert_eq!(findings("crates/table/tests/a.rs", &function(601)).len(), 0);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function(601));
        assert_eq!(findings("crates/table/src/a.rs", &tests).len(), 0);
    }

    #[test]
    fn banned_words_are_found_where_they_are_banned() {
        let text = "use std::fs::File;\n// println!(1)\n";
        assert_eq!(findings("crates/table/src/a.rs", text).len(), 1);
        assert_eq!(findings("crates/disk/src/dev/file.rs", text).len(), 0);
        assert_eq!(findings("crates/imgtool/src/a.rs", text).len(), 0);
        assert_eq!(findings("crates/imgtool/src/a.rs", "todo!()\n").len(), 1);
    }

    #[test]
    fn a_record_outside_of_its_place_is_found() {
        assert_eq!(findings("crates/table/src/gpt.rs", "#[repr(C)]\n").len(), 1);
        assert_eq!(findings("crates/table/src/gpt/layout.rs", "#[repr(C)]\n").len(), 0);
    }
}
