//! `chain list IMAGE`: the image and the parents that it stands on, nearest first.

use super::Who;
use crate::args::ChainList;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::open::{Found, age, timestamp};
use crate::output::Output;
use crate::render::Table;
use crate::sandbox::Needs;
use container::{Container, Facts, Format, ParentRef, link};
use disk::{Identity, Image};
use ondisk::Len;
use ondisk::size::Human;
use serde_json::{Value, json};
use std::path::PathBuf;

/// One image of the chain.
struct Member {
    path: PathBuf,
    format: Format,
    who: Who,
    stored: Option<Len>,
    hidden: bool,
    wanted: Option<ParentRef>,
    spellings: Vec<String>,
    /// What makes it doubtful that it is as it was when the image above it was made.
    doubt: Option<&'static str>,
    /// Whether it is the parent that the image above it names, by the identities that formats have.
    matches: Option<bool>,
}

/// Runs it.
///
/// # Errors
/// Where an image cannot be opened, or a parent is not to be found; what was found is shown before.
pub(super) fn run(args: &ChainList, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let mut members = Vec::new();
    let found = walk(args, session, &mut members);
    session.confine(&Needs::nothing(), out);
    if !session.globals.json {
        show_all(&members, out);
    }
    found?;
    let whole = members.iter().all(|one| one.matches != Some(false));
    for (one, doubt) in members.iter().filter_map(|one| Some((one, one.doubt?))) {
        out.report(format!("note: {} {doubt}: {}", show(&one.path), age::WHY));
    }
    if !whole {
        out.warn("an image does not stand on the parent that it was made over");
    }
    out.document(&json!({ "whole": whole, "chain": members.iter().map(document).collect::<Vec<_>>() }))?;
    Ok(if whole { Exit::Done } else { Exit::No })
}

fn walk(args: &ChainList, session: &Session, members: &mut Vec<Member>) -> Result<(), Failure> {
    let mut seen: Vec<Identity> = Vec::new();
    let mut next = Some((Found::Told(args.image.clone()), session.globals.format));
    let mut above: Option<Image> = None;
    while let Some((found, told)) = next {
        let path = found.path();
        if members.len() > session.limits.chain_depth {
            let why = format!("has more than {} parents", session.limits.chain_depth);
            return Err(super::refused(&args.image, why));
        }
        let (opened, wanted) = session.open_found(&found, &path, told, None)?;
        if seen.contains(&opened.image.identity()) {
            let why = format!("{}: its chain of parents comes back to {}", show(&args.image), show(&path));
            return Err(Failure::new(Exit::Corrupt, "corrupt", why));
        }
        seen.push(opened.image.identity());
        let disk = Container::open(&opened.image, opened.format, &session.limits).of(&path)?;
        let who = Who::of(&disk, &opened.image, session);
        let named = members.last().and_then(|above| above.wanted.as_ref());
        let doubt = above.as_ref().zip(named);
        let doubt =
            doubt.and_then(|(above, named)| age::doubt(above, named, &opened.image, timestamp(&disk)));
        let named = named.and_then(|wanted| wanted.id);
        members.push(Member {
            path: path.clone(),
            format: opened.format,
            who,
            stored: opened.image.allocated().of(&path)?,
            hidden: matches!(disk.facts(), Facts::Vhd(facts) if facts.hidden),
            spellings: link::spellings(&disk),
            wanted: wanted.clone(),
            doubt,
            matches: named.map(|id| Some(id) == who.id),
        });
        drop(disk);
        above = Some(opened.image);
        next = match wanted {
            None => None,
            Some(wanted) => {
                let nth = members.len().saturating_sub(1);
                Some((session.parent_of(&path, &wanted, nth)?, wanted.format))
            }
        };
    }
    Ok(())
}

fn show_all(members: &[Member], out: &mut Output) {
    let mut table =
        Table::new().left("IMAGE").left("FORMAT").right("SIZE").right("STORED").left("NAMES ITS PARENT BY");
    for one in members {
        let mut by = one.spellings.join(", ");
        for (is, mark) in [(one.hidden, "hidden"), (one.matches == Some(false), "another identity")] {
            if is {
                by = if by.is_empty() { format!("({mark})") } else { format!("{by} ({mark})") };
            }
        }
        let stored = one.stored.map(|len| Human(len).to_string()).unwrap_or_default();
        table.row([
            show(&one.path),
            one.format.name().to_owned(),
            Human(one.who.len).to_string(),
            stored,
            by,
        ]);
    }
    out.table(&table);
}

fn document(one: &Member) -> Value {
    json!({
        "filename": show(&one.path),
        "format": one.format.name(),
        "virtual-size": one.who.len.get(),
        "actual-size": one.stored.map(Len::get),
        "uuid": one.who.id.map(|id| id.to_string()),
        "hidden": one.hidden,
        "parent-uuid": one.wanted.as_ref().and_then(|wanted| wanted.id).map(|id| id.to_string()),
        "parent-names": one.wanted.as_ref().map(|wanted| wanted.names.clone()),
        "parent-named-by": one.spellings,
        "matches": one.matches,
        "doubt": one.doubt,
    })
}
