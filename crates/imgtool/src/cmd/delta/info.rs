//! `delta info PATCH`.

use super::keys::{require, trusted};
use crate::args::DeltaInfo;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of};
use crate::output::Output;
use crate::sandbox::Needs;
use delta::vcdiff::{Secondary, Vcdiff, is_vcdiff};
use delta::{BaseFacts, Patch};
use disk::FileDev;
use ondisk::size::Human;
use ondisk::text::Printable;
use serde_json::{Value, json};

/// Runs it.
pub(super) fn run(args: &DeltaInfo, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let trusted = trusted(&args.trust)?;
    let file = FileDev::new(super::plain(&args.patch)?).of(&args.patch)?;
    session.confine(&Needs::nothing(), out);
    require(trusted.as_ref(), &file, &args.patch)?;
    if is_vcdiff(&file).of(&args.patch)? {
        return vcdiff(&Vcdiff::open(file, &session.limits).of(&args.patch)?, out);
    }
    let patch = Patch::open(file, &session.limits).of(&args.patch)?;
    let facts = patch.facts();
    let line = |what: &str, disk: &BaseFacts| {
        format!("{what:<7} {} ({} bytes), BLAKE3 {}", Human(disk.len), disk.len, disk.digest.to_hex())
    };
    let codecs = patch.codecs().of(&args.patch)?;
    let codec = codecs.iter().map(|codec| codec.name()).collect::<Vec<_>>().join(" and ");
    let codec = if codec.is_empty() { "stored" } else { &codec };
    out.line(format!("patch   {} ({} bytes), native, {codec}", Human(facts.len), facts.len));
    for base in &facts.bases {
        out.line(line("base", base));
    }
    out.line(line("target", &facts.target));
    out.line(format!("literal {} in {} changed windows of 4 MiB", Human(facts.literals), facts.windows));
    if facts.drop_free {
        out.line("blocks that no filesystem used read as zero");
    }
    if let Some(signature) = &facts.signature {
        let proven = if trusted.is_some() { "signed by" } else { "says that it is signed by" };
        out.line(format!("{proven} key {}: {}", signature.key, signature.comment));
    }
    let disk =
        |facts: &BaseFacts| json!({ "size": facts.len.get(), "digest": facts.digest.to_hex().as_str() });
    out.document(&json!({
        "format": "native",
        "size": facts.len.get(),
        "bases": facts.bases.iter().map(disk).collect::<Vec<Value>>(),
        "target": disk(&facts.target),
        "codec": codec,
        "drop-free": facts.drop_free,
        "signed": facts.signature.is_some(),
        "key": facts.signature.as_ref().map(|signature| &signature.key),
        "trusted-comment": facts.signature.as_ref().filter(|_| trusted.is_some()).map(|signature| &signature.comment),
        "literal": facts.literals.get(),
    }))?;
    Ok(Exit::Done)
}

/// What is known of a patch of xdelta3: no digests, and of its base only where copies from it end.
fn vcdiff(patch: &Vcdiff<FileDev>, out: &mut Output) -> Result<Exit, Failure> {
    let facts = patch.facts();
    let codec = facts.secondary.map_or("none", Secondary::name);
    let text = Printable(&facts.text).to_string();
    out.line(format!("patch   {} ({} bytes), VCDIFF, {codec}", Human(facts.len), facts.len));
    if let Some(base) = facts.base {
        out.line(format!("base    at least {} ({base} bytes)", Human(base)));
    }
    out.line(format!("target  {} ({} bytes)", Human(facts.target), facts.target));
    out.line(match facts.unchecked {
        0 => format!("{} windows, each with a checksum", facts.windows),
        some => format!("{} windows, {some} of them without a checksum", facts.windows),
    });
    if !text.is_empty() {
        out.line(format!("text    {text}"));
    }
    let base = facts.base.map(|len| json!({ "size": null, "at-least": len.get(), "digest": null }));
    out.document(&json!({
        "format": "vcdiff",
        "size": facts.len.get(),
        "bases": base.into_iter().collect::<Vec<Value>>(),
        "target": { "size": facts.target.get(), "digest": null },
        "codec": codec,
        "drop-free": null,
        "signed": false,
        "windows": facts.windows,
        "unchecked-windows": facts.unchecked,
        "text": text,
    }))?;
    Ok(Exit::Done)
}
