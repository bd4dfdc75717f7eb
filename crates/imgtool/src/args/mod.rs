//! What can be typed: `imgtool [GLOBAL] COMMAND IMAGE [ARGS]`.
//!
//! ```text
//! Args ─┬─ Globals          accepted before and after the command
//!       └─ Command ─┬─ Grow { Change, … }, Recover, Create, …
//!                   └─ Fs ── Ls { Where, … }, Cat, …
//! ```
//!
//! 1. Nothing is opened here: text becomes typed values, and what contradicts itself is refused.
//! 2. Man pages and completions are generated from [`command`].
//! 3. No option is accepted that does nothing.

mod chain;
mod check;
mod commands;
mod convert;
mod delta;
mod globals;
mod sparsify;
mod sr;

pub use chain::{Chain, ChainList, Coalesce, Flatten, Rebase, Snapshot};
pub use check::Check;
pub use commands::{
    Cat, Change, Command, Compare, CopyOut, Create, Digest, EntryType, Find, Fs, Grow, Info, Ls, Map,
    OutFormat, Recover, Replay, Stat, TarOut, Where,
};
pub use convert::{Compat, Compress, Convert, Layout, Measure};
pub use delta::{
    Bases, Delta, DeltaApply, DeltaCodec, DeltaCompose, DeltaCreate, DeltaInfo, DeltaSignature, DeltaVerify,
    PatchFormat, Signer, Trust,
};
pub use globals::{ColorWhen, Globals, ProgressWhen};
pub use sparsify::Sparsify;
pub use sr::{Sr, SrCheck, SrConvert, SrExport, SrScan, SrTo};

use crate::exit::{Exit, Failure};
use clap::error::ErrorKind;
use clap::{ArgMatches, Args as _, FromArgMatches, Subcommand};
use globals::Typed;
use std::ffi::OsString;

/// A whole command line.
#[derive(Clone, Debug)]
pub struct Args {
    /// What goes for every command.
    pub globals: Globals,
    /// The command.
    pub command: Command,
}

/// The command line as data: for man pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    let program = clap::Command::new("imgtool")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Grows, checks and reads disk images, offline and without root")
        .after_help(
            "Exit status: 0 done, 1 the answer is no, 2 wrong usage, 3 refused, 4 damaged input, 5 the system failed, \
             6 run `imgtool recover`, 7 foreign change, 130 interrupted.",
        )
        .max_term_width(100);
    with_globals(Command::augment_subcommands(program).subcommand_required(true))
}

/// Adds the global options to a command and to everything below it.
fn with_globals(command: clap::Command) -> clap::Command {
    let own = |long: &str| command.get_arguments().any(|arg| arg.get_long() == Some(long));
    let (format, base) = (own("format"), own("base"));
    let mut command =
        Typed::augment_args(command.arg_required_else_help(false)).mut_subcommands(with_globals);
    // `delta create` makes something that has a format, too; there that of the images is told with -f only.
    if format {
        command = command.mut_arg("format", |arg| arg.long(None));
    }
    // What a patch is made from may be made by another patch.
    if base {
        command = command.mut_arg("base", |arg| arg.long("patch-base"));
    }
    command
}

/// What came of reading a command line.
#[derive(Debug)]
pub enum Parsed {
    /// Something to do.
    Run(Box<Args>),
    /// Help or a version, to be shown.
    Show(clap::Error),
}

/// Reads a command line.
///
/// # Errors
/// Where it is not one, with what would be.
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Parsed, Failure> {
    match command().try_get_matches_from(argv).and_then(|matches| Args::from_matches(&matches)) {
        Ok(args) => {
            args.contradictions()?;
            Ok(Parsed::Run(Box::new(args)))
        }
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            Ok(Parsed::Show(error))
        }
        Err(error) => Err(usage(&error)),
    }
}

/// Whether `--json` is among the arguments: an error in the others is told in that form as well.
#[must_use]
pub fn wants_json(argv: &[OsString]) -> bool {
    argv.iter().skip(1).take_while(|arg| *arg != "--").any(|arg| arg == "--json")
}

impl Args {
    fn from_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut typed = Typed::default();
        let mut level = Some(matches);
        while let Some(matches) = level {
            typed = typed.then(Typed::from_arg_matches(matches)?);
            level = matches.subcommand().map(|(_, below)| below);
        }
        Ok(Self { globals: typed.into(), command: Command::from_arg_matches(matches)? })
    }

    /// What the grammar alone cannot refuse.
    fn contradictions(&self) -> Result<(), Failure> {
        if self.globals.quiet && self.globals.verbose > 0 {
            return Err(Failure::usage("-q and -v contradict each other"));
        }
        let told = [("--vdi", self.globals.vdi.is_some()), ("--base", !self.globals.base.is_empty())];
        if let Some((option, _)) = told.iter().find(|(_, told)| *told && !self.command.only_reads()) {
            return Err(Failure::usage(format!("{option} is for commands that read one virtual disk")));
        }
        match &self.command {
            Command::Check(check) if check.contradicts() => Err(Failure::usage(
                "only --repair changes anything: --check, --journal, --undo and --force go with it",
            )),
            Command::Convert(convert) if convert.contradicts() => Err(Failure::usage(
                "only --in-place changes anything: --check, --journal, --undo and --force go with it",
            )),
            Command::Sparsify(sparsify) if sparsify.contradicts() => Err(Failure::usage(
                "a new image changes nothing: --check, --journal, --undo and --force go without OUT",
            )),
            Command::Delta(Delta::Apply(apply)) if apply.contradicts() => Err(Failure::usage(
                "only --in-place changes anything: --check, --journal, --undo and --force go with it",
            )),
            Command::Create(create) if self.globals.format.is_some() && create.backing.is_none() => {
                Err(Failure::usage("-f tells the format of BASE, and there is none")
                    .with_help("the format of the new image is told with -O"))
            }
            Command::Convert(convert) if self.globals.json && convert.streams() => {
                Err(Failure::usage("--json cannot be used where standard output carries a disk"))
            }
            Command::Delta(delta) if self.globals.json && !self.globals.dry_run && delta.streams() => {
                Err(Failure::usage("--json cannot be used where standard output carries what is made"))
            }
            Command::Fs(fs) if self.globals.json && fs.streams() => {
                Err(Failure::usage("--json cannot be used where standard output carries a file"))
            }
            _ => Ok(()),
        }
    }
}

/// The parser's complaint as one line, its tips and the usage as help.
fn usage(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n");
    let complaint = paragraphs.next().unwrap_or_default();
    let complaint = complaint.strip_prefix("error: ").unwrap_or(complaint);
    let message = complaint.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut failure = Failure::new(Exit::Usage, "usage", message);
    for line in paragraphs.flat_map(str::lines).map(str::trim) {
        if let Some(tip) = line.strip_prefix("tip: ") {
            failure = failure.with_help(tip);
        } else if let Some(usage) = line.strip_prefix("Usage: ") {
            failure = failure.with_help(format!("usage: {usage}"));
        }
    }
    failure
}

#[cfg(test)]
mod tests;
