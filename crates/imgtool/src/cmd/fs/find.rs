//! `fs find IMAGE [PATH]`: the files below a folder, by name and kind.

use super::ls::{ENTRY_COST, joined};
use super::show::facts;
use super::walk::{Place, Step};
use super::{Damage, with_guest};
use crate::args::{EntryType, Find};
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of};
use crate::output::Output;
use crate::sandbox::Needs;
use extfs::Kind;
use ondisk::Len;
use ondisk::num::to_u64;
use ondisk::text::Printable;
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;

/// Runs it.
///
/// # Errors
/// Where there is no such folder, or the filesystem is damaged below it.
pub(super) fn run(args: &Find, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    with_guest(&args.image, &args.at, &Needs::nothing(), session, |guest| {
        let start = guest.resolve(&args.path)?;
        let above = args.path.as_os_str().as_bytes();
        let mut damage = Damage::default();
        let mut found: Vec<Value> = Vec::new();
        let budget = session.limits.budget("the list of files");
        guest.walk(&start, &mut damage, out, |step, out| {
            let (Step::Enter(place) | Step::File(place)) = step else { return Ok(()) };
            if !matches(args, above, place) {
                return Ok(());
            }
            let path = joined(above, place.path);
            if out.is_json() {
                let cost = to_u64(path.len()).saturating_add(ENTRY_COST);
                budget.take(Len::new(cost)).of(guest.image)?;
                let target = match place.inode.kind() {
                    Some(Kind::Symlink) => Some(guest.read_link(place.inode)?),
                    _ => None,
                };
                found.push(Value::Object(facts(("path", &path), place.inode, target.as_deref())));
            }
            out.line(Printable(&path));
            Ok(())
        })?;
        out.document(&json!({ "matches": found }))?;
        damage.end()
    })
}

fn matches(args: &Find, above: &[u8], place: &Place<'_>) -> bool {
    let wanted = args.kind.map(|kind| match kind {
        EntryType::File => Kind::File,
        EntryType::Dir => Kind::Dir,
        EntryType::Symlink => Kind::Symlink,
    });
    // The start has the name that it was called by.
    let name = if place.name.is_empty() { base_name(above) } else { place.name };
    wanted.is_none_or(|kind| place.inode.kind() == Some(kind))
        && args.name.as_ref().is_none_or(|glob| glob.matches(name))
}

/// The last name of a path; that of the root is `/`.
fn base_name(path: &[u8]) -> &[u8] {
    let last = path.split(|&byte| byte == b'/').rfind(|name| !name.is_empty());
    last.unwrap_or(b"/")
}
