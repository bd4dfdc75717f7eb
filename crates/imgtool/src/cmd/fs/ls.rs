//! `fs ls IMAGE [PATH]`: the names in a folder.

use super::show::{facts, minute_text, mode_text};
use super::walk::{Place, Step};
use super::{Damage, Guest, with_guest};
use crate::args::Ls;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of};
use crate::output::Output;
use crate::render::Table;
use crate::sandbox::Needs;
use disk::Budget;
use extfs::{Inode, Kind};
use ondisk::Len;
use ondisk::num::to_u64;
use ondisk::text::Printable;
use serde_json::{Map, Value, json};
use std::os::unix::ffi::OsStrExt;

/// What an entry of a document takes in memory beyond its names.
pub(super) const ENTRY_COST: u64 = 1024;

/// Runs it.
///
/// # Errors
/// Where there is no such file, or the filesystem is damaged there.
pub(super) fn run(args: &Ls, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    with_guest(&args.image, &args.at, &Needs::nothing(), session, |guest| {
        let itself = guest.resolve_no_follow(&args.path)?;
        let start = match itself.kind() {
            Some(Kind::Symlink) if !args.long => guest.resolve(&args.path)?,
            _ => itself,
        };
        let mut damage = Damage::default();
        let mut listing = Listing::new(guest, args);
        if start.kind() != Some(Kind::Dir) {
            listing.add(args.path.as_os_str().as_bytes(), &start)?;
        } else if args.recursive {
            listing.tree(&start, &mut damage, out)?;
        } else {
            listing.folder(&start, &mut damage, out)?;
        }
        listing.show(out)?;
        damage.end()
    })
}

/// Names on their way to the operator.
struct Listing<'a> {
    guest: &'a Guest<'a>,
    args: &'a Ls,
    budget: Budget,
    rows: Vec<Row>,
}

/// A name and what it names.
struct Row {
    name: Vec<u8>,
    inode: Inode,
    target: Option<Vec<u8>>,
}

impl<'a> Listing<'a> {
    fn new(guest: &'a Guest<'a>, args: &'a Ls) -> Self {
        Self { guest, args, budget: guest.session.limits.budget("the list of files"), rows: Vec::new() }
    }

    fn add(&mut self, name: &[u8], inode: &Inode) -> Result<(), Failure> {
        self.budget.take(Len::new(to_u64(name.len()).saturating_add(ENTRY_COST))).of(self.guest.image)?;
        let target = match inode.kind() {
            Some(Kind::Symlink) => Some(self.guest.read_link(inode)?),
            _ => None,
        };
        self.rows.push(Row { name: name.to_vec(), inode: inode.clone(), target });
        Ok(())
    }

    /// A folder alone: names lead nowhere here, so that strange ones are shown as well.
    fn folder(&mut self, dir: &Inode, damage: &mut Damage, out: &Output) -> Result<(), Failure> {
        for (name, ino) in self.guest.names(dir, &self.budget)? {
            self.guest.go_on()?;
            let added = self.guest.inode(ino).and_then(|inode| self.add(&name, &inode));
            damage.take(added, out)?;
        }
        Ok(())
    }

    /// A folder with all that is below it: a list for each folder, or one document.
    fn tree(&mut self, dir: &Inode, damage: &mut Damage, out: &mut Output) -> Result<(), Failure> {
        let guest = self.guest;
        if out.is_json() {
            return guest.walk(dir, damage, out, |step, _| match step {
                Step::File(place) | Step::Enter(place) if !place.path.is_empty() => {
                    self.add(place.path, place.inode)
                }
                _ => Ok(()),
            });
        }
        let mut folders = Damage::default();
        let above = self.args.path.as_os_str().as_bytes();
        guest.walk(dir, &mut folders, out, |step, out| {
            let Step::Enter(Place { path, inode, .. }) = step else { return Ok(()) };
            if !path.is_empty() {
                out.line("");
            }
            out.line(format!("{}:", Printable(&joined(above, path))));
            let mut listing = Listing::new(guest, self.args);
            listing.folder(inode, damage, out)?;
            listing.show(out)
        })?;
        damage.join(folders);
        Ok(())
    }

    fn show(&mut self, out: &mut Output) -> Result<(), Failure> {
        if out.is_json() {
            let entries =
                self.rows.iter().map(|row| facts(("name", &row.name), &row.inode, row.target.as_deref()));
            let mut object = Map::new();
            crate::json::put_bytes(&mut object, "path", self.args.path.as_os_str().as_bytes());
            object.insert("entries".to_owned(), json!(entries.map(Value::Object).collect::<Vec<_>>()));
            return out.document(&object);
        }
        if self.args.long {
            out.table(&self.table());
        } else {
            self.rows.iter().for_each(|row| out.line(Printable(&row.name)));
        }
        Ok(())
    }

    fn table(&self) -> Table {
        let mut table = Table::new().left("MODE").right("LINKS").right("UID").right("GID").right("SIZE");
        table = table.left("MODIFIED").left("NAME");
        for Row { name, inode, target } in &self.rows {
            let size = match inode.device() {
                Some((major, minor)) => format!("{major}, {minor}"),
                None => inode.size().to_string(),
            };
            let arrow = target.as_ref().map(|target| format!(" -> {}", Printable(target)));
            table.row([
                mode_text(inode.mode()),
                inode.links().to_string(),
                inode.uid().to_string(),
                inode.gid().to_string(),
                size,
                minute_text(inode.mtime()),
                format!("{}{}", Printable(name), arrow.unwrap_or_default()),
            ]);
        }
        table
    }
}

/// A path with what is below it.
pub(super) fn joined(above: &[u8], below: &[u8]) -> Vec<u8> {
    if below.is_empty() {
        return above.to_vec();
    }
    let slash: &[u8] = if above.ends_with(b"/") { b"" } else { b"/" };
    [above, slash, below].concat()
}
