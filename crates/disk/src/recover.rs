//! After an interruption: to the old state or to the new one, whichever is whole.
//!
//! 0. The journal itself is made durable before anything follows from it.
//! 1. Each home sector is old, new, torn (zeros), or foreign. One foreign sector, and nothing is written.
//! 2. One new or torn sector (or a file already shortened) proves that the fresh writes are durable: forward.
//! 3. Else, where anything was poured, back: nobody could tell whether that is whole. Else the fresh ranges decide, read from the medium and not from the cache, because a failed flush leaves pages
//!    that look written: all digests right, forward; one wrong, back.
//! 4. Back means zeroing fresh ranges inside the old length and cutting the file; what lies there must be zeros or ours.
//!    What was poured over shadowed bytes stays: nobody cares for it.
//! 5. All writes are absolute, so that recovery may itself be interrupted and run again.

use crate::journal::{Found, Journal, Record, Role, What, sectors, sum};
use crate::{Cx, Dev, Error, Limits, Outcome, Place, ReadAt, Result, Total};
use ondisk::{Len, Span, SpanSet};

/// Where recovery goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Forward,
    Back,
}

/// Finishes or takes back what the journal in `place` holds.
pub(crate) fn recover(dev: &mut dyn Dev, place: &mut Place, cx: &Cx<'_>) -> Result<Outcome> {
    settle(place)?;
    let journal = match find(place, &cx.limits)? {
        None => return Ok(Outcome::Nothing),
        Some(Found::Void) => {
            place.remove()?;
            return Ok(Outcome::RolledBack);
        }
        Some(Found::Whole(journal)) => journal,
    };
    let way = match home_state(dev, &journal)? {
        State::Begun => way(dev, &journal, State::Begun)?,
        State::Untouched => {
            dev.flush()?;
            for record in journal.fresh() {
                dev.forget(record.span)?;
            }
            way(dev, &journal, State::Untouched)?
        }
    };
    let unfinished = |e| Error::Unfinished { source: Box::new(e) };
    match way {
        Way::Forward => {
            redo(dev, &journal, cx).and_then(|()| verify(dev, &journal, cx)).map_err(unfinished)?;
            place.remove().map_err(unfinished)?;
            Ok(Outcome::RolledForward)
        }
        Way::Back => {
            take_back(dev, &journal).map_err(unfinished)?;
            place.remove().map_err(unfinished)?;
            Ok(Outcome::RolledBack)
        }
    }
}

/// Makes what lies in `place` durable, and forgets what was only in the cache: whoever wrote it may have been killed
/// before its flush, or by a failing one.
fn settle(place: &mut Place) -> Result<()> {
    let Some(mut file) = place.open()? else { return Ok(()) };
    file.flush()?;
    place.store.flush()?;
    file.forget(Span::whole(file.len()))
}

/// What lies in `place`.
pub(crate) fn find(place: &Place, limits: &Limits) -> Result<Option<Found>> {
    place.open()?.map(|file| Journal::open(file, Role::Journal, limits)).transpose()
}

/// Whether a home write has been seen on the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Untouched,
    Begun,
}

pub(crate) fn home_state(dev: &dyn ReadAt, journal: &Journal) -> Result<State> {
    let (old_len, new_len) = (journal.head.old_len, journal.head.new_len);
    if dev.len() != old_len && dev.len() != new_len {
        return Err(Error::Foreign {
            what: "the image has neither its old nor its new length",
            spans: vec![],
        });
    }
    let mut foreign = SpanSet::new();
    let mut begun = new_len < old_len && dev.len() == new_len;
    for record in journal.home() {
        let now = load(dev, record.span)?;
        let new = journal.bytes(record)?;
        let sums = journal.sums(record)?;
        let (now, new) = (sectors(record.span, &now), sectors(record.span, &new));
        for (((part, is), (_, will)), old) in now.zip(new).zip(sums) {
            match (sum(is) == old, is == will) {
                (true, _) => {}
                (false, true) => begun = true,
                (false, false) if is.iter().all(|&byte| byte == 0) => begun = true,
                (false, false) => foreign.insert(part),
            }
        }
    }
    if !foreign.is_empty() {
        let what = "the image was written to since the interruption";
        return Err(Error::Foreign { what, spans: foreign.iter().collect() });
    }
    Ok(if begun { State::Begun } else { State::Untouched })
}

/// Decides; writes nothing.
pub(crate) fn way(dev: &dyn ReadAt, journal: &Journal, state: State) -> Result<Way> {
    let mut missing = Vec::new();
    for record in journal.fresh() {
        if !holds(dev, record)? {
            missing.push(record.span);
        }
    }
    match state {
        State::Begun if missing.is_empty() => Ok(Way::Forward),
        State::Untouched if missing.is_empty() && !journal.pours() => Ok(Way::Forward),
        State::Begun => {
            let what = "the image has lost new bytes since the interruption";
            Err(Error::Foreign { what, spans: missing })
        }
        State::Untouched => {
            check_fresh(dev, journal)?;
            Ok(Way::Back)
        }
    }
}

fn holds(dev: &dyn ReadAt, record: &Record) -> Result<bool> {
    if !Span::whole(dev.len()).contains(record.span) {
        return Ok(false);
    }
    Ok(*blake3::hash(&load(dev, record.span)?).as_bytes() == record.digest)
}

/// What is fresh and would be zeroed must be zeros or ours, sector by sector.
fn check_fresh(dev: &dyn ReadAt, journal: &Journal) -> Result<()> {
    let mut foreign = SpanSet::new();
    for record in inside(journal).filter(|record| record.what == What::Fresh) {
        let now = load(dev, record.span)?;
        for ((part, is), new) in sectors(record.span, &now).zip(journal.sums(record)?) {
            if is.iter().any(|&byte| byte != 0) && sum(is) != new {
                foreign.insert(part);
            }
        }
    }
    if foreign.is_empty() {
        return Ok(());
    }
    Err(Error::Foreign {
        what: "unused places of the image were written to since the interruption",
        spans: foreign.iter().collect(),
    })
}

/// What was zero before inside the old length.
fn inside(journal: &Journal) -> impl Iterator<Item = &Record> {
    journal.added().filter(|record| record.span.start() < journal.head.old_len.end())
}

/// Step d, from the journal: home writes, the length, a flush.
pub(crate) fn redo(dev: &mut dyn Dev, journal: &Journal, cx: &Cx<'_>) -> Result<()> {
    let task = cx.progress.task("write", Total::Bytes(journal.home_len()));
    // From the end: backups before what they back up.
    for record in journal.home().rev() {
        if record.what == What::HomeZero {
            dev.zero(record.span)?;
        } else {
            dev.write_at(record.span.start(), &journal.bytes(record)?)?;
        }
        task.advance(record.span.len().get());
    }
    if dev.len() != journal.head.new_len {
        dev.set_len(journal.head.new_len)?;
    }
    dev.flush()
}

/// Home ranges that are nearer to each other than this are read back together.
const NEAR: Len = Len::kib(64);
/// So much is read back at once, unless one record is longer.
const WINDOW: Len = Len::mib(2);

/// Reads the home ranges back from the medium. A medium is slow at many small reads and fast at a few long ones.
pub(crate) fn verify(dev: &mut dyn Dev, journal: &Journal, cx: &Cx<'_>) -> Result<()> {
    let task = cx.progress.task("read back", Total::Bytes(journal.home_len()));
    let mut windows: Vec<(Span, Vec<&Record>)> = Vec::new();
    for record in journal.home() {
        match windows.last_mut() {
            Some((window, records)) if let Some(longer) = joined(*window, record.span) => {
                *window = longer;
                records.push(record);
            }
            _ => windows.push((record.span, vec![record])),
        }
    }
    for (window, _) in &windows {
        dev.forget(*window)?;
    }
    for (window, records) in windows {
        let now = load(dev, window)?;
        for record in records {
            let at = record.span.start().since(window.start()).unwrap_or_default().to_usize();
            let is = now.get(at..).and_then(|rest| rest.get(..record.span.len().to_usize()));
            if is != Some(&journal.bytes(record)?) {
                let source = std::io::Error::other("the bytes read back are not those written");
                return Err(Error::Io { op: "verify", span: record.span, source });
            }
            task.advance(record.span.len().get());
        }
    }
    Ok(())
}

/// Both as one range, where they are near and it does not get too long.
fn joined(window: Span, next: Span) -> Option<Span> {
    let gap = next.start().since(window.end())?;
    let both = Span::between(window.start(), next.end())?;
    (gap <= NEAR && both.len() <= WINDOW).then_some(both)
}

/// Undoes step c: the image is the old one again, durably.
pub(crate) fn take_back(dev: &mut dyn Dev, journal: &Journal) -> Result<()> {
    for record in inside(journal) {
        dev.zero(record.span)?;
    }
    if dev.len() != journal.head.old_len {
        dev.set_len(journal.head.old_len)?;
    }
    dev.flush()
}

/// Bytes of a record's range.
pub(crate) fn load(dev: &dyn ReadAt, span: Span) -> Result<Vec<u8>> {
    let mut buf = vec![0; span.len().to_usize()];
    dev.read_at(span.start(), &mut buf)?;
    Ok(buf)
}
