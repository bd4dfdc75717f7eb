//! Talking to people and scripts.
//!
//! ```text
//! args ─► cx::Session ─► cmd::* ─► output ─► exit
//!                          │
//!                          └─ sandbox, progress, signals
//! ```
//!
//! The only crate that knows a terminal, a clock, the environment and exit codes.

pub mod args;
pub mod cmd;
pub mod cx;
pub mod exit;
pub mod glob;
pub mod json;
pub mod known;
pub mod open;
pub mod output;
pub mod patch;
pub mod progress;
pub mod render;
pub mod sandbox;
pub mod signals;

use args::{Args, Parsed};
use exit::{Exit, Failure};
use std::ffi::OsString;

/// Runs the program.
#[must_use]
pub fn run(argv: &[OsString]) -> Exit {
    let json = args::wants_json(argv);
    exit::hook_panics(json);
    let result = match args::parse(argv.iter().cloned()) {
        Ok(Parsed::Run(args)) => execute(*args),
        Ok(Parsed::Show(text)) => text.print().map(|()| Exit::Done).map_err(|error| Failure::stdout(&error)),
        Err(failure) => Err(failure),
    };
    result.unwrap_or_else(|failure| {
        failure.report(json);
        failure.exit()
    })
}

fn execute(args: Args) -> Result<Exit, Failure> {
    let Args { globals, command } = args;
    let mut out = output::Output::new(&globals);
    let session = cx::Session::new(globals);
    let heard = signals::listen(session.cancel.clone(), session.meter.clone(), session.globals.json);
    if let Err(error) = heard {
        out.note(format!("signals are not listened to: {error}"));
    }
    let result = cmd::run(&command, &session, &mut out);
    let written = out.finish();
    let exit = result?;
    written?;
    Ok(exit)
}
