//! `delta verify --base BASE PATCH`.

use super::keys::{require, trusted};
use super::{keep, known, open};
use crate::args::DeltaVerify;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::known::surveyed;
use crate::open::with_disks;
use crate::output::Output;
use crate::patch::AnyPatch;
use crate::sandbox::Needs;
use delta::vcdiff::Decoded;
use delta::{Error, Patched};
use disk::{FileDev, ReadAt};
use serde_json::json;

/// Runs it.
pub(super) fn run(args: &DeltaVerify, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let trusted = trusted(&args.trust)?;
    let bases = open(&args.from.bases, None, session)?;
    let file = FileDev::new(super::plain(&args.patch)?).of(&args.patch)?;
    let known = known(&bases, args.no_cache, session);
    session.confine(&known.iter().fold(Needs::nothing(), |needs, known| known.needs(needs)), out);
    require(trusted.as_ref(), &file, &args.patch)?;
    let patch = AnyPatch::open(file, &args.patch, session)?;
    patch.refuse_more(&args.patch, bases.len())?;
    patch.warn_unchecked(out);
    if let AnyPatch::Native(patch) = &patch {
        patch.check(&session.cx()).of(&args.patch)?;
    }
    let found = with_disks(
        &bases,
        Vec::new(),
        session,
        out,
        Box::new(|disks: &[&dyn ReadAt]| {
            let cx = session.cx();
            let found = match patch {
                AnyPatch::Vcdiff(patch) => session
                    .on_threads(|| Decoded::new(patch, disks.first().copied(), cx.limits)?.verify(&cx))?,
                AnyPatch::Native(patch) => {
                    let given = session.on_threads(|| surveyed(disks, &known, &cx))?.of(&args.patch)?;
                    keep(&bases, &known, &given, session);
                    session.on_threads(|| Patched::verified(patch, given, &cx))?.map(drop)
                }
            };
            match found {
                Ok(()) => Ok(None),
                Err(error @ (Error::WrongBase { .. } | Error::Mismatch { .. })) => {
                    Ok(Some(error.to_string()))
                }
                Err(error) => Err(error).of(&args.patch),
            }
        }),
    )?;
    let name = show(&args.patch);
    match &found {
        None => out.report(format!("{name}: whole, and made from these bases")),
        Some(why) => out.report(format!("{name}: {why}")),
    }
    out.document(&json!({ "matches": found.is_none() }))?;
    Ok(if found.is_none() { Exit::Done } else { Exit::No })
}
