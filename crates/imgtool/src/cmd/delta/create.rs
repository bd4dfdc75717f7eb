//! `delta create --base BASE TARGET -o PATCH`.

use super::index::Kept;
use super::keys::{comment, secret};
use super::signature;
use super::sink::written;
use super::stats::{self, Told, tell};
use super::{is_stdio, open, refuse_changed, refuse_over};
use crate::args::{DeltaCodec, DeltaCreate, PatchFormat};
use crate::cmd::sparsify::free_of;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of};
use crate::open::with_disks;
use crate::output::Output;
use crate::sandbox::{Needs, folder_of};
use delta::{
    Codec, DiskSignature, Indexed, Literals, Options, Pairs, SecretKey, Signing, Stats, create_indexed,
    create_upon,
};
use disk::{FileDev, ReadAt};
use ondisk::Len;
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
    let whose = args.stats && args.format == PatchFormat::Native;
    let told = written(&args.output, session, |to| {
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
            let mut literals = if whose { Literals::within(&session.limits) } else { Literals::nowhere() };
            let make = |bases: &[&dyn ReadAt]| {
                let pairs = match args.format {
                    PatchFormat::Native => stack::pairs::find(bases, disk, &session.cx()).of(&args.target)?,
                    PatchFormat::Vcdiff => Pairs::default(),
                };
                let (indexed, kept) = match &index {
                    Some(index) => index.index(bases, session, out)?,
                    None => {
                        (session.on_threads(|| Indexed::of(bases, &session.cx()))?.of(&args.target)?, false)
                    }
                };
                let from = From { bases, indexed: &indexed.paired(pairs), signatures: &signatures };
                Ok((write(&from, disk, (args, key.as_ref()), (&mut literals, to), session)?, kept))
            };
            let (stats, kept) = with_disks(&bases, Vec::new(), session, out, Box::new(make))?;
            let owners = whose.then(|| stats::owners(disk, &literals, &args.target, session)).transpose()?;
            let kept = index.as_ref().map(|_| kept);
            Ok(Told { stats, freed: freed.map(Len::new), kept, owners })
        })?;
        target.refuse_changed()?;
        refuse_changed(&bases)?;
        Ok(made)
    })?;
    tell(args, &told, session, out)
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
    (literals, to): (&mut Literals, &mut (dyn Write + Send)),
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
        (PatchFormat::Native, []) => {
            create_indexed(from.indexed, from.bases, target, options, literals, out, &cx)
        }
        (PatchFormat::Native, signatures) => create_upon(signatures, target, options, literals, out, &cx),
    })?;
    let mut stats = made.of(&args.target)?;
    if let Some(key) = key {
        stats.patch = signing.finish(key, &comment(session)).of(&args.output)?.get();
    }
    Ok(stats)
}
