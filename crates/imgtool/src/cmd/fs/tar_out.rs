//! `fs tar-out IMAGE [PATH]`: a folder as a tar archive, with owners, times, holes, links, devices and attributes.

use super::acl;
use super::tar::{self, Kind, Member, Record};
use super::walk::{Place, Step};
use super::{Damage, Guest, host, with_guest};
use crate::args::TarOut;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of};
use crate::output::Output;
use crate::sandbox::{Needs, folder_of};
use disk::{Budget, Progress, Task, Total};
use extfs::{Inode, InodeNo};
use ondisk::num::{to_u64, to_usize};
use ondisk::text::Printable;
use ondisk::{Len, Offset};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Runs it.
///
/// # Errors
/// Where there is no such folder, the archive exists, or something cannot be read or written.
pub(super) fn run(args: &TarOut, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    if args.output == Path::new("-") {
        return with_guest(&args.image, &args.at, &Needs::nothing(), session, |guest| {
            archive(guest, args, &|error| Failure::stdout(error), None, out)
        })?
        .end();
    }
    let (file, is_new) = create(&args.output)?;
    let needs = Needs::nothing().writing(folder_of(&args.output));
    let made = with_guest(&args.image, &args.at, &needs, session, |guest| {
        archive(guest, args, &|error| Failure::io(&args.output, error), Some(file), out)
    });
    if is_new && made.is_err() {
        // What is not whole is not there.
        let _ = std::fs::remove_file(&args.output);
    }
    made?.end()
}

/// The file for the archive: a new one, or a pipe or device that is there.
fn create(path: &Path) -> Result<(File, bool), Failure> {
    let io = |error| Failure::io(path, &error);
    match path.metadata() {
        Ok(meta) if meta.is_file() || meta.is_dir() => Err(host::exists(path)),
        Ok(_) => Ok((File::options().write(true).open(path).map_err(io)?, false)),
        Err(_) => Ok((File::create_new(path).map_err(io)?, true)),
    }
}

/// What an error of writing means.
type Told<'a> = &'a dyn Fn(&std::io::Error) -> Failure;

/// Writes the archive to its end; what of the tree is damaged is left out of it and given back.
fn archive(
    guest: &Guest<'_>,
    args: &TarOut,
    told: Told<'_>,
    file: Option<File>,
    out: &mut Output,
) -> Result<Damage, Failure> {
    let start = guest.resolve(&args.path)?;
    let task = guest.session.meter.task("tar", Total::Unknown);
    let mut archive = Archive {
        guest,
        told,
        task: &*task,
        file: file.map(|file| BufWriter::with_capacity(1 << 20, file)),
        names: HashMap::new(),
        budget: guest.session.limits.budget("the files with several names"),
        start: args.path.file_name().map(|name| name.as_encoded_bytes().to_vec()).unwrap_or_default(),
    };
    let mut damage = Damage::default();
    guest.walk(&start, &mut damage, out, |step, out| match step {
        Step::Enter(place) | Step::File(place) => archive.add(place, out),
        Step::Leave(_) => Ok(()),
    })?;
    archive.put(&tar::END, out)?;
    if let Some(file) = &mut archive.file {
        file.flush().map_err(|error| told(&error))?;
    }
    Ok(damage)
}

/// An archive that is being written.
struct Archive<'a> {
    guest: &'a Guest<'a>,
    told: Told<'a>,
    task: &'a dyn Task,
    /// Standard output where there is none.
    file: Option<BufWriter<File>>,
    /// Files with several names: the first one.
    names: HashMap<InodeNo, Vec<u8>>,
    budget: Budget,
    /// What a start that is no folder is called.
    start: Vec<u8>,
}

impl Archive<'_> {
    fn add(&mut self, place: &Place<'_>, out: &mut Output) -> Result<(), Failure> {
        let Some(kind) = kind_of(place.inode) else {
            out.warn(format!("{}: left out: an archive holds no such thing", Printable(place.path)));
            return Ok(());
        };
        let mut member = self.member(kind, place)?;
        if let Some(first) = self.names.get(&place.inode.ino()) {
            member.kind = Kind::HardLink;
            member.target.clone_from(first);
            return self.put(&tar::head(&member, Len::ZERO, &[]).0, out);
        }
        member.records = self.records(place.inode)?;
        if kind == Kind::File {
            self.content(&member, place.inode, out)?;
        } else {
            self.put(&tar::head(&member, Len::ZERO, &[]).0, out)?;
        }
        if kind != Kind::Dir && place.inode.links() > 1 {
            self.budget.take(Len::new(to_u64(member.name.len()).saturating_add(96))).of(self.guest.image)?;
            self.names.insert(place.inode.ino(), member.name);
        }
        Ok(())
    }

    fn member(&self, kind: Kind, place: &Place<'_>) -> Result<Member, Failure> {
        let inode = place.inode;
        let mut name = match (kind, place.path) {
            (Kind::Dir, path) => super::ls::joined(b".", path),
            (_, []) => self.start.clone(),
            (_, path) => super::ls::joined(b".", path),
        };
        if kind == Kind::Dir {
            name.push(b'/');
        }
        let target = if kind == Kind::Symlink { self.guest.read_link(inode)? } else { Vec::new() };
        let mtime = inode.mtime();
        Ok(Member {
            kind,
            name,
            mode: inode.mode(),
            uid: inode.uid(),
            gid: inode.gid(),
            mtime: (mtime.seconds, mtime.nanoseconds.min(999_999_999)),
            target,
            device: inode.device().unwrap_or_default(),
            records: Vec::new(),
        })
    }

    /// Attributes as records.
    fn records(&self, inode: &Inode) -> Result<Vec<Record>, Failure> {
        let mut records = Vec::new();
        for attr in self.guest.fs.xattrs(inode).of(self.guest.image)? {
            let value = self.guest.fs.xattr_value(&attr).of(self.guest.image)?;
            let name = attr.full_name();
            let list = match name.as_slice() {
                b"system.posix_acl_access" => Some(&b"SCHILY.acl.access"[..]),
                b"system.posix_acl_default" => Some(&b"SCHILY.acl.default"[..]),
                _ => None,
            };
            match list.and_then(|key| Some((key, acl::text(&value)?))) {
                Some((key, text)) => records.push((key.to_vec(), text.into_bytes())),
                None => records.push(([b"SCHILY.xattr.", name.as_slice()].concat(), value)),
            }
        }
        Ok(records)
    }

    /// A regular file. Once its header is out, as many bytes follow as it says: zeros where the file is damaged.
    fn content(&mut self, member: &Member, inode: &Inode, out: &mut Output) -> Result<(), Failure> {
        let (guest, task) = (self.guest, self.task);
        let pieces = guest.pieces(inode)?;
        let data = pieces.data();
        let (head, padding) = tar::head(member, pieces.len, &data);
        self.put(&head, out)?;
        let promised = data.iter().fold(0_u64, |sum, span| sum.saturating_add(span.len().get()));
        let mut written = 0_u64;
        let streamed = guest.stream(&pieces, task, |_: Offset, bytes| {
            written = written.saturating_add(to_u64(bytes.len()));
            self.put(bytes, out)
        });
        if streamed.as_ref().is_err_and(|failure| failure.exit() != Exit::Corrupt) {
            return streamed;
        }
        self.zeros(promised.saturating_sub(written).saturating_add(padding), out)?;
        streamed
    }

    fn zeros(&mut self, count: u64, out: &mut Output) -> Result<(), Failure> {
        let zeros = vec![0; to_usize(count.min(1 << 16))];
        for piece in ondisk::Span::whole(Len::new(count)).chunks(Len::of(&zeros)) {
            self.guest.go_on()?;
            self.put(zeros.get(..piece.len().to_usize()).unwrap_or_default(), out)?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8], out: &mut Output) -> Result<(), Failure> {
        let written = match &mut self.file {
            Some(file) => file.write_all(bytes),
            None => out.bytes().write_all(bytes),
        };
        written.map_err(|error| (self.told)(&error))
    }
}

/// What a file is in an archive; there are no sockets.
fn kind_of(inode: &Inode) -> Option<Kind> {
    match inode.kind()? {
        extfs::Kind::File => Some(Kind::File),
        extfs::Kind::Dir => Some(Kind::Dir),
        extfs::Kind::Symlink => Some(Kind::Symlink),
        extfs::Kind::Char => Some(Kind::Char),
        extfs::Kind::Block => Some(Kind::Block),
        extfs::Kind::Fifo => Some(Kind::Fifo),
        extfs::Kind::Socket => None,
    }
}
