//! Our own journals.

use super::blames_the_image;
use crate::{Case, LIMITS, cx, journal};
use disk::{Cancel, Error, Outcome, Sparse};
use std::ffi::OsStr;
use std::sync::{Arc, Mutex};
use testkit::sim::{JOURNAL, Snapshot, World, image};

/// Looks through a journal and recovers from it. Refused means untouched; else the image is what was seen before, and
/// the journal is gone.
pub fn recover(case: Case<'_>) {
    let before = journal::image_found(case.knob);
    let mut start = Snapshot::of(before.clone());
    start.files.push(case.disk.bytes().clone());
    start.names.insert(JOURNAL.into(), 1);
    let world = Arc::new(Mutex::new(World::boot(&start)));
    let cancel = Cancel::new();
    let open = image(&world);
    let seen = open.pending(&LIMITS).and_then(|pending| {
        let pending = pending.expect("there is a journal");
        let _ = (pending.about(), pending.outcome());
        Sparse::load(&pending.view(&open, &LIMITS)?)
    });
    let result = image(&world).recover(&cx(&cancel));
    let shown = world.lock().expect("nobody panicked").shown();
    let there = shown.names.contains_key(OsStr::new(JOURNAL));
    match result {
        Err(error) => {
            assert!(!matches!(error, Error::Unfinished { .. }), "begun and not finished: {error}");
            blames_the_image(&error);
            assert!(shown.image() == &before && there, "refused, and changed: {error}");
        }
        Ok(outcome) => {
            assert!(outcome != Outcome::Nothing && !there);
            let seen = seen.expect("what can be recovered can be looked at");
            assert!(&seen == shown.image(), "recovery has made something else than was seen");
        }
    }
}
