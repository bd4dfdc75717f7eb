//! How a run ends: exit codes, and errors as people and scripts see them.
//!
//! ```text
//! imgtool: error: vm.qcow2: header: cluster_bits is 40, expected 9 to 21        stderr
//!   help: …
//! {"error":{"code":4,"kind":"corrupt","message":"vm.qcow2: …","help":"…"}}       stdout, with --json
//! ```
//!
//! 1. Exit codes come from [`Class`] alone.
//! 2. A message is one line without control characters, whatever it quotes.
//! 3. Every error, a panic included, is told in both forms where `--json` was given.

use ondisk::text::Printable;
use ondisk::{Class, Classified};
use serde::Serialize;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

/// The exit codes, which scripts depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, clean, identical.
    Done,
    /// The answer is no.
    No,
    /// Wrong usage.
    Usage,
    /// Refused, nothing changed.
    Refused,
    /// The input is damaged or hostile, nothing changed.
    Corrupt,
    /// The system failed.
    Io,
    /// An interrupted change was found.
    Pending,
    /// Somebody else has written to the image since.
    Foreign,
    /// Interrupted by the operator.
    Interrupted,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::No => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Corrupt => 4,
            Self::Io => 5,
            Self::Pending => 6,
            Self::Foreign => 7,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The code and the name of a class of errors.
const fn told(class: Class) -> (Exit, &'static str) {
    match class {
        Class::Usage => (Exit::Usage, "usage"),
        Class::Refused => (Exit::Refused, "refused"),
        Class::InUse => (Exit::Refused, "in-use"),
        Class::Unsupported => (Exit::Refused, "unsupported"),
        Class::Corrupt => (Exit::Corrupt, "corrupt"),
        Class::Io => (Exit::Io, "io"),
        Class::Pending => (Exit::Pending, "pending"),
        Class::Foreign => (Exit::Foreign, "foreign"),
        Class::Cancelled => (Exit::Interrupted, "interrupted"),
    }
}

/// Why a command did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    exit: Exit,
    kind: &'static str,
    message: String,
    help: Vec<String>,
}

#[derive(Serialize)]
struct Wrapped<'a> {
    error: Document<'a>,
}

#[derive(Serialize)]
struct Document<'a> {
    code: u8,
    kind: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
}

impl Failure {
    /// A failure in our own words.
    pub fn new(exit: Exit, kind: &'static str, message: impl AsRef<str>) -> Self {
        Self { exit, kind, message: one_line(message.as_ref()), help: Vec::new() }
    }

    /// An error in what concerns the file `name`.
    pub fn of(name: &Path, error: &dyn Classified) -> Self {
        let (exit, kind) = told(error.class());
        let failure = Self::new(exit, kind, format!("{}: {error}", show(name)));
        match error.help() {
            Some(help) => failure.with_help(help),
            None => failure,
        }
    }

    /// We will not do that with the file `name`.
    pub fn refused(name: &Path, why: impl std::fmt::Display) -> Self {
        Self::new(Exit::Refused, "refused", format!("{}: {why}", show(name)))
    }

    /// The command line contradicts itself.
    pub fn usage(message: impl AsRef<str>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// The system failed in what concerns the file `name`.
    pub fn io(name: &Path, error: &io::Error) -> Self {
        Self::new(Exit::Io, "io", format!("{}: {error}", show(name)))
    }

    /// Standard output cannot be written. Where nobody reads it any more, that is no error.
    pub fn stdout(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self { exit: Exit::Done, kind: "closed", message: String::new(), help: Vec::new() }
        } else {
            Self::new(Exit::Io, "io", format!("standard output: {error}"))
        }
    }

    /// Adds what the operator can do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl AsRef<str>) -> Self {
        self.help.extend(help.as_ref().lines().map(one_line));
        self
    }

    /// How the program ends.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// A short name for scripts: `in-use`, `corrupt`, …
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    /// `WHAT: WHY`.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The document for `--json`.
    #[must_use]
    pub fn document(&self) -> String {
        let help = (!self.help.is_empty()).then(|| self.help.join("\n"));
        let error = Document { code: self.exit.code(), kind: self.kind, message: &self.message, help };
        serde_json::to_string(&Wrapped { error }).unwrap_or_default()
    }

    /// The lines for people.
    #[must_use]
    pub fn lines(&self) -> String {
        let help = self.help.iter().map(|help| format!("  help: {help}\n"));
        format!("imgtool: error: {}\n{}", self.message, help.collect::<String>())
    }

    /// Tells the operator, and with `json` the script. That nobody listens is no further error.
    pub fn report(&self, json: bool) {
        if self.message.is_empty() {
            return;
        }
        if json {
            let _ = writeln!(io::stdout(), "{}", self.document());
        }
        let _ = io::stderr().write_all(self.lines().as_bytes());
    }
}

/// Says which file an error is about.
pub trait Of<T> {
    /// The value, or the failure that concerns the file `name`.
    ///
    /// # Errors
    /// Those of the result itself.
    fn of(self, name: &Path) -> Result<T, Failure>;
}

impl<T, E: Classified> Of<T> for Result<T, E> {
    fn of(self, name: &Path) -> Result<T, Failure> {
        self.map_err(|error| Failure::of(name, &error))
    }
}

/// The name of a file on this machine, made safe to print.
#[must_use]
pub fn show(name: &Path) -> String {
    Printable(name.as_os_str().as_bytes()).to_string()
}

/// Escapes what steers a terminal or ends a line, and leaves everything else as it is: what a layer below has already
/// escaped stays readable.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if is_steering(c) {
            line.push_str(&Printable(c.encode_utf8(&mut [0; 4]).as_bytes()).to_string());
        } else {
            line.push(c);
        }
    }
    line
}

/// Whether a character would do something else than show itself.
pub(crate) fn is_steering(c: char) -> bool {
    let mut utf8 = [0; 4];
    !matches!(c, '\\' | ' '..='~')
        && Printable(c.encode_utf8(&mut utf8).as_bytes()).to_string().starts_with('\\')
}

/// Makes a panic one line that asks for a report, and ends the program at once with the code of a failed system: what
/// was staged is dropped, and a commit under way has its journal.
pub fn hook_panics(json: bool) {
    let backtrace = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let place = info.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
        let why = info.payload_as_str().unwrap_or("a panic");
        let version = env!("CARGO_PKG_VERSION");
        Failure::new(Exit::Io, "internal", format!("internal error{place}: {why} (imgtool {version})"))
            .with_help("this is a bug of imgtool, please report this line")
            .report(json);
        if backtrace {
            default(info);
        }
        std::process::exit(Exit::Io.code().into());
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_class() -> [(Class, u8, &'static str); 9] {
        [
            (Class::Usage, 2, "usage"),
            (Class::Refused, 3, "refused"),
            (Class::InUse, 3, "in-use"),
            (Class::Unsupported, 3, "unsupported"),
            (Class::Corrupt, 4, "corrupt"),
            (Class::Io, 5, "io"),
            (Class::Pending, 6, "pending"),
            (Class::Foreign, 7, "foreign"),
            (Class::Cancelled, 130, "interrupted"),
        ]
    }

    #[derive(Debug)]
    struct Hostile(Class);

    impl std::fmt::Display for Hostile {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("label \u{1b}[31m\n\u{202e}x, escaped already: \\x1b")
        }
    }
    impl std::error::Error for Hostile {}
    impl Classified for Hostile {
        fn class(&self) -> Class {
            self.0
        }
        fn help(&self) -> Option<String> {
            Some("first\nsecond\u{7}".to_owned())
        }
    }

    #[test]
    fn codes_and_kinds_follow_the_class() {
        for (class, code, kind) in every_class() {
            let failure = Failure::of(Path::new("a.img"), &Hostile(class));
            assert_eq!((failure.exit().code(), failure.kind()), (code, kind));
        }
    }

    #[test]
    fn nothing_steers_the_terminal() {
        let name = std::ffi::OsStr::from_bytes(b"a\x1b]0;\n\xff.img");
        let failure = Failure::of(Path::new(name), &Hostile(Class::Corrupt));
        assert_eq!(
            failure.lines(),
            "imgtool: error: a\\x1b]0;\\x0a\\xff.img: label \\x1b[31m\\x0a\\u{202e}x, escaped already: \\x1b\n  \
             help: first\n  help: second\\x07\n"
        );
    }

    #[test]
    fn the_document_has_the_same_message() {
        let failure = Failure::of(Path::new("a.img"), &Hostile(Class::InUse));
        let document: serde_json::Value = serde_json::from_str(&failure.document()).unwrap();
        let error = &document["error"];
        assert_eq!(error["code"], 3);
        assert_eq!(error["kind"], "in-use");
        assert_eq!(error["message"], failure.message());
        assert_eq!(error["help"], "first\nsecond\\x07");
        let bare: serde_json::Value = serde_json::from_str(&Failure::usage("x").document()).unwrap();
        assert!(bare["error"].get("help").is_none());
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let failure = Failure::stdout(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.exit(), Exit::Done);
        let failure = Failure::stdout(&io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(failure.exit(), Exit::Io);
    }

    /// The test below runs this one as a process of its own, for a panic ends the process.
    #[test]
    fn panics_when_told() {
        if std::env::var_os("IMGTOOL_TEST_PANIC").is_some() {
            hook_panics(true);
            panic!("two\nlines");
        }
    }

    #[test]
    fn a_panic_is_one_line_and_code_5() {
        let this = std::env::current_exe().unwrap();
        let run = |backtrace: &str| {
            std::process::Command::new(&this)
                .args(["--exact", "exit::tests::panics_when_told", "--nocapture", "--test-threads=1"])
                .env("IMGTOOL_TEST_PANIC", "1")
                .env("RUST_BACKTRACE", backtrace)
                .output()
                .unwrap()
        };
        let quiet = run("0");
        assert_eq!(quiet.status.code(), Some(5));
        let stderr = String::from_utf8(quiet.stderr).unwrap();
        assert_eq!(stderr.lines().count(), 2, "{stderr}");
        assert!(stderr.starts_with("imgtool: error: internal error at ") && stderr.contains("two\\x0alines"));
        assert!(String::from_utf8(quiet.stdout).unwrap().contains(r#"{"error":{"code":5,"#));
        assert!(run("1").stderr.len() > stderr.len());
    }
}
