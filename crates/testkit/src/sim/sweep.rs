//! One commit, all its crash states, each recovered.

use super::{
    Fault, FaultKind, JOURNAL, Op, SimDev, Snapshot, UNDO, World, crash_states, cx, image, place, world_of,
};
use disk::{Cancel, Change, Dev, Error, Outcome, Over, Pour, ReadAt, Receipt, Sparse};
use ondisk::{Len, Offset, Span, SpanSet};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};

/// How thoroughly to sweep.
#[derive(Clone, Debug)]
pub struct Knobs {
    /// Whether to try subsets and tears at boundaries, not only prefixes.
    pub subsets: bool,
    /// At most so many pairs of lost operations in an epoch.
    pub pairs: usize,
    /// So many random subsets of each epoch.
    pub random: usize,
    /// So many states of each epoch in which all writes are torn at once.
    pub mixes: usize,
    /// Every how many distinct states recovery itself is interrupted; 0 is never.
    pub nested_every: usize,
    /// Whether every call fails once.
    pub faults: bool,
    /// Whether an undo file is kept.
    pub undo: bool,
    /// The flush of the commit that does nothing.
    pub lazy_flush: Option<usize>,
    /// For the random ones.
    pub seed: u64,
}

impl Knobs {
    /// For a test that runs all the time.
    #[must_use]
    pub const fn quick() -> Self {
        Self {
            subsets: true,
            pairs: 200,
            random: 100,
            mixes: 300,
            nested_every: 8,
            faults: true,
            undo: false,
            lazy_flush: None,
            seed: 1,
        }
    }

    /// `times` as many random states as [`Self::quick`] tries, and the rest as thoroughly as it gets.
    #[must_use]
    pub const fn thorough(times: usize) -> Self {
        let quick = Self::quick();
        let (random, mixes) = (quick.random * times, quick.mixes * times);
        Self { pairs: 2000, random, mixes, nested_every: 4, ..quick }
    }

    /// All prefixes and a few random states.
    fn nested(&self) -> Self {
        Self { subsets: false, random: 50, mixes: 10, nested_every: 0, ..self.clone() }
    }
}

/// What a sweep has seen.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Crash states.
    pub states: usize,
    /// Of these, those tried.
    pub distinct: usize,
    /// Crash states inside recovery that were tried.
    pub nested: usize,
    /// Runs with a failing call.
    pub faults: usize,
    /// Recoveries that ended in the state before.
    pub before: usize,
    /// Recoveries that ended in the state after.
    pub after: usize,
    /// What went wrong, the first ones.
    pub failures: Vec<String>,
    /// How many went wrong.
    pub failed: usize,
    /// What the undisturbed commit said.
    pub receipt: Receipt,
}

impl Report {
    /// Everything that was tried.
    #[must_use]
    pub const fn tried(&self) -> usize {
        self.distinct + self.nested + self.faults
    }

    /// Stops the test where a state failed.
    ///
    /// # Panics
    /// Then, with the first failures.
    pub fn assert_clean(&self) {
        assert!(self.failed == 0, "{} states fail, among them:\n{}", self.failed, self.failures.join("\n"));
    }

    fn fail(&mut self, what: String) {
        self.failed += 1;
        if self.failures.len() < 5 {
            self.failures.push(what);
        }
    }

    /// Adds another one.
    pub fn add(&mut self, other: Self) {
        self.states += other.states;
        self.distinct += other.distinct;
        self.nested += other.nested;
        self.faults += other.faults;
        self.before += other.before;
        self.after += other.after;
        self.failed += other.failed;
        self.failures.extend(other.failures);
    }
}

/// What is committed.
#[derive(Clone, Copy)]
struct Work<'r> {
    change: &'r Change,
    /// What it pours from.
    beside: Option<&'r dyn ReadAt>,
    knobs: &'r Knobs,
}

struct Run<'r> {
    before: Sparse,
    after: Sparse,
    work: Work<'r>,
    /// Bytes that do not matter where recovery ends in the state before, and who looks at the rest then.
    shadowed: SpanSet,
    check: &'r mut dyn FnMut(&dyn ReadAt),
    report: Report,
    seen: HashSet<[u8; 32]>,
}

/// Commits `change` to `base`, recovers every state that a crash may leave, and compares. `check` sees the recovered
/// image for each of the two outcomes, once.
///
/// # Panics
/// Where the commit fails without any disturbance.
pub fn sweep(base: &Sparse, change: &Change, knobs: &Knobs, check: &mut dyn FnMut(&dyn ReadAt)) -> Report {
    run(base, Work { change, beside: None, knobs }, check)
}

/// As [`sweep`], with the disk that the change pours from. What it pours over shadowed bytes may be there before as
/// well, in part: `check` sees the image after every recovery that ends so.
///
/// # Panics
/// As [`sweep`].
pub fn sweep_poured(
    base: &Sparse,
    change: &Change,
    beside: &dyn ReadAt,
    knobs: &Knobs,
    check: &mut dyn FnMut(&dyn ReadAt),
) -> Report {
    run(base, Work { change, beside: Some(beside), knobs }, check)
}

fn run(base: &Sparse, work: Work<'_>, check: &mut dyn FnMut(&dyn ReadAt)) -> Report {
    let (change, knobs) = (work.change, work.knobs);
    let world = world_of(base);
    world.lock().unwrap().lazy_flush = knobs.lazy_flush;
    let receipt = commit(&world, work).unwrap();
    let start = Snapshot::of(base.clone());
    let (log, calls, after) = {
        let world = world.lock().unwrap();
        (world.log.clone(), world.calls.clone(), world.shown().image().clone())
    };
    check(base);
    check(&after);
    let mut run = Run {
        before: base.clone(),
        after,
        work,
        shadowed: change.pours.iter().filter(|pour| pour.over == Over::Shadowed).map(Pour::target).collect(),
        check,
        report: Report { receipt, ..Report::default() },
        seen: HashSet::new(),
    };
    run.crashes(&start, &log);
    if knobs.faults {
        for (call, name) in calls.iter().enumerate() {
            run.faults(call, name);
            run.killed(call, name);
        }
    }
    run.report
}

fn commit(world: &super::Shared, work: Work<'_>) -> disk::Result<Receipt> {
    let cancel = Cancel::new();
    let mut undo = work.knobs.undo.then(|| place(world, UNDO));
    image(world).commit_with(work.change, work.beside, undo.as_mut(), "simulated", &cx(&cancel))
}

impl Run<'_> {
    fn crashes(&mut self, start: &Snapshot, log: &[Op]) {
        let mut states = 0;
        let knobs = self.work.knobs;
        crash_states(start, log, knobs, &mut |state| {
            states += 1;
            if !self.seen.insert(state.key(start)) {
                return;
            }
            self.report.distinct += 1;
            let nested = knobs.nested_every > 0 && self.report.distinct.is_multiple_of(knobs.nested_every);
            let result = self.recover(&state, nested);
            if let Err(what) = result {
                self.report.fail(format!("state {states}: {what}"));
            }
        });
        self.report.states += states;
    }

    /// Recovers a state and compares.
    fn recover(&mut self, state: &Snapshot, nested: bool) -> Result<(), String> {
        let world = Arc::new(Mutex::new(World::boot(state)));
        let seen = self.view(&world)?;
        self.finish(&world)?;
        let shown = world.lock().unwrap().shown();
        if seen != *shown.image() {
            return Err("the view through the journal is not what recovery made".to_owned());
        }
        if world.lock().unwrap().medium().image() != shown.image() {
            return Err("recovery has not flushed".to_owned());
        }
        if nested {
            let log = world.lock().unwrap().log.clone();
            self.nested(state, &log)?;
        }
        Ok(())
    }

    fn view(&self, world: &super::Shared) -> Result<Sparse, String> {
        let image = image(world);
        let limits = disk::Limits::default();
        let text = |e: Error| format!("view: {e}");
        match image.pending(&limits).map_err(text)? {
            None => Sparse::load(&image).map_err(text),
            Some(pending) => Sparse::load(&pending.view(&image, &limits).map_err(text)?).map_err(text),
        }
    }

    /// Recovers, checks the result, recovers again.
    fn finish(&mut self, world: &super::Shared) -> Result<(), String> {
        let cancel = Cancel::new();
        let outcome = image(world).recover(&cx(&cancel)).map_err(|e| format!("recover: {e}"))?;
        let shown = world.lock().unwrap().shown();
        if self.is_before(shown.image()) {
            self.report.before += 1;
        } else if *shown.image() == self.after {
            self.report.after += 1;
        } else {
            let pages = shown.image().differing(&self.after).len();
            return Err(format!("{outcome:?}: neither before nor after ({pages} pages from after)"));
        }
        if shown.names.contains_key(std::ffi::OsStr::new(JOURNAL)) {
            return Err("the journal is still there".to_owned());
        }
        match image(world).recover(&cx(&cancel)) {
            Ok(Outcome::Nothing) if world.lock().unwrap().shown().image() == shown.image() => Ok(()),
            again => Err(format!("the second recovery says {again:?}")),
        }
    }

    /// Whether the image is as before, but for bytes that do not matter.
    fn is_before(&mut self, image: &Sparse) -> bool {
        if self.shadowed.is_empty() || *image == self.before || *image == self.after {
            return *image == self.before;
        }
        let [mut now, mut before] = [image, &self.before].map(Sparse::clone);
        for span in self.shadowed.iter() {
            now.clear(span);
            before.clear(span);
        }
        (self.check)(image);
        now == before
    }

    fn nested(&mut self, state: &Snapshot, log: &[Op]) -> Result<(), String> {
        let mut states = Vec::new();
        let mut seen = HashSet::new();
        crash_states(state, log, &self.work.knobs.nested(), &mut |nested| {
            if seen.insert(nested.key(state)) {
                states.push(nested);
            }
        });
        for nested in states {
            self.report.nested += 1;
            let world = Arc::new(Mutex::new(World::boot(&nested)));
            self.finish(&world).map_err(|e| format!("inside recovery: {e}"))?;
        }
        Ok(())
    }

    fn faults(&mut self, call: usize, name: &str) {
        for &kind in FaultKind::of(name) {
            let world = world_of(&self.before);
            world.lock().unwrap().fault = Some(Fault { call, kind, lasting: false });
            let result = commit(&world, self.work);
            self.report.faults += 1;
            if let Err(what) = self.after_fault(&world, result) {
                self.report.fail(format!("call {call} ({name}) fails ({kind:?}): {what}"));
            }
        }
    }

    /// The process ends in that call, and recovery runs on the same machine: what was not flushed is still to be seen,
    /// a failed flush may have lost it, and the power may fail then.
    fn killed(&mut self, call: usize, name: &str) {
        let drops = Some(FaultKind::FlushDrops).filter(|_| name == "flush");
        for kind in [FaultKind::Io].into_iter().chain(drops) {
            let world = world_of(&self.before);
            world.lock().unwrap().fault = Some(Fault { call, kind, lasting: true });
            drop(commit(&world, self.work));
            world.lock().unwrap().fault = None;
            self.report.faults += 1;
            if let Err(what) = self.after_kill(&world) {
                self.report.fail(format!("killed in call {call} ({name}, {kind:?}): {what}"));
            }
        }
    }

    fn after_kill(&mut self, world: &super::Shared) -> Result<(), String> {
        self.finish(world)?;
        let (medium, log) = {
            let world = world.lock().unwrap();
            (world.medium(), world.log.clone())
        };
        self.finish(&Arc::new(Mutex::new(World::boot(&medium))))
            .map_err(|e| format!("after a reboot: {e}"))?;
        self.nested(&Snapshot::of(self.before.clone()), &log)
    }

    /// What must hold after a failing call: at once, after a reboot, and after a recovery on the running machine.
    fn after_fault(&mut self, world: &super::Shared, result: disk::Result<Receipt>) -> Result<(), String> {
        let (shown, medium) = {
            let world = world.lock().unwrap();
            (world.shown(), world.medium())
        };
        let journal = shown.names.contains_key(std::ffi::OsStr::new(JOURNAL));
        match &result {
            Ok(_) if *medium.image() != self.after => return Err("success without the new bytes".to_owned()),
            Err(Error::Unfinished { .. }) | Ok(_) => {}
            Err(e) if !self.is_before(shown.image()) => {
                return Err(format!("{e}: the image is not as before"));
            }
            Err(e) if journal => return Err(format!("{e}: the journal is still there")),
            Err(_) => {}
        }
        self.finish(&Arc::new(Mutex::new(World::boot(&medium))))
            .map_err(|e| format!("after a reboot: {e}"))?;
        self.finish(world).map_err(|e| format!("on the running machine: {e}"))?;
        let medium = world.lock().unwrap().medium();
        self.finish(&Arc::new(Mutex::new(World::boot(&medium))))
            .map_err(|e| format!("rebooted after that: {e}"))
    }
}

/// A guest writes to the image after the commit has returned, and flushes; then the power fails. Recovery must leave
/// the guest's bytes alone.
///
/// # Errors
/// What went wrong.
pub fn after_return(base: &Sparse, change: &Change, lazy_flush: Option<usize>) -> Result<(), String> {
    let world = world_of(base);
    world.lock().unwrap().lazy_flush = lazy_flush;
    let knobs = Knobs { lazy_flush, ..Knobs::quick() };
    commit(&world, Work { change, beside: None, knobs: &knobs }).map_err(|e| e.to_string())?;
    let mut guest = SimDev::new(&world, 0);
    let at = change.home.first().map_or(Offset::ZERO, |write| write.at);
    let start = Span::new(at, Len::new(512)).unwrap().start();
    guest.write_at(start, &[0x5a; 512]).and_then(|()| guest.flush()).map_err(|e| e.to_string())?;
    let (log, want) = {
        let world = world.lock().unwrap();
        (world.log.clone(), world.shown().image().clone())
    };
    let mut result = Ok(());
    let begin = Snapshot::of(base.clone());
    let ends_with_flush = |state: &Snapshot| *state.image() == want;
    crash_states(&begin, &log, &Knobs::quick(), &mut |state| {
        if result.is_err() || !ends_with_flush(&state) {
            return;
        }
        let cancel = Cancel::new();
        let world = Arc::new(Mutex::new(World::boot(&state)));
        match image(&world).recover(&cx(&cancel)) {
            Err(e) => result = Err(format!("recover: {e}")),
            Ok(_) if *world.lock().unwrap().shown().image() != want => {
                result = Err("the guest's bytes are gone".to_owned());
            }
            Ok(_) => {}
        }
    });
    result
}
