//! A run of the program: its options, its bounds, and what its work carries along.

use crate::args::Globals;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::progress::Meter;
use crate::sandbox::{self, Needs};
use disk::{Cancel, Cx, Limits};
use ondisk::Len;
use std::io::{BufRead, IsTerminal, Write};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// One run.
#[derive(Debug)]
pub struct Session {
    /// The options that go for every command.
    pub globals: Globals,
    /// Upper bounds.
    pub limits: Limits,
    /// Told how far things are.
    pub meter: Meter,
    /// Set when the operator wants to stop.
    pub cancel: Arc<Cancel>,
    now: u64,
}

impl Session {
    /// A run with these options.
    #[must_use]
    pub fn new(globals: Globals) -> Self {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            limits: Limits {
                memory: globals.memory,
                threads: globals.threads.map_or_else(cores, usize::from),
                ..Limits::default()
            },
            meter: Meter::new(globals.progress, globals.quiet),
            cancel: Arc::new(Cancel::new()),
            now: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            globals,
        }
    }

    /// What the work carries along.
    #[must_use]
    pub fn cx(&self) -> Cx<'_> {
        Cx { progress: &self.meter, cancel: &self.cancel, limits: self.limits, now: self.now }
    }

    /// The same for a change, which may hold three large structures at once: a table as it was, as planned and as
    /// staged. Together they stay within what is allowed.
    #[must_use]
    pub fn change_cx(&self) -> Cx<'_> {
        let memory = Len::new(self.limits.memory.get() / 3);
        Cx { limits: Limits { memory, ..self.limits }, ..self.cx() }
    }

    /// Gives up everything that the command does not need from here on. Every command calls this when what it was
    /// told to work on is open, and before it looks at a single byte of it.
    pub fn confine(&self, needs: &Needs, out: &Output) {
        for note in sandbox::enter(needs, &self.limits) {
            out.note(&note);
        }
    }

    /// Runs work on as many threads as are allowed.
    ///
    /// # Errors
    /// Where these threads cannot be had.
    pub fn on_threads<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Failure> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.limits.threads).build();
        let pool = pool.map_err(|error| Failure::new(Exit::Io, "io", format!("threads: {error}")))?;
        Ok(pool.install(work))
    }

    /// Asks the operator whether to go on.
    ///
    /// # Errors
    /// Where the answer is no, or nobody is there to give one.
    pub fn confirm(&self, question: &str) -> Result<(), Failure> {
        if self.globals.yes || self.globals.dry_run {
            return Ok(());
        }
        let refused = |why: &str| Failure::new(Exit::Refused, "refused", format!("{question}: {why}"));
        if !std::io::stdin().is_terminal() {
            return Err(refused("nobody is there to answer").with_help("answer beforehand with -y"));
        }
        let _ = write!(std::io::stderr(), "{} [y/N] ", crate::exit::one_line(question));
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        if read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
            Ok(())
        } else {
            Err(refused("the answer is no"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Parsed, parse};

    fn session(line: &str) -> Session {
        match parse(line.split(' ').map(Into::into)) {
            Ok(Parsed::Run(args)) => Session::new(args.globals),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn limits_follow_the_options() {
        let told = session("imgtool info a -j 3 --memory 64M");
        assert_eq!((told.cx().limits.threads, told.cx().limits.memory), (3, Len::mib(64)));
        assert_eq!(told.change_cx().limits.memory, Len::new((64 << 20) / 3));
        let silent = session("imgtool info a");
        assert_eq!(silent.limits.threads, std::thread::available_parallelism().unwrap().get());
        assert!(silent.cx().now > 1_600_000_000);
    }

    #[test]
    fn no_question_where_it_is_answered_or_nothing_is_written() {
        for line in ["imgtool grow a 1G -y", "imgtool grow a 1G -n"] {
            assert_eq!(session(line).confirm("go on?"), Ok(()));
        }
    }
}
