//! What a command says: results on standard output, everything else on standard error.
//!
//! 1. With `--json`, standard output carries one document and nothing else.
//! 2. Text for people passes through here and leaves without control characters (threat model, G7).
//! 3. An error of writing is kept until the end: it must not stop a change halfway. That nobody reads is no error.

use crate::args::{ColorWhen, Globals};
use crate::exit::{Exit, Failure, one_line};
use crate::json;
use crate::progress::tell;
use crate::render::{Table, Tree};
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, BufWriter, Write};

/// Where a command's words go.
pub struct Output {
    json: bool,
    quiet: bool,
    verbose: u8,
    color: bool,
    stdout: Box<dyn Write>,
    error: Option<io::Error>,
}

impl Output {
    /// The program's own standard output.
    #[must_use]
    pub fn new(globals: &Globals) -> Self {
        let color = match globals.color {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never,
        };
        let stdout = Box::new(BufWriter::with_capacity(1 << 16, io::stdout()));
        Self {
            json: globals.json,
            quiet: globals.quiet,
            verbose: globals.verbose,
            color,
            stdout,
            error: None,
        }
    }

    /// Whether a document is wanted, and no text.
    #[must_use]
    pub const fn is_json(&self) -> bool {
        self.json
    }

    /// How many times `-v` was given.
    #[must_use]
    pub const fn verbosity(&self) -> u8 {
        self.verbose
    }

    /// A line of the result, for people.
    pub fn line(&mut self, text: impl Display) {
        if !self.json {
            let line = one_line(&text.to_string());
            self.put(&format!("{line}\n"));
        }
    }

    /// A line that says what was done; `-q` does without.
    pub fn report(&mut self, text: impl Display) {
        if !self.quiet {
            self.line(text);
        }
    }

    /// A table, for people.
    pub fn table(&mut self, table: &Table) {
        if !self.json {
            self.put(&table.text(self.color));
        }
    }

    /// A tree, for people.
    pub fn tree(&mut self, tree: &Tree) {
        if !self.json {
            self.put(&tree.text(self.color));
        }
    }

    /// The result as an object, for scripts.
    ///
    /// # Errors
    /// Where it is none, which is our own mistake.
    pub fn document(&mut self, body: &impl Serialize) -> Result<(), Failure> {
        self.put_json(json::document(body))
    }

    /// The result as a list, for scripts that know it as one.
    ///
    /// # Errors
    /// As [`Output::document`].
    pub fn list(&mut self, items: &[impl Serialize]) -> Result<(), Failure> {
        self.put_json(json::list(items))
    }

    fn put_json(&mut self, text: serde_json::Result<String>) -> Result<(), Failure> {
        let text =
            text.map_err(|error| Failure::new(Exit::Io, "internal", format!("the document: {error}")))?;
        if self.json {
            self.put(&format!("{text}\n"));
        }
        Ok(())
    }

    /// Standard output has carried content: what is said of it goes to standard error.
    pub fn beside_content(&mut self) {
        self.color = false;
        self.stdout = Box::new(io::stderr());
    }

    /// Standard output for the content of files; its errors become a [`Failure`] with [`Failure::stdout`].
    pub fn bytes(&mut self) -> &mut dyn Write {
        &mut self.stdout
    }

    /// Something that the operator should know, although it stops nothing.
    pub fn warn(&self, text: impl Display) {
        tell(&format!("imgtool: warning: {}", one_line(&text.to_string())));
    }

    /// Something that only the curious want to know: `-v`.
    pub fn note(&self, text: impl Display) {
        if self.verbose > 0 {
            tell(&format!("imgtool: {}", one_line(&text.to_string())));
        }
    }

    fn put(&mut self, text: &str) {
        if self.error.is_none() {
            self.error = self.stdout.write_all(text.as_bytes()).err();
        }
    }

    /// Writes out what is still held back.
    ///
    /// # Errors
    /// Where something could not be written, now or earlier.
    pub fn finish(&mut self) -> Result<(), Failure> {
        let error = self.error.take().or_else(|| self.stdout.flush().err());
        match error.filter(|error| error.kind() != io::ErrorKind::BrokenPipe) {
            Some(error) => Err(Failure::stdout(&error)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>, Option<io::ErrorKind>);

    impl Write for Sink {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.1.map_or(Ok(()), |kind| Err(io::Error::from(kind)))?;
            self.0.lock().unwrap().extend_from_slice(buf);
            Ok(buf.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn output(json: bool, quiet: bool, sink: &Sink) -> Output {
        Output { json, quiet, verbose: 0, color: false, stdout: Box::new(sink.clone()), error: None }
    }

    #[test]
    fn text_or_document_never_both() {
        for (json, quiet, want) in [
            (false, false, "a\\x1b\nb\n"),
            (false, true, "a\\x1b\n"),
            (true, false, "{\n  \"schema\": 1,\n  \"c\": 2\n}\n"),
        ] {
            let sink = Sink::default();
            let mut out = output(json, quiet, &sink);
            out.line("a\u{1b}");
            out.report("b");
            out.document(&serde_json::json!({"c": 2})).unwrap();
            out.finish().unwrap();
            assert_eq!(String::from_utf8_lossy(&sink.0.lock().unwrap()), want);
        }
    }

    #[test]
    fn a_full_disk_is_told_at_the_end_and_a_closed_pipe_not_at_all() {
        let mut out = output(false, false, &Sink(Arc::default(), Some(io::ErrorKind::StorageFull)));
        out.line("a");
        out.line("b");
        assert_eq!(out.finish().unwrap_err().exit(), Exit::Io);
        let mut out = output(false, false, &Sink(Arc::default(), Some(io::ErrorKind::BrokenPipe)));
        out.line("a");
        assert_eq!(out.finish(), Ok(()));
    }
}
