//! How far things are, on standard error.
//!
//! ```text
//! Meter ── running: [Work { name, total, done }]
//!             ▲ advance(): one atomic addition, and a look at the clock
//! ```
//!
//! 1. Bulk work is never slowed: `advance` takes no lock unless it is time to draw, and only one thread draws.
//! 2. A bar appears when a task takes longer than `PATIENCE`, and leaves nothing behind.
//! 3. Names come from formats and are escaped.

use crate::args::ProgressWhen;
use crate::exit::one_line;
use disk::{Progress, Task, Total};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ondisk::Len;
use ondisk::size::Human;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

/// A task that is done sooner draws nothing.
const PATIENCE: Duration = Duration::from_millis(300);
/// Between two lines of JSON.
const JSON_EVERY: Duration = Duration::from_millis(200);
/// Between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Silent,
    Bar,
    Lines,
    Json,
}

/// Follows every piece of work under way.
#[derive(Clone, Debug)]
pub struct Meter {
    style: Style,
    running: Arc<Mutex<Vec<Arc<Work>>>>,
}

/// One piece of work.
#[derive(Debug)]
struct Work {
    name: String,
    total: Total,
    done: AtomicU64,
    begun: Instant,
    /// Milliseconds since `begun` when it was last shown.
    shown: AtomicU64,
    style: Style,
    /// Measures from the beginning, and is drawn once patience has run out.
    bar: ProgressBar,
    drawn: Once,
}

impl Meter {
    /// A meter as the command line wants it.
    #[must_use]
    pub fn new(when: ProgressWhen, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let style = match when {
            ProgressWhen::Json => Style::Json,
            ProgressWhen::Never => Style::Silent,
            ProgressWhen::Auto if quiet || !terminal => Style::Silent,
            ProgressWhen::Always if !terminal => Style::Lines,
            ProgressWhen::Auto | ProgressWhen::Always => Style::Bar,
        };
        Self { style, running: Arc::default() }
    }

    /// One line on how far things are, for `SIGUSR1`.
    #[must_use]
    pub fn line(&self) -> String {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.last().map_or_else(|| "nothing under way".to_owned(), |work| work.to_string())
    }
}

impl Progress for Meter {
    fn task(&self, name: &str, total: Total) -> Box<dyn Task> {
        let work = Arc::new(Work {
            name: one_line(name),
            total,
            done: AtomicU64::new(0),
            begun: Instant::now(),
            shown: AtomicU64::new(0),
            style: self.style,
            bar: new_bar(name, total),
            drawn: Once::new(),
        });
        self.running.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&work));
        Box::new(Running { work, all: Arc::clone(&self.running) })
    }
}

/// A task as its worker sees it.
struct Running {
    work: Arc<Work>,
    all: Arc<Mutex<Vec<Arc<Work>>>>,
}

impl Task for Running {
    fn advance(&self, by: u64) {
        self.work.done.fetch_add(by, Ordering::Relaxed);
        self.work.show();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|work| !Arc::ptr_eq(work, &self.work));
        drop(all);
        self.work.end();
    }
}

impl Work {
    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Shows the state if it is time to.
    fn show(&self) {
        match self.style {
            Style::Silent => {}
            Style::Bar => {
                if self.begun.elapsed() >= PATIENCE {
                    self.drawn.call_once(|| self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
                }
                self.bar.set_position(self.done());
            }
            Style::Lines if self.is_due(LINE_EVERY) => tell(&self.to_string()),
            Style::Json if self.is_due(JSON_EVERY) => tell(&self.json(false)),
            Style::Lines | Style::Json => {}
        }
    }

    fn end(&self) {
        self.bar.finish_and_clear();
        if self.style == Style::Json {
            tell(&self.json(true));
        }
    }

    /// Whether a period has passed since the last time; true for one thread only.
    fn is_due(&self, every: Duration) -> bool {
        let now = millis(self.begun.elapsed());
        let last = self.shown.load(Ordering::Relaxed);
        now.saturating_sub(last) >= millis(every)
            && self.shown.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn json(&self, finished: bool) -> String {
        let unit = if matches!(self.total, Total::Bytes(_)) { "bytes" } else { "count" };
        serde_json::json!({
            "task": self.name, "done": self.done(), "total": size(self.total), "unit": unit, "finished": finished,
        })
        .to_string()
    }
}

impl std::fmt::Display for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let done = self.done();
        write!(f, "{}: ", self.name)?;
        if let Some(size) = size(self.total) {
            let percent = u128::from(done).saturating_mul(100).checked_div(u128::from(size)).unwrap_or(100);
            write!(f, "{percent} %, ")?;
        }
        match self.total {
            Total::Bytes(len) => write!(f, "{} of {}", Human(Len::new(done)), Human(len)),
            Total::Count(n) => write!(f, "{done} of {n}"),
            Total::Unknown => write!(f, "{done}"),
        }
    }
}

/// Bytes or things in all, where somebody knows.
const fn size(total: Total) -> Option<u64> {
    match total {
        Total::Bytes(len) => Some(len.get()),
        Total::Count(n) => Some(n),
        Total::Unknown => None,
    }
}

/// A bar that is not drawn yet.
fn new_bar(name: &str, total: Total) -> ProgressBar {
    let style =
        ProgressStyle::with_template(template(total)).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(size(total), ProgressDrawTarget::hidden())
        .with_style(style)
        .with_message(one_line(name))
}

const fn template(total: Total) -> &'static str {
    match total {
        Total::Bytes(_) => "{msg} {wide_bar} {percent}% {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}",
        Total::Count(_) => "{msg} {wide_bar} {percent}% {pos}/{len} {eta}",
        Total::Unknown => "{msg} {spinner} {pos}",
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// One line on standard error; that nobody listens is no error.
pub(crate) fn tell(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(style: Style) -> Meter {
        Meter { style, running: Arc::default() }
    }

    #[test]
    fn the_line_tells_of_the_innermost_task() {
        let meter = meter(Style::Silent);
        assert_eq!(meter.line(), "nothing under way");
        let outer = meter.task("grow", Total::Unknown);
        outer.advance(3);
        let inner = meter.task("copy\u{1b}", Total::Bytes(Len::gib(2)));
        inner.advance(1 << 30);
        assert_eq!(meter.line(), "copy\\x1b: 50 %, 1 GiB of 2 GiB");
        drop(inner);
        assert_eq!(meter.line(), "grow: 3");
        drop(outer);
        assert_eq!(meter.line(), "nothing under way");
    }

    #[test]
    fn an_empty_task_is_whole() {
        let meter = meter(Style::Silent);
        let _task = meter.task("read", Total::Count(0));
        assert_eq!(meter.line(), "read: 100 %, 0 of 0");
    }

    #[test]
    fn templates_are_well_formed() {
        for total in [Total::Bytes(Len::mib(1)), Total::Count(3), Total::Unknown] {
            assert!(ProgressStyle::with_template(template(total)).is_ok(), "{total:?}");
        }
    }

    #[test]
    fn json_names_the_unit() {
        let meter = meter(Style::Silent);
        let task = meter.task("copy", Total::Bytes(Len::mib(1)));
        task.advance(5);
        let work = Arc::clone(&meter.running.lock().unwrap()[0]);
        let line: serde_json::Value = serde_json::from_str(&work.json(false)).unwrap();
        assert_eq!(
            line,
            serde_json::json!({"task": "copy", "done": 5, "total": 1_048_576, "unit": "bytes", "finished": false})
        );
    }

    #[test]
    fn only_one_thread_shows_within_a_period() {
        let meter = meter(Style::Silent);
        let _task = meter.task("copy", Total::Unknown);
        let work = Arc::clone(&meter.running.lock().unwrap()[0]);
        assert!(!work.is_due(Duration::from_secs(3600)), "a task that has just begun is not shown");
        std::thread::sleep(Duration::from_millis(5));
        assert!(work.is_due(Duration::from_millis(5)));
        assert!(!work.is_due(Duration::from_secs(3600)));
    }
}
