//! The commands, one file each.
//!
//! A command opens what it was told to work on, confines itself ([`Session::confine`]), asks the library for a
//! plan or a finding, and says what came of it.

mod chain;
mod check;
mod compare;
mod convert;
mod create;
mod delta;
mod digest;
mod fs;
mod grow;
mod info;
mod make;
mod map;
mod measure;
mod recover;
mod sparsify;
mod sr;

use crate::args::{self, Command};
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of};
use crate::output::Output;
use disk::{Change, CommitOptions, Foreseen, Image, ReadAt, Receipt};
use ondisk::Len;
use std::path::Path;

/// Runs a command.
///
/// # Errors
/// Where it did not do what it was asked.
pub fn run(command: &Command, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    match command {
        Command::Grow(args) => grow::run(args, session, out),
        Command::Recover(args) => recover::run(args, session, out),
        Command::Info(args) => info::run(args, session, out),
        Command::Map(args) => map::run(args, session, out),
        Command::Check(args) => check::run(args, session, out),
        Command::Compare(args) => compare::run(args, session, out),
        Command::Digest(args) => digest::run(args, session, out),
        Command::Create(args) => create::run(args, session, out),
        Command::Sparsify(args) => sparsify::run(args, session, out),
        Command::Convert(args) => convert::run(args, session, out),
        Command::Measure(args) => measure::run(args, session, out),
        Command::Chain(args) => chain::run(args, session, out),
        Command::Delta(args) => delta::run(args, session, out),
        Command::Sr(args) => sr::run(args, session, out),
        Command::Fs(args) => fs::run(args, session, out),
    }
}

/// What came of a staged change.
enum Committed {
    /// There was nothing to do.
    Nothing,
    /// Nothing was written; it would need this.
    Foreseen(Foreseen),
    /// It is done.
    Done(Receipt),
}

impl Committed {
    fn receipt(&self) -> Option<&Receipt> {
        match self {
            Self::Done(receipt) => Some(receipt),
            _ => None,
        }
    }

    /// How long the journal was, or would at most be.
    fn journal(&self) -> Option<Len> {
        match self {
            Self::Nothing => None,
            Self::Foreseen(foreseen) => Some(foreseen.journal),
            Self::Done(receipt) => Some(receipt.journal),
        }
    }
}

/// Commits a staged change, unless there is nothing to do or nothing shall be written.
fn commit(
    image: &mut Image,
    name: &Path,
    change: &Change,
    how: &args::Change,
    session: &Session,
) -> Result<Committed, Failure> {
    pour(image, name, change, None, how, session)
}

/// As [`commit`], with the disk that the change pours from.
fn pour(
    image: &mut Image,
    name: &Path,
    change: &Change,
    beside: Option<&dyn ReadAt>,
    how: &args::Change,
    session: &Session,
) -> Result<Committed, Failure> {
    let options = CommitOptions { undo: how.undo.clone(), about: about() };
    if change.is_empty() {
        return Ok(Committed::Nothing);
    }
    if session.globals.dry_run {
        return image.foresee(change, &options).of(name).map(Committed::Foreseen);
    }
    session.cancel.check().of(name)?;
    let cx = session.change_cx();
    let done = match beside {
        Some(beside) => image.pour(change, beside, &options, &cx),
        None => image.commit(change, &options, &cx),
    };
    done.of(name).map(Committed::Done)
}

/// The command line, for people who find a journal.
fn about() -> String {
    let words: Vec<String> = std::env::args().collect();
    words.join(" ")
}
