//! From one state of an image to the next, or not at all.
//!
//! ```text
//! a  reserve the space                     nothing has changed; no space shows here
//! b  write the journal whole, flush it (1), flush its folder (2)
//! c  lengthen; fresh writes and moves; flush the image (3)
//! d  home writes; shorten; flush the image (4)
//! e  read back; unlink the journal, flush its folder (5)
//! ```
//!
//! 1. Before d every byte that the old state refers to is untouched; an error or the wish to stop takes c back at once.
//! 2. From d on there is only one direction: an error leaves the journal, and recovery finishes the change.
//! 3. A flush that failed is not called again for the same bytes: taking back writes other bytes first.
//! 4. Fresh writes go only to places that lie beyond the old end or read as zero, so that taking back needs no copy.
//!    A fresh write to other bytes is carried as a home write: the journal holds its new bytes instead of the old.
//! 5. No copy lies in memory whole: a move to such a place is read and written piece by piece, any other goes from the
//!    image into the journal, and from there home.
//! 6. What is poured is read once, in step c, by several threads: the journal knows where it goes, but not what it is.
//!    That it is whole follows from a home write that is there. Over shadowed bytes it goes whatever they are, and they
//!    do not come back.

mod pour;

use crate::journal::{Head, Journal, RECORD_MAX, Role, Writer, space};
use crate::recover::{redo, take_back, verify};
use crate::{
    Change, Cx, Data, Dev, DevKind, Error, Move, Place, Pour, ReadAt, Receipt, Result, Total, Write,
};
use ondisk::{Len, Offset, Span, SpanSet};
use std::io;

/// Where the bytes of a step come from.
#[derive(Clone, Copy)]
enum Source<'c> {
    Bytes(&'c [u8]),
    Zero,
    Copy(Offset),
    Beside(Offset),
}

/// When the bytes of a step are written, and what becomes of those that were there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Before the commit point: there were zeros.
    Fresh,
    /// Before the commit point: nobody cares for what was there.
    Shadowed,
    /// Behind the commit point, from the journal.
    Home,
}

/// One range that changes, at most as long as a record.
pub(crate) struct Step<'c> {
    span: Span,
    how: How,
    source: Source<'c>,
}

/// What a commit needs besides the change.
pub(crate) struct Job<'j> {
    pub dev: &'j mut dyn Dev,
    pub journal: &'j mut Place,
    pub undo: Option<&'j mut Place>,
    pub beside: Option<&'j dyn ReadAt>,
    pub about: &'j str,
}

/// Commits `change`, which consists of `steps`.
pub(crate) fn commit(mut job: Job<'_>, change: &Change, steps: &[Step<'_>], cx: &Cx<'_>) -> Result<Receipt> {
    if change.is_empty() {
        return Ok(Receipt::default());
    }
    let mut receipt = Receipt::of(steps);
    let journal = reserve(job.dev, change, steps)
        .and_then(|()| side_files(&mut job, change, steps, cx, &mut receipt))
        .inspect_err(|_| give_back(job.dev, change))?;
    if let Err(source) = prepare(&mut job, change, steps, cx, &mut receipt) {
        return Err(back_out(&mut job, &journal, change, source));
    }
    finish(&mut job, &journal, cx, &mut receipt).map_err(|e| Error::Unfinished { source: Box::new(e) })?;
    Ok(receipt)
}

impl Receipt {
    fn of(steps: &[Step<'_>]) -> Self {
        let of = |fresh| total(steps.iter().filter(|step| (step.how != How::Home) == fresh));
        Self { fresh: of(true), home: of(false), ..Self::default() }
    }
}

fn total<'s, 'c: 's>(steps: impl Iterator<Item = &'s Step<'c>>) -> Len {
    Len::new(steps.map(|step| step.span.len().get()).fold(0, u64::saturating_add))
}

/// How long the journal of these steps can get.
pub(crate) fn journal_len(steps: &[Step<'_>], old_len: Len) -> Len {
    let record = |step: &Step<'_>| {
        let carries = step.how == How::Home && !matches!(step.source, Source::Zero);
        let bytes = if carries { step.span.len() } else { Len::ZERO };
        space::record(step.span, bytes, step.span.start() < old_len.end())
    };
    space::journal(steps.iter().map(record))
}

/// The change in steps, ascending and disjoint.
pub(crate) fn steps<'c>(dev: &dyn Dev, change: &'c Change) -> Result<Vec<Step<'c>>> {
    if change.old_len != dev.len() {
        return Err(Error::BadChange {
            what: "is made for another length",
            span: Span::whole(change.old_len),
        });
    }
    if dev.kind() == DevKind::Block && change.new_len != change.old_len {
        return Err(Error::Unsupported { what: "a block device cannot change its length" });
    }
    check_moves(change)?;
    let mut steps = Vec::new();
    for write in &change.fresh {
        fresh_steps(dev, change, write, &mut steps)?;
    }
    for one in &change.moves {
        move_steps(dev, change, *one, &mut steps)?;
    }
    for one in &change.carried {
        carried_steps(change, *one, &mut steps)?;
    }
    for pour in &change.pours {
        pour::steps(dev, change, *pour, &mut steps)?;
    }
    for write in &change.home {
        steps.extend(pieces(write).map(|(span, source)| Step { span, how: How::Home, source }));
    }
    steps.sort_by_key(|step| step.span.start());
    let mut end = Offset::ZERO;
    for step in &steps {
        let room = if step.how == How::Fresh { change.new_len } else { change.old_len.min(change.new_len) };
        if step.span.start() < end {
            return Err(Error::BadChange { what: "writes twice", span: step.span });
        }
        if !Span::whole(room).contains(step.span) {
            return Err(Error::BadChange { what: "writes outside the image", span: step.span });
        }
        end = step.span.end();
    }
    Ok(steps)
}

/// A move reads the old state: nothing that is written before the home writes may lie there.
fn check_moves(change: &Change) -> Result<()> {
    let written = change.fresh.iter().map(Write::span).chain(change.pours.iter().map(Pour::target));
    let fresh: SpanSet = written.chain(change.moves.iter().map(Move::target)).collect();
    match change.moves.iter().find(|one| fresh.overlaps(one.from)) {
        Some(one) => Err(Error::BadChange { what: "moves bytes that it overwrites", span: one.from }),
        None => Ok(()),
    }
}

/// A write in pieces of the length of a record.
fn pieces(write: &Write) -> impl Iterator<Item = (Span, Source<'_>)> {
    let whole = write.span();
    whole.chunks(RECORD_MAX).map(move |span| (span, part_of(&write.data, whole, span)))
}

fn part_of(data: &Data, whole: Span, part: Span) -> Source<'_> {
    match data {
        Data::Zero(_) => Source::Zero,
        Data::Bytes(bytes) => {
            let from = part.start().since(whole.start()).unwrap_or_default().to_usize();
            let bytes = bytes.get(from..).and_then(|rest| rest.get(..part.len().to_usize()));
            Source::Bytes(bytes.unwrap_or_default())
        }
    }
}

/// The parts of `span` in front of and behind `len`, the end of the old image.
fn split(span: Span, len: Len) -> impl Iterator<Item = (Span, bool)> {
    let cut = len.end().clamp(span.start(), span.end());
    let inside = Span::between(span.start(), cut).map(|part| (part, true));
    let beyond = Span::between(cut, span.end()).map(|part| (part, false));
    inside.into_iter().chain(beyond).filter(|(part, _)| !part.is_empty())
}

fn fresh_steps<'c>(
    dev: &dyn Dev,
    change: &Change,
    write: &'c Write,
    steps: &mut Vec<Step<'c>>,
) -> Result<()> {
    let whole = write.span();
    for (half, inside) in split(whole, change.old_len) {
        for span in half.chunks(RECORD_MAX) {
            let source = part_of(&write.data, whole, span);
            let was_zero = !inside || reads_zero(dev, span)?;
            if was_zero && matches!(source, Source::Zero) {
                continue;
            }
            steps.push(Step { span, how: How::fresh(was_zero), source });
        }
    }
    Ok(())
}

fn move_steps(dev: &dyn Dev, change: &Change, one: Move, steps: &mut Vec<Step<'_>>) -> Result<()> {
    let bad = || Error::BadChange { what: "moves bytes outside the image", span: one.from };
    if !Span::whole(change.old_len).contains(one.from) {
        return Err(bad());
    }
    let target = Span::new(one.to, one.from.len()).ok_or_else(bad)?;
    for (half, inside) in split(target, change.old_len) {
        for span in half.chunks(RECORD_MAX) {
            let ahead = span.start().since(one.to).ok_or_else(bad)?;
            let source = Source::Copy(one.from.start().checked_add(ahead).ok_or_else(bad)?);
            steps.push(Step { span, how: How::fresh(!inside || reads_zero(dev, span)?), source });
        }
    }
    Ok(())
}

fn carried_steps(change: &Change, one: Move, steps: &mut Vec<Step<'_>>) -> Result<()> {
    let bad = || Error::BadChange { what: "carries bytes from outside the image", span: one.from };
    if !Span::whole(change.old_len).contains(one.from) {
        return Err(bad());
    }
    for from in one.from.chunks(RECORD_MAX) {
        let ahead = from.start().since(one.from.start()).ok_or_else(bad)?;
        let span = one.to.checked_add(ahead).and_then(|to| Span::new(to, from.len())).ok_or_else(bad)?;
        steps.push(Step { span, how: How::Home, source: Source::Copy(from.start()) });
    }
    Ok(())
}

fn reads_zero(dev: &dyn Dev, span: Span) -> Result<bool> {
    for data in dev.extents(span)?.data() {
        for part in data.chunks(RECORD_MAX) {
            if read(dev, part)?.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Bytes of the image as it is; beyond its end there are zeros. `span` is at most as long as a record.
fn read(dev: &dyn Dev, span: Span) -> Result<Vec<u8>> {
    let mut buf = vec![0; span.len().to_usize()];
    if let Some(there) = span.intersect(Span::whole(dev.len())) {
        let buf = buf.get_mut(..there.len().to_usize()).unwrap_or_default();
        dev.read_at(there.start(), buf)?;
    }
    Ok(buf)
}

impl How {
    /// A place where there were zeros can be written before the commit point.
    const fn fresh(was_zero: bool) -> Self {
        if was_zero { Self::Fresh } else { Self::Home }
    }
}

impl Step<'_> {
    /// Written before the commit point, and never loaded before that.
    const fn is_poured(&self) -> bool {
        matches!((self.how, self.source), (How::Fresh | How::Shadowed, Source::Beside(_)))
    }

    /// The new bytes; `dev` must still be in its old state where they are moved.
    fn load(&self, dev: &dyn Dev, beside: Option<&dyn ReadAt>) -> Result<Vec<u8>> {
        match self.source {
            Source::Beside(from) => pour::load(beside, from, self.span),
            Source::Bytes(bytes) => Ok(bytes.to_vec()),
            Source::Zero => Ok(vec![0; self.span.len().to_usize()]),
            Source::Copy(from) => read(dev, Span::new(from, self.span.len()).unwrap_or_default()),
        }
    }
}

/// Reserves the holes that will be written, and the new end.
fn reserve(dev: &mut dyn Dev, change: &Change, steps: &[Step<'_>]) -> Result<()> {
    let mut holes = SpanSet::new();
    for step in steps.iter().filter(|step| !matches!(step.source, Source::Zero)) {
        for (part, inside) in split(step.span, change.old_len) {
            if inside {
                let extents = dev.extents(part)?;
                holes.extend(
                    extents.iter().filter(|extent| extent.kind.reads_zero()).map(|extent| extent.span),
                );
            } else {
                holes.insert(part);
            }
        }
    }
    holes.iter().try_for_each(|span| dev.reserve(span))
}

/// Gives back what was reserved beyond the end. The error that led here is the one to report.
fn give_back(dev: &mut dyn Dev, change: &Change) {
    if dev.kind() == DevKind::File && change.new_len > change.old_len {
        drop(dev.set_len(change.old_len));
    }
}

/// Step b: journal and undo file, durable. Leaves neither behind where it fails.
fn side_files(
    job: &mut Job<'_>,
    change: &Change,
    steps: &[Step<'_>],
    cx: &Cx<'_>,
    receipt: &mut Receipt,
) -> Result<Journal> {
    let head = |old_len, new_len| Head {
        old_len,
        new_len,
        identity: job.dev.identity(),
        created: cx.now,
        about: job.about.as_bytes().to_vec(),
    };
    let (there, back) = (head(change.old_len, change.new_len), head(change.new_len, change.old_len));
    let file = job.journal.create().map_err(|e| taken(e, job.journal, Role::Journal))?;
    let undo_file = match &mut job.undo {
        Some(place) => match place.create() {
            Ok(file) => Some(file),
            Err(e) => {
                let error = taken(e, place, Role::Undo);
                drop(job.journal.remove());
                return Err(error);
            }
        },
        None => None,
    };
    let written = (|| {
        let mut journal = Writer::new(file, Role::Journal, there, &cx.limits)?;
        let undo = undo_file.map(|file| Writer::new(file, Role::Undo, back, &cx.limits));
        let mut undo = undo.transpose()?;
        write_records(job, change, steps, (&mut journal, undo.as_mut()), cx)?;
        if let (Some(writer), Some(place)) = (undo, &mut job.undo) {
            writer.finish()?.dev.flush()?;
            place.store.flush()?;
            receipt.flushes = receipt.flushes.saturating_add(2);
        }
        let mut journal = journal.finish()?;
        journal.dev.flush()?;
        job.journal.store.flush()?;
        receipt.flushes = receipt.flushes.saturating_add(2);
        receipt.journal = journal.dev.len();
        Ok(journal)
    })();
    written.inspect_err(|_| remove_side_files(job))
}

fn remove_side_files(job: &mut Job<'_>) {
    drop(job.journal.remove());
    if let Some(place) = &mut job.undo {
        drop(place.remove());
    }
}

/// An undo file that is there already is found before anything is reserved.
pub(crate) fn refuse_taken(place: &Place) -> Result<()> {
    if place.open()?.is_some() { Err(undo_exists(place)) } else { Ok(()) }
}

fn undo_exists(place: &Place) -> Error {
    Error::Refused {
        what: format!("{:?} exists already", place.path),
        help: Some("name a new file with --undo".to_owned()),
    }
}

fn taken(error: Error, place: &Place, role: Role) -> Error {
    match (&error, role) {
        (Error::File { source, .. }, _) if source.kind() != io::ErrorKind::AlreadyExists => error,
        (Error::File { .. }, Role::Journal) => Error::Pending { journal: place.path.clone() },
        (Error::File { .. }, Role::Undo) => undo_exists(place),
        _ => error,
    }
}

fn write_records(
    job: &Job<'_>,
    change: &Change,
    steps: &[Step<'_>],
    (journal, mut undo): (&mut Writer, Option<&mut Writer>),
    cx: &Cx<'_>,
) -> Result<()> {
    let dev: &dyn Dev = &*job.dev;
    let task = cx.progress.task("journal", Total::Bytes(total(steps.iter())));
    for step in steps {
        cx.cancel.check()?;
        task.advance(step.span.len().get());
        let inside = step.span.start() < change.old_len.end();
        if step.is_poured() {
            journal.poured(step.span, step.how == How::Shadowed)?;
            if undo.is_none() || !inside {
                continue;
            }
        }
        let new = step.load(dev, job.beside)?;
        let old = if inside { read(dev, step.span)? } else { Vec::new() };
        let copied = step.how == How::Home && matches!(step.source, Source::Copy(_) | Source::Beside(_));
        if copied && new == old {
            continue;
        }
        match step.how {
            _ if step.is_poured() => {}
            How::Home => journal.home(step.span, &new, &old)?,
            How::Fresh | How::Shadowed => journal.fresh(step.span, &new)?,
        }
        if let Some(undo) = undo.as_deref_mut().filter(|_| inside && step.span.end() <= change.new_len.end())
        {
            undo.home(step.span, &old, &new)?;
        }
    }
    if let (Some(undo), Some(tail)) = (undo, Span::between(change.new_len.end(), change.old_len.end())) {
        for data in dev.extents(tail)?.data() {
            for part in data.chunks(RECORD_MAX) {
                cx.cancel.check()?;
                undo.tail(part, &read(dev, part)?)?;
            }
        }
    }
    Ok(())
}

/// Step c.
fn prepare(
    job: &mut Job<'_>,
    change: &Change,
    steps: &[Step<'_>],
    cx: &Cx<'_>,
    receipt: &mut Receipt,
) -> Result<()> {
    if change.new_len > change.old_len {
        job.dev.set_len(change.new_len)?;
    }
    let early = || steps.iter().filter(|step| step.how != How::Home);
    let task = cx.progress.task("write to unused places", Total::Bytes(total(early())));
    for step in early().filter(|step| !step.is_poured()) {
        cx.cancel.check()?;
        let bytes = step.load(job.dev, None)?;
        job.dev.write_at(step.span.start(), &bytes)?;
        task.advance(step.span.len().get());
    }
    pour::run(job, early().filter(|step| step.is_poured()), change, &*task, cx)?;
    if early().next().is_some() {
        job.dev.flush()?;
        receipt.flushes = receipt.flushes.saturating_add(1);
    }
    cx.cancel.check()
}

/// Takes step c back; where that fails too, the journal stays.
fn back_out(job: &mut Job<'_>, journal: &Journal, change: &Change, source: Error) -> Error {
    match take_back(job.dev, journal).and_then(|()| job.journal.remove()) {
        Ok(()) => {
            give_back(job.dev, change);
            if let Some(place) = &mut job.undo {
                drop(place.remove());
            }
            source
        }
        Err(_) => Error::Unfinished { source: Box::new(source) },
    }
}

/// Steps d and e.
fn finish(job: &mut Job<'_>, journal: &Journal, cx: &Cx<'_>, receipt: &mut Receipt) -> Result<()> {
    redo(job.dev, journal, cx)?;
    verify(job.dev, journal, cx)?;
    job.journal.remove()?;
    receipt.flushes = receipt.flushes.saturating_add(2);
    Ok(())
}
