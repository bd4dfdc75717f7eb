//! The commands, one file each.
//!
//! A command opens what it was told to work on, confines itself ([`Session::confine`]), asks the library for a
//! plan or a finding, and says what came of it.

use crate::args::Command;
use crate::cx::Session;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Runs a command.
///
/// # Errors
/// Where it did not do what it was asked.
pub fn run(command: &Command, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let _ = (command, session, out);
    Err(Failure::new(Exit::Io, "internal", "this command is not wired yet"))
}
