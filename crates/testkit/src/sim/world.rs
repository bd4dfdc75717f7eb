//! Files as the kernel shows them, and as the medium holds them.

use super::Shared;
use disk::{Dev, DevKind, Error, ExtentMap, Identity, ReadAt, Result, Room, Sparse, Store};
use ondisk::num::round_down;
use ondisk::{Len, Offset, Span};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, MutexGuard};

const PAGE: u64 = 4096;

/// What happened, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Bytes; `grows` where they reached beyond the end.
    Write {
        /// Number of the file; 0 is the image.
        file: usize,
        /// Where.
        at: Offset,
        /// What.
        data: Arc<[u8]>,
        /// Whether the file became longer by it.
        grows: bool,
    },
    /// Zeros.
    Zero {
        /// Number of the file.
        file: usize,
        /// Where.
        span: Span,
    },
    /// A new length.
    SetLen {
        /// Number of the file.
        file: usize,
        /// The length.
        len: Len,
    },
    /// A name for a new file.
    Create {
        /// The name.
        name: OsString,
        /// Number of the file.
        file: usize,
    },
    /// A name taken away.
    Unlink {
        /// The name.
        name: OsString,
    },
    /// A file is durable.
    Flush(usize),
    /// The names are durable.
    FlushDir,
}

/// What the medium holds while the machine is off.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// All files; the first one is the image.
    pub files: Vec<Sparse>,
    /// Names of the others.
    pub names: BTreeMap<OsString, usize>,
}

impl Snapshot {
    /// An image and nothing else.
    #[must_use]
    pub fn of(image: Sparse) -> Self {
        Self { files: vec![image], names: BTreeMap::new() }
    }

    /// The image.
    #[must_use]
    pub fn image(&self) -> &Sparse {
        &self.files[0]
    }

    /// A digest of what differs from `base`, to tell states apart.
    #[must_use]
    pub fn key(&self, base: &Self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let empty = Sparse::default();
        let named = self.names.iter().map(|(name, &file)| (name.as_encoded_bytes(), file));
        for (name, file) in std::iter::once((&b""[..], 0)).chain(named) {
            let base = base.files.get(file).unwrap_or(&empty);
            hasher.update(name);
            hasher.update(&self.files[file].len().get().to_le_bytes());
            for at in self.files[file].differing(base) {
                let mut page = [0; 4096];
                self.files[file].get(at, &mut page);
                hasher.update(&at.get().to_le_bytes()).update(&page);
            }
        }
        hasher.finalize().into()
    }
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// An I/O error; nothing is done.
    Io,
    /// No space; nothing is done.
    NoSpace,
    /// A write stops half way, at a sector.
    Short,
    /// A flush fails, and the kernel takes what was dirty for clean.
    FlushDrops,
}

impl FaultKind {
    /// The ways in which a call of that name can fail.
    #[must_use]
    pub fn of(call: &str) -> &'static [Self] {
        match call {
            "write" => &[Self::Io, Self::NoSpace, Self::Short],
            "flush" => &[Self::Io, Self::FlushDrops],
            "reserve" | "resize" | "create" => &[Self::Io, Self::NoSpace],
            _ => &[Self::Io],
        }
    }
}

/// One failing call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which call fails, counted from 0.
    pub call: usize,
    /// How.
    pub kind: FaultKind,
    /// Whether every later call fails too: as if the process had been killed there.
    pub lasting: bool,
}

struct File {
    cache: Sparse,
    medium: Sparse,
    dirty: BTreeSet<Offset>,
}

/// A running machine.
pub struct World {
    files: Vec<File>,
    names: BTreeMap<OsString, usize>,
    durable_names: BTreeMap<OsString, usize>,
    /// Everything that changed something since the start.
    pub log: Vec<Op>,
    /// Every call by its name, the failed ones too.
    pub calls: Vec<&'static str>,
    /// The call that fails.
    pub fault: Option<Fault>,
    /// The flush that does nothing and says it did, counted from 0.
    pub lazy_flush: Option<usize>,
    flushes: usize,
}

impl World {
    /// Starts the machine on a medium.
    #[must_use]
    pub fn boot(from: &Snapshot) -> Self {
        let file =
            |bytes: &Sparse| File { cache: bytes.clone(), medium: bytes.clone(), dirty: BTreeSet::new() };
        Self {
            files: from.files.iter().map(file).collect(),
            names: from.names.clone(),
            durable_names: from.names.clone(),
            log: Vec::new(),
            calls: Vec::new(),
            fault: None,
            lazy_flush: None,
            flushes: 0,
        }
    }

    /// What the kernel shows: the medium if everything were written back now.
    #[must_use]
    pub fn shown(&self) -> Snapshot {
        Snapshot {
            files: self.files.iter().map(|file| file.cache.clone()).collect(),
            names: self.names.clone(),
        }
    }

    /// What the medium holds.
    #[must_use]
    pub fn medium(&self) -> Snapshot {
        let files = self.files.iter().map(|file| file.medium.clone()).collect();
        Snapshot { files, names: self.durable_names.clone() }
    }

    /// Counts a call; fails it where its turn has come.
    fn call(&mut self, op: &'static str, span: Span) -> Result<Option<FaultKind>> {
        let turn = self.calls.len();
        self.calls.push(op);
        let Some(fault) = self.fault else { return Ok(None) };
        if fault.lasting && turn > fault.call {
            return Err(failed(op, span, io::ErrorKind::Other));
        }
        if turn != fault.call {
            return Ok(None);
        }
        match fault.kind {
            FaultKind::Io => Err(failed(op, span, io::ErrorKind::Other)),
            FaultKind::NoSpace => Err(failed(op, span, io::ErrorKind::StorageFull)),
            kind => Ok(Some(kind)),
        }
    }

    fn put(&mut self, file: usize, at: Offset, data: &[u8]) {
        let target = &mut self.files[file];
        let span = Span::new(at, Len::of(data)).unwrap();
        let grows = span.end().get() > target.cache.len().get();
        if grows {
            target.cache.set_len(Len::new(span.end().get()));
        }
        target.cache.put(at, data);
        target.dirty.extend(pages(span));
        self.log.push(Op::Write { file, at, data: data.into(), grows });
    }

    fn flush_file(&mut self, file: usize, drops: bool) -> Result<()> {
        let turn = self.flushes;
        self.flushes += 1;
        let target = &mut self.files[file];
        if drops {
            target.dirty.clear();
            // What was dirty will never reach the medium.
            let since = self.log.iter().rposition(|op| *op == Op::Flush(file)).unwrap_or(0);
            let lost =
                |op: &Op| matches!(op, Op::Write { file: f, .. } | Op::Zero { file: f, .. } if *f == file);
            let mut at = 0;
            self.log.retain(|op| {
                at += 1;
                at <= since || !lost(op)
            });
            return Err(failed("flush", Span::whole(target.cache.len()), io::ErrorKind::Other));
        }
        if self.lazy_flush == Some(turn) {
            return Ok(());
        }
        for at in std::mem::take(&mut target.dirty) {
            target.medium.take_page(at, &target.cache);
        }
        target.medium.set_len(target.cache.len());
        self.log.push(Op::Flush(file));
        Ok(())
    }

    fn flush_names(&mut self, drops: bool) -> Result<()> {
        let turn = self.flushes;
        self.flushes += 1;
        if drops {
            return Err(failed("flush", Span::default(), io::ErrorKind::Other));
        }
        if self.lazy_flush != Some(turn) {
            self.durable_names = self.names.clone();
            self.log.push(Op::FlushDir);
        }
        Ok(())
    }
}

fn pages(span: Span) -> impl Iterator<Item = Offset> {
    let first = round_down(span.start().get(), PAGE).unwrap();
    (first..span.end().get()).step_by(PAGE as usize).map(Offset::new)
}

fn failed(op: &'static str, span: Span, kind: io::ErrorKind) -> Error {
    Error::Io { op, span, source: kind.into() }
}

/// A file of a [`World`].
pub struct SimDev {
    world: Shared,
    file: usize,
}

impl SimDev {
    /// File number `file`.
    #[must_use]
    pub fn new(world: &Shared, file: usize) -> Self {
        Self { world: Arc::clone(world), file }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }
}

impl ReadAt for SimDev {
    fn len(&self) -> Len {
        self.world().files[self.file].cache.len()
    }
    fn read_at(&self, at: Offset, buf: &mut [u8]) -> Result<()> {
        let mut world = self.world();
        world.call("read", Span::new(at, Len::of(buf)).unwrap())?;
        world.files[self.file].cache.read_at(at, buf)
    }
    fn extents(&self, within: Span) -> Result<ExtentMap> {
        ReadAt::extents(&self.world().files[self.file].cache, within)
    }
}

impl Dev for SimDev {
    fn write_at(&mut self, at: Offset, buf: &[u8]) -> Result<()> {
        let span = Span::new(at, Len::of(buf)).unwrap();
        let mut world = self.world();
        match world.call("write", span)? {
            Some(FaultKind::Short) => {
                // Memory goes to the cache in pages: a call that stops half way stops between sectors.
                let half = round_down(at.get() + buf.len() as u64 / 2, 512).unwrap().max(at.get());
                world.put(self.file, at, &buf[..(half - at.get()) as usize]);
                Err(failed("write", span, io::ErrorKind::WriteZero))
            }
            _ => {
                world.put(self.file, at, buf);
                Ok(())
            }
        }
    }

    fn zero(&mut self, span: Span) -> Result<()> {
        let mut world = self.world();
        world.call("zero", span)?;
        let file = &mut world.files[self.file];
        disk_within(span, file.cache.len())?;
        file.dirty.extend(pages(span));
        file.cache.clear(span);
        world.log.push(Op::Zero { file: self.file, span });
        Ok(())
    }

    fn punch(&mut self, span: Span) -> Result<()> {
        Dev::zero(self, span)
    }

    fn allocated(&self) -> Result<Option<Len>> {
        Ok(Some(self.world().files[self.file].cache.stored()))
    }

    fn set_len(&mut self, len: Len) -> Result<()> {
        let mut world = self.world();
        world.call("resize", Span::whole(len))?;
        let file = &mut world.files[self.file];
        if let Some(gone) = Span::between(len.end(), file.cache.len().end()) {
            let first = round_down(gone.start().get(), PAGE).unwrap();
            let stored = file.cache.pages().map(|(at, _)| at).filter(|at| at.get() >= first);
            file.dirty.extend(stored.collect::<Vec<_>>());
        }
        file.cache.set_len(len);
        world.log.push(Op::SetLen { file: self.file, len });
        Ok(())
    }

    fn may_reach(&self, _: Offset) -> Result<()> {
        Ok(())
    }

    fn free(&self) -> Result<Option<Len>> {
        Ok(None)
    }

    fn reserve(&mut self, span: Span) -> Result<()> {
        self.world().call("reserve", span).map(drop)
    }

    fn flush(&mut self) -> Result<()> {
        let mut world = self.world();
        let fault = world.call("flush", Span::default())?;
        world.flush_file(self.file, fault == Some(FaultKind::FlushDrops))
    }

    fn forget(&mut self, span: Span) -> Result<()> {
        let mut world = self.world();
        world.call("forget", span)?;
        let file = &mut world.files[self.file];
        for at in pages(span).filter(|at| !file.dirty.contains(at)) {
            file.cache.take_page(at, &file.medium);
        }
        Ok(())
    }

    fn kind(&self) -> DevKind {
        DevKind::File
    }

    fn identity(&self) -> Identity {
        Identity { device: 1, inode: self.file as u64 }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

fn disk_within(span: Span, len: Len) -> Result<()> {
    if Span::whole(len).contains(span) { Ok(()) } else { Err(Error::OutOfBounds { span, len }) }
}

/// The folder of a [`World`].
pub struct SimStore {
    world: Shared,
}

impl SimStore {
    /// That folder.
    #[must_use]
    pub fn new(world: &Shared) -> Self {
        Self { world: Arc::clone(world) }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }
}

impl Store for SimStore {
    fn create(&mut self, name: &OsStr) -> Result<Box<dyn Dev>> {
        let mut world = self.world();
        world.call("create", Span::default())?;
        if world.names.contains_key(name) {
            let source = io::ErrorKind::AlreadyExists.into();
            return Err(Error::File { op: "create", path: name.into(), source });
        }
        let file = world.files.len();
        world.files.push(File {
            cache: Sparse::default(),
            medium: Sparse::default(),
            dirty: BTreeSet::new(),
        });
        world.names.insert(name.to_owned(), file);
        world.log.push(Op::Create { name: name.to_owned(), file });
        drop(world);
        Ok(Box::new(SimDev::new(&self.world, file)))
    }

    fn may_create(&self) -> Result<()> {
        Ok(())
    }

    fn room(&self) -> Result<Option<Room>> {
        Ok(None)
    }

    fn open(&self, name: &OsStr) -> Result<Option<Box<dyn Dev>>> {
        let mut world = self.world();
        world.call("open", Span::default())?;
        let file = world.names.get(name).copied();
        drop(world);
        Ok(file.map(|file| -> Box<dyn Dev> { Box::new(SimDev::new(&self.world, file)) }))
    }

    fn unlink(&mut self, name: &OsStr) -> Result<()> {
        let mut world = self.world();
        world.call("unlink", Span::default())?;
        if world.names.remove(name).is_none() {
            return Err(Error::File {
                op: "unlink",
                path: name.into(),
                source: io::ErrorKind::NotFound.into(),
            });
        }
        world.log.push(Op::Unlink { name: name.to_owned() });
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let mut world = self.world();
        let fault = world.call("flush", Span::default())?;
        world.flush_names(fault == Some(FaultKind::FlushDrops))
    }
}
