//! `delta create --base BASE TARGET -o PATCH`.

use super::index::Kept;
use super::keys::{comment, secret};
use super::signature;
use super::sink::written;
use super::{is_stdio, open, refuse_changed, refuse_over};
use crate::args::{DeltaCodec, DeltaCreate, PatchFormat};
use crate::cmd::sparsify::free_of;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::open::with_disks;
use crate::output::Output;
use crate::render::Table;
use crate::sandbox::{Needs, folder_of};
use delta::{Codec, DiskSignature, Indexed, Options, SecretKey, Signing, Stats, create_indexed, create_upon};
use disk::{FileDev, ReadAt};
use ondisk::Len;
use ondisk::size::Human;
use serde_json::json;
use stack::sparsify::Hollow;
use std::io::Write;
use std::path::Path;

/// Runs it.
pub(super) fn run(args: &DeltaCreate, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    refuse_foreign(args)?;
    if args.index.as_ref() == Some(&args.output) {
        return Err(Failure::usage("index and patch cannot be the same file"));
    }
    let key = secret(&args.signer)?;
    let target = session.open_either(&args.target, session.globals.format)?;
    let bases = open(&args.from.bases, Some(&target), session)?;
    let signatures = signature::files(&args.signatures)?;
    let mut read: Vec<&Path> =
        args.from.bases.iter().chain(&args.signatures).map(std::path::PathBuf::as_path).collect();
    read.push(&args.target);
    let index = args.index.as_deref().map(|index| Kept::open(index, &bases, &read, session)).transpose()?;
    let needs = index.as_ref().map_or(Needs::nothing(), |index| index.needs(Needs::nothing()));
    if is_stdio(&args.output) {
        session.confine(&needs, out);
    } else {
        read.extend(args.index.as_deref());
        refuse_over(&args.output, &read, session)?;
        session.confine(&needs.writing(folder_of(&args.output)), out);
    }
    let signatures = signature::read(signatures, session)?;
    let (stats, freed, kept) = written(&args.output, session, |to| {
        let made = target.with_disk(session, out, |disk| {
            let free = args.drop_free.then(|| free_of(disk, session)).transpose().of(&args.target)?;
            for note in free.iter().flat_map(|free| &free.notes) {
                out.warn(note);
            }
            let hollow = free.as_ref().map(|free| Hollow { disk, free: &free.map });
            let disk: &dyn ReadAt = hollow.as_ref().map_or(disk, |hollow| hollow);
            let freed = free
                .as_ref()
                .map(|free| free.told.iter().fold(0, |sum, (_, len)| len.get().saturating_add(sum)));
            let make = |bases: &[&dyn ReadAt]| {
                let (indexed, kept) = match &index {
                    Some(index) => index.index(bases, session, out)?,
                    None => {
                        (session.on_threads(|| Indexed::of(bases, &session.cx()))?.of(&args.target)?, false)
                    }
                };
                let from = From { bases, indexed: &indexed, signatures: &signatures };
                Ok((write(&from, disk, (args, key.as_ref()), to, session)?, kept))
            };
            let (stats, kept) = with_disks(&bases, Vec::new(), session, out, Box::new(make))?;
            Ok((stats, freed.map(Len::new), index.as_ref().map(|_| kept)))
        })?;
        target.refuse_changed()?;
        refuse_changed(&bases)?;
        Ok(made)
    })?;
    tell(args, &stats, (freed, kept), session, out)
}

/// Refuses what a VCDIFF has no place for.
fn refuse_foreign(args: &DeltaCreate) -> Result<(), Failure> {
    let refused = |what: &str| {
        Err(Failure::usage(format!("a VCDIFF has no place for {what}"))
            .with_help("leave out --format vcdiff"))
    };
    match args.format {
        PatchFormat::Native => Ok(()),
        PatchFormat::Vcdiff if args.from.bases.len() > 1 => refused("more than one --base"),
        PatchFormat::Vcdiff if args.signer.sign.is_some() => refused("what --sign adds"),
        PatchFormat::Vcdiff if args.codec != DeltaCodec::Zstd => refused("--codec xz"),
        PatchFormat::Vcdiff if !args.signatures.is_empty() => {
            refused("a base of which only --signature is there")
        }
        PatchFormat::Vcdiff => Ok(()),
    }
}

/// What a patch is made from.
struct From<'a> {
    bases: &'a [&'a dyn ReadAt],
    indexed: &'a Indexed,
    signatures: &'a [DiskSignature<FileDev>],
}

fn write(
    from: &From<'_>,
    target: &dyn ReadAt,
    (args, key): (&DeltaCreate, Option<&SecretKey>),
    to: &mut (dyn Write + Send),
    session: &Session,
) -> Result<Stats, Failure> {
    let codec = match args.codec {
        DeltaCodec::Zstd => Codec::Zstd,
        DeltaCodec::Xz => Codec::Xz,
    };
    let options = Options { codec, level: args.level, drop_free: args.drop_free };
    let mut signing = Signing::new(to);
    let (cx, out) = (session.cx(), &mut signing);
    let made = session.on_threads(|| match (args.format, from.signatures) {
        (PatchFormat::Vcdiff, _) => {
            let base = from.bases.first().copied();
            delta::vcdiff::create_indexed(from.indexed, base, target, args.level, out, &cx)
        }
        (PatchFormat::Native, []) => create_indexed(from.indexed, from.bases, target, options, out, &cx),
        (PatchFormat::Native, signatures) => create_upon(signatures, target, options, out, &cx),
    })?;
    let mut stats = made.of(&args.target)?;
    if let Some(key) = key {
        stats.patch = signing.finish(key, &comment(session)).of(&args.output)?.get();
    }
    Ok(stats)
}

fn tell(
    args: &DeltaCreate,
    stats: &Stats,
    (freed, kept): (Option<Len>, Option<bool>),
    session: &Session,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let written = !session.globals.dry_run;
    if is_stdio(&args.output) && written {
        return Ok(Exit::Done);
    }
    let would = if written { "" } else { "would be " };
    let len = Len::new(stats.patch);
    out.report(format!("{}: {would}a patch of {} ({len} bytes)", show(&args.output), Human(len)));
    if let Some(freed) = freed {
        out.report(format!("{} that no filesystem uses read as zero in the result", Human(freed)));
    }
    if args.stats {
        let mut table = Table::new().left("").right("target").right("patch");
        let mut row = |name: &str, target: u64, patch: Option<u64>| {
            let patch = patch.map(|patch| Human(Len::new(patch)).to_string());
            table.row([name.to_owned(), Human(Len::new(target)).to_string(), patch.unwrap_or_default()]);
        };
        row("as in the first base", stats.unchanged, None);
        row("copied from a base", stats.copied, None);
        row("zeros", stats.zeros, None);
        row("repeated", stats.again, None);
        row("literal", stats.literals, Some(stats.packed));
        row("instructions", 0, Some(stats.patch.saturating_sub(stats.packed)));
        out.table(&table);
    }
    out.document(&json!({
        "changed": written,
        "dry-run": !written,
        "size": stats.patch,
        "freed": freed.map(Len::get),
        "index": kept.map(|kept| if kept { "kept" } else { "made" }),
        "stats": {
            "unchanged": stats.unchanged,
            "copied": stats.copied,
            "zeros": stats.zeros,
            "repeated": stats.again,
            "literal": stats.literals,
            "packed": stats.packed,
        },
    }))?;
    Ok(Exit::Done)
}
