//! What the operator's signals do.
//!
//! | signal | first | second |
//! | --- | --- | --- |
//! | `SIGINT` | stop at the next safe place | stop at once |
//! | `SIGTERM`, `SIGHUP` | stop at the next safe place | the same |
//! | `SIGUSR1` | one line of progress | the same |
//! | `SIGIO` | nothing: somebody waits to open the image that is being written, and the wait is short | the same |
//! | `SIGXFSZ` | nothing: the write that went beyond `ulimit -f` fails | the same |
//!
//! 1. Stopping at once is safe as well: an image is committed through its journal.
//! 2. A signal that was ignored when the program began stays ignored (`nohup`, background jobs).

use crate::exit::{Exit, Failure};
use crate::progress::{Meter, tell};
use disk::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGIO, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::Arc;

/// Listens for signals until the program ends.
///
/// # Errors
/// Where the system refuses.
pub fn listen(cancel: Arc<Cancel>, meter: Meter, json: bool) -> io::Result<()> {
    let ignored =
        std::fs::read_to_string("/proc/self/status").map(|status| ignored(&status)).unwrap_or_default();
    let wanted = [SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGIO, SIGXFSZ];
    let wanted = wanted.into_iter().filter(|&signal| !is_in(ignored, signal));
    let mut signals = Signals::new(wanted)?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut interrupted = false;
        for signal in &mut signals {
            match signal {
                SIGIO | SIGXFSZ => {}
                SIGUSR1 => tell(&format!("imgtool: {}", meter.line())),
                SIGINT if interrupted => at_once(json),
                _ => {
                    interrupted |= signal == SIGINT;
                    cancel.cancel();
                }
            }
        }
    })?;
    Ok(())
}

fn at_once(json: bool) {
    Failure::new(Exit::Interrupted, "interrupted", "interrupted at once")
        .with_help("a change that had begun is finished or taken back by `imgtool recover IMAGE`")
        .report(json);
    std::process::exit(Exit::Interrupted.code().into());
}

/// The signals that a process ignores, as a set of bits, from its status file; empty where that does not tell.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

/// Whether a signal is in a set; signal 1 is bit 0.
fn is_in(set: u64, signal: i32) -> bool {
    let bit = u32::try_from(signal).ok().and_then(|signal| signal.checked_sub(1));
    bit.and_then(|bit| set.checked_shr(bit)).is_some_and(|rest| rest & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Stdio};
    use std::time::{Duration, Instant};

    #[test]
    fn sets_of_signals() {
        assert!(is_in(0b1, SIGHUP) && is_in(0b10, SIGINT) && !is_in(0b1, SIGINT) && !is_in(!0, 65));
    }

    /// The tests below run this one as a process of its own, for signals go to the whole process.
    #[test]
    fn listens_when_told() {
        if std::env::var_os("IMGTOOL_TEST_SIGNALS").is_none() {
            return;
        }
        let cancel = Arc::new(Cancel::new());
        let meter = Meter::new(crate::args::ProgressWhen::Never, false);
        listen(Arc::clone(&cancel), meter, false).unwrap();
        println!("\nready");
        let begun = Instant::now();
        while !cancel.is_cancelled() && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(5));
        }
        println!("\ncancelled {}", cancel.is_cancelled());
        std::thread::sleep(Duration::from_secs(20));
    }

    fn start(wrapper: &str) -> (Child, BufReader<std::process::ChildStdout>) {
        let this = std::env::current_exe().unwrap();
        let mut child = testkit::tool::interruptible("sh")
            .args(["-c", wrapper, "sh"])
            .arg(this)
            .args(["--exact", "signals::tests::listens_when_told", "--nocapture", "--test-threads=1"])
            .env("IMGTOOL_TEST_SIGNALS", "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        until(&mut lines, "ready");
        (child, lines)
    }

    fn until(lines: &mut impl BufRead, want: &str) {
        let mut line = String::new();
        while line.trim() != want {
            line.clear();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the process ended before it said {want:?}");
        }
    }

    fn send(child: &Child, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    #[test]
    fn the_first_interrupt_cancels_and_the_second_ends() {
        let (mut child, mut lines) = start("exec \"$@\"");
        send(&child, rustix::process::Signal::INT);
        until(&mut lines, "cancelled true");
        send(&child, rustix::process::Signal::INT);
        assert_eq!(child.wait().unwrap().code(), Some(130));
    }

    #[test]
    fn usr1_prints_a_line_and_an_ignored_hangup_stays_ignored() {
        let (mut child, mut lines) = start("trap '' HUP; exec \"$@\"");
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        assert!(is_in(ignored(&status), SIGHUP) && !is_in(ignored(&status), SIGTERM));
        send(&child, rustix::process::Signal::USR1);
        until(&mut stderr, "imgtool: nothing under way");
        send(&child, rustix::process::Signal::TERM);
        until(&mut lines, "cancelled true");
        send(&child, rustix::process::Signal::KILL);
        assert_eq!(child.wait().unwrap().code(), None);
    }
}
