//! Every inode by itself: what its fields say.

use super::facts::{ENCRYPTED, SPECIAL, UNCOUNTED, USED, VALUE};
use super::finding::What;
use super::map::{full_size, looks_like_extents};
use super::{Check, Dir};
use crate::csum::Object;
use crate::error::{Part, Result};
use crate::feature::{Compat, Incompat, RoCompat};
use crate::read::inode::{EA_INODE, ENCRYPT, EXTENTS, INDEX, INLINE_DATA, Inode, Kind};
use crate::unit::{GroupNo, InodeNo};
use disk::ReadAt;
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Span};

/// `i_flags`: names of a directory ignore case.
pub(super) const CASEFOLD: u32 = 0x4000_0000;
/// `i_flags`: of AFS servers.
const IMAGIC: u32 = 0x2000;
/// `i_flags`: must not be changed, or only grow.
const FIXED: u32 = 0x30;
/// The inode that lists bad blocks.
const BAD_BLOCKS: InodeNo = InodeNo(1);
/// The inode of a boot loader.
const BOOT_LOADER: InodeNo = InodeNo(5);
/// So much of an inode table is read at once.
const CHUNK: u64 = 1 << 20;
/// The mode bits of a regular file.
const FILE: u16 = 0x8000;

impl<D: ReadAt> Check<'_, D> {
    /// Goes through all inode tables.
    pub(super) fn inodes(&mut self) -> Result<()> {
        let groups = self.fs.geom().groups().into();
        let task = self.cx.progress.task("checking inodes", disk::Total::Count(groups));
        for group in self.fs.geom().all_groups() {
            self.cx.cancel.check()?;
            self.group_inodes(group)?;
            task.advance(1);
        }
        self.shared_counts();
        self.value_counts()
    }

    fn group_inodes(&mut self, group: GroupNo) -> Result<()> {
        let geom = self.fs.geom();
        let Some(desc) = self.fs.groups().unverified(group) else { return Ok(()) };
        let flags = self.fs.sb().has_group_flags();
        let unused = if flags { desc.itable_unused } else { 0 };
        let count = geom.inodes_per_group.saturating_sub(unused);
        let inside = super::group::inside(self.fs, group, desc.inode_table, geom.table_blocks());
        if desc.inode_uninit() || count == 0 || !inside {
            return Ok(());
        }
        let size = u64::from(geom.inode_size);
        let len = Len::new(u64::from(count).saturating_mul(size));
        let start = geom.block_size.offset_of(desc.inode_table);
        let Some(table) = start.and_then(|start| Span::new(start, len)) else { return Ok(()) };
        for chunk in table.chunks(Len::new(CHUNK)) {
            let first = chunk.start().since(table.start()).unwrap_or_default().get().checked_div(size);
            self.chunk(group, ondisk::num::low32(first.unwrap_or_default()), chunk)?;
        }
        Ok(())
    }

    /// Inodes that are stored one behind the other, `first` being the index of the first in its group.
    fn chunk(&mut self, group: GroupNo, first: u32, chunk: Span) -> Result<()> {
        let (geom, reserved) = (self.fs.geom(), self.fs.sb().first_inode());
        let zero = self.fs.disk().extents(chunk)?.all_zero();
        if zero && geom.inode_at(group, first) >= reserved {
            return Ok(());
        }
        let bytes = disk::read_vec(self.fs.disk(), chunk, &self.cx.limits)?;
        for (index, bytes) in (first..).zip(bytes.chunks_exact(usize::from(geom.inode_size))) {
            let ino = geom.inode_at(group, index);
            if ino >= reserved && bytes.iter().all(|&byte| byte == 0) {
                continue;
            }
            if let Err(mismatch) = self.fs.sb().sums().verify(Object::Inode(ino), bytes) {
                self.report.damaged(Part::Inode(ino), What::Checksum(mismatch));
            }
            self.inode(&Inode::unverified(ino, bytes.to_vec()))?;
        }
        Ok(())
    }

    fn inode(&mut self, inode: &Inode) -> Result<()> {
        let (ino, raw) = (inode.ino(), inode.raw());
        let orphan = self.orphans.contains(&ino);
        let dtime = raw.i_dtime.get();
        if self.low_times && !orphan && dtime != 0 && dtime < self.fs.geom().inodes() {
            self.damaged(inode, What::field("i_dtime", dtime, "a time"));
        }
        let reserved = ino < self.fs.sb().first_inode();
        if inode.links() == 0 && !reserved && !self.is_quota_place(ino) && !orphan {
            if dtime == 0 && inode.mode() != 0 {
                self.damaged(inode, What::Broken("has no links, and no time of deletion"));
            }
            return Ok(());
        }
        let facts = |flags| {
            let kind = inode.kind().map_or(0, Kind::to_dirent);
            move |fact: &mut super::facts::Fact| {
                fact.flags |= flags;
                fact.kind = kind;
                fact.links = inode.links();
            }
        };
        self.flags(inode)?;
        if self.special(inode)? {
            return self.facts.edit(ino, facts(USED | UNCOUNTED));
        }
        if inode.links() == 0 && !orphan {
            return if reserved { self.facts.edit(ino, facts(USED | UNCOUNTED)) } else { Ok(()) };
        }
        if dtime != 0 && !orphan && ino != InodeNo::ROOT {
            self.damaged(inode, What::Broken("is in use, and has a time of deletion"));
        }
        let value = if inode.has(EA_INODE) { VALUE } else { 0 };
        let uncounted = if orphan || inode.has(IMAGIC) { UNCOUNTED } else { 0 };
        let special =
            if matches!(inode.kind(), Some(Kind::File | Kind::Dir | Kind::Symlink)) { 0 } else { SPECIAL };
        self.facts.edit(ino, facts(USED | value | uncounted | special))?;
        self.report.stats.inodes = self.report.stats.inodes.saturating_add(1);
        self.fields(inode);
        let cost = self.inside(inode)?;
        self.policy(inode)?;
        if inode.kind() == Some(Kind::Dir) {
            self.budget.take(Len::new(to_u64(size_of::<Dir>())))?;
            self.dirs.push(Dir { ino, ..Dir::default() });
            self.report.stats.dirs = self.report.stats.dirs.saturating_add(1);
        }
        if self.kind(inode)? {
            self.blocks_of(inode, Some(cost))?;
        }
        Ok(())
    }

    pub(super) fn damaged(&mut self, inode: &Inode, what: What) {
        self.report.damaged(Part::Inode(inode.ino()), what);
    }

    /// Whether this is where a quota file lies, or would lie.
    fn is_quota_place(&self, ino: InodeNo) -> bool {
        ino.0 == 3 || ino.0 == 4 || ino.0 == self.fs.sb().raw().s_prj_quota_inum.get()
    }

    /// Flags that say how an inode is to be read.
    fn flags(&mut self, inode: &Inode) -> Result<()> {
        let (ino, incompat) = (inode.ino(), self.fs.sb().incompat());
        let (is_dir, is_file) = (inode.kind() == Some(Kind::Dir), inode.kind() == Some(Kind::File));
        if inode.has(CASEFOLD) && !(is_dir && incompat.has(Incompat::CASEFOLD)) {
            self.damaged(inode, What::Broken("is no directory that may ignore case, and is marked as one"));
        }
        let features = incompat.has(Incompat::EXTENTS) || incompat.has(Incompat::INLINE_DATA);
        let mappable = is_dir || is_file || inode.kind() == Some(Kind::Symlink) || inode.kind().is_none();
        if inode.has(INLINE_DATA | EXTENTS) && features && mappable {
            self.damaged(inode, What::Broken("has both extents and inline data"));
        }
        if inode.has(INLINE_DATA) && ino >= self.fs.sb().first_inode() {
            if !incompat.has(Incompat::INLINE_DATA) {
                self.damaged(inode, What::Broken("has inline data without the feature"));
            } else if self.inline_rest(inode).is_none() {
                self.damaged(inode, What::Broken("has inline data, and no sound attribute system.data"));
            }
        }
        let counts =
            inode.links() != 0 || ino == BAD_BLOCKS || ino == InodeNo::ROOT || ino == InodeNo::JOURNAL;
        let extents = incompat.has(Incompat::EXTENTS);
        if inode.has(EXTENTS) && !extents && counts {
            self.damaged(inode, What::Broken("has extents without the feature"));
        }
        if extents && !inode.has(EXTENTS) && counts && (is_dir || is_file) && looks_like_extents(inode) {
            self.damaged(inode, What::Broken("has extents, and is not marked so"));
        }
        Ok(())
    }

    /// How many bytes of inline data lie in the attribute; `None` where it is missing or damaged.
    pub(super) fn inline_rest(&self, inode: &Inode) -> Option<usize> {
        if !super::xattr::has_places(inode.xattr_area()) {
            return None;
        }
        let all = self.fs.xattrs_inside(inode).ok()?;
        let rest = all.iter().find(|attr| attr.is_inline_data())?;
        self.fs.xattr_value(rest).ok().map(|value| value.len())
    }

    /// Inodes that the filesystem keeps for itself; whether all is done for it.
    fn special(&mut self, inode: &Inode) -> Result<bool> {
        let (ino, raw) = (inode.ino(), inode.raw());
        let sb = self.fs.sb().raw();
        let is_file = inode.kind() == Some(Kind::File);
        let quotas = [&sb.s_usr_quota_inum, &sb.s_grp_quota_inum, &sb.s_prj_quota_inum].map(|n| n.get());
        let owner = match ino {
            BAD_BLOCKS => {
                let foreign = inode.mode() != 0 || raw.i_uid.get() != 0 || raw.i_gid.get() != 0;
                if foreign || inode.links() != 0 || inode.has(INLINE_DATA) || raw.i_file_acl_lo.get() != 0 {
                    self.damaged(inode, What::Broken("is not a plain list of bad blocks"));
                }
                self.map(inode)?;
                return Ok(true);
            }
            InodeNo::ROOT => {
                if inode.kind() != Some(Kind::Dir) {
                    self.damaged(inode, What::field("i_mode", inode.mode(), "the root directory"));
                }
                if raw.i_dtime.get() != 0 && inode.links() != 0 {
                    self.damaged(inode, What::Broken("is in use, and has a time of deletion"));
                }
                return Ok(false);
            }
            InodeNo::JOURNAL => sb.s_journal_inum.get() == ino.0,
            _ if self.is_quota_place(ino) => {
                self.fs.sb().ro_compat().has(RoCompat::QUOTA) && quotas.contains(&ino.0)
            }
            _ if ino.0 == sb.s_orphan_file_inum.get() => self.fs.sb().compat().has(Compat::ORPHAN_FILE),
            _ if ino < self.fs.sb().first_inode() => {
                let wrong = match ino {
                    BOOT_LOADER => inode.kind() == Some(Kind::Dir),
                    InodeNo::RESIZE => inode.mode() != 0 && !is_file,
                    _ => inode.mode() != 0,
                };
                if wrong {
                    self.damaged(inode, What::field("i_mode", inode.mode(), "a reserved inode's"));
                }
                self.blocks_of(inode, None)?;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        if owner {
            if !is_file {
                self.damaged(inode, What::field("i_mode", inode.mode(), format!("a file, {FILE:#x}")));
            }
            self.blocks_of(inode, None)?;
        } else if inode.links() != 0
            || raw.i_blocks_lo.get() != 0
            || raw.i_block.first_chunk() != Some(&[0; 4])
        {
            self.damaged(inode, What::Broken("belongs to a feature that is not there, and is in use"));
        }
        Ok(owner)
    }

    /// Fields of an inode in use.
    fn fields(&mut self, inode: &Inode) {
        let (raw, sb) = (inode.raw(), self.fs.sb());
        let (incompat, linux) = (sb.incompat(), sb.raw().s_creator_os.get() != 1);
        // Nobody looks at these in an inode that holds a value.
        let mut bad = Vec::new();
        if raw.i_obso_faddr.get() != 0 {
            bad.push(What::field("i_faddr", raw.i_obso_faddr.get(), 0));
        }
        if linux && !incompat.has(Incompat::BIT64) && raw.i_file_acl_high.get() != 0 {
            bad.push(What::field("i_file_acl_high", raw.i_file_acl_high.get(), "0 without 64bit"));
        }
        if linux && !sb.ro_compat().has(RoCompat::HUGE_FILE) && raw.i_blocks_high.get() != 0 {
            bad.push(What::field("i_blocks_high", raw.i_blocks_high.get(), "0 without huge_file"));
        }
        let is_dir = inode.kind() == Some(Kind::Dir);
        if is_dir && !incompat.has(Incompat::LARGEDIR) && raw.i_size_high.get() != 0 {
            bad.push(What::field("i_size_high", raw.i_size_high.get(), "0 without large_dir"));
        }
        if inode.kind().is_none() {
            bad.push(What::field("i_mode", inode.mode(), "a kind of file"));
        }
        for what in bad {
            if !inode.has(EA_INODE) {
                self.damaged(inode, what);
            }
        }
        if inode.has(IMAGIC) && !self.fs.sb().compat().has(Compat::IMAGIC_INODES) {
            self.damaged(inode, What::Broken("has the flag imagic without the feature"));
        }
        let (extra, size) = (inode.extra_isize(), self.fs.geom().inode_size);
        let room = size.saturating_sub(128);
        if extra != 0 && (extra > room || !extra.is_multiple_of(4)) {
            self.damaged(inode, What::field("i_extra_isize", extra, format!("a multiple of 4 up to {room}")));
        }
    }

    /// The encryption policy of an inode that is encrypted.
    fn policy(&mut self, inode: &Inode) -> Result<()> {
        if !inode.has(ENCRYPT) {
            return Ok(());
        }
        let found = self.fs.xattrs(inode).ok().and_then(|all| {
            let attr = all.into_iter().find(|attr| attr.index == 9 && attr.name == b"c")?;
            self.fs.xattr_value(&attr).ok()
        });
        let Some(context) = found else {
            self.damaged(inode, What::Broken("is encrypted without a policy"));
            return Ok(());
        };
        // Without its nonce of 16 bytes the context is the policy, which a directory shares with its files.
        let (version, len) = (context.first().copied().unwrap_or_default(), context.len());
        if version == 0 || version == 1 && len != 28 || version == 2 && len != 40 {
            self.damaged(inode, What::Broken("has a damaged encryption policy"));
            return Ok(());
        }
        let policy = if version > 2 {
            Vec::new()
        } else {
            context.get(..len.saturating_sub(16)).unwrap_or_default().to_vec()
        };
        self.budget.take(Len::new(128))?;
        let next = ondisk::num::low32(to_u64(self.policies.len()));
        let id = *self.policies.entry(policy).or_insert(next);
        self.policy_of.insert(inode.ino(), id);
        self.facts.edit(inode.ino(), |fact| fact.flags |= ENCRYPTED)
    }

    /// What its kind asks of an inode; whether its blocks are still to be looked at.
    fn kind(&mut self, inode: &Inode) -> Result<bool> {
        let raw = inode.raw();
        match inode.kind() {
            Some(Kind::Symlink) => {
                let sound = self.is_sound_link(inode)?;
                if !sound && !inode.has(EA_INODE) {
                    self.report.damaged(Part::Symlink(inode.ino()), What::Broken("has no sound target"));
                }
                if sound && inode.has(INLINE_DATA) {
                    return Ok(false);
                }
            }
            Some(Kind::Char | Kind::Block | Kind::Fifo | Kind::Socket) => {
                let rest = raw.i_block.get(16..).unwrap_or_default().iter().any(|&byte| byte != 0);
                if inode.flags() & (INDEX | EXTENTS) != 0 || inode.flags() & FIXED != 0 && rest {
                    self.damaged(
                        inode,
                        What::Broken("is a special file with flags or blocks of another kind"),
                    );
                }
                if full_size(inode) != Len::ZERO {
                    self.damaged(inode, What::field("i_size", full_size(inode).get(), "0 in a special file"));
                }
            }
            _ => {}
        }
        Ok(true)
    }

    fn is_sound_link(&self, inode: &Inode) -> Result<bool> {
        let (raw, size) = (inode.raw(), full_size(inode).get());
        if raw.i_size_high.get() != 0 || size == 0 || inode.has(INDEX) {
            return Ok(false);
        }
        if inode.has(INLINE_DATA) {
            let rest = self.inline_rest(inode).unwrap_or_default();
            return Ok(!inode.has(EXTENTS) && to_u64(rest).saturating_add(60) == size);
        }
        let target = if size < 60 {
            if inode.has(EXTENTS) {
                return Ok(false);
            }
            raw.i_block.to_vec()
        } else {
            let words = super::special::words(&raw.i_block);
            let word = |n: usize| words.get(n).copied().unwrap_or_default();
            let block = if inode.has(EXTENTS) {
                // One entry in a root that is a leaf: [magic, 1], [max, 0], generation, [block 0], [length 1, high], low.
                let root = looks_like_extents(inode) && word(0) >> 16 == 1 && word(1) >> 16 == 0;
                if !root || word(3) != 0 || word(4) & 0xffff != 1 {
                    return Ok(false);
                }
                u64::from(word(4) >> 16) << 32 | u64::from(word(5))
            } else {
                if words.iter().skip(1).any(|&word| word != 0) {
                    return Ok(false);
                }
                word(0).into()
            };
            let block = crate::BlockNo(block);
            if !self.fs.geom().holds(block, crate::BlockCount(1)) {
                return Ok(false);
            }
            self.fs.read_block(Part::Symlink(inode.ino()), block)?
        };
        let len = if inode.has(ENCRYPT) {
            target.first_chunk().map_or(0, |len| usize::from(u16::from_le_bytes(*len)).saturating_add(2))
        } else {
            ondisk::text::until_nul(&target).len()
        };
        Ok(len < target.len() && to_u64(len) == size)
    }

    /// Whether `i_block` is a map.
    pub(super) fn has_blocks(&self, inode: &Inode) -> bool {
        match inode.kind() {
            _ if inode.has(INLINE_DATA) => false,
            Some(Kind::File | Kind::Dir) => true,
            Some(Kind::Symlink) if inode.xattr_block().is_none() => inode.raw().i_blocks_lo.get() != 0,
            Some(Kind::Symlink) => {
                let (size, second) = (inode.raw().i_size_lo.get(), inode.raw().i_block);
                size >= 60 || size > 4 && second.get(4..8) == Some(&[0; 4])
            }
            _ => false,
        }
    }

    /// The inode as it stands there, damaged or not.
    pub(super) fn raw_inode(&self, ino: InodeNo) -> Result<Inode> {
        let geom = self.fs.geom();
        let missing = || crate::Error::broken(Part::Inode(ino), "does not exist");
        let (group, index) = geom.place_of(ino).ok_or_else(missing)?;
        let desc = self.fs.groups().unverified(group).ok_or_else(missing)?;
        if !super::group::inside(self.fs, group, desc.inode_table, geom.table_blocks()) {
            return Err(missing());
        }
        let within = u64::from(index).saturating_mul(geom.inode_size.into());
        let at = geom.block_size.offset_of(desc.inode_table);
        let at = at.and_then(|at| at.checked_add(Len::new(within))).ok_or_else(missing)?;
        let mut bytes = vec![0; to_usize(geom.inode_size.into())];
        self.fs.disk().read_at(at, &mut bytes)?;
        Ok(Inode::unverified(ino, bytes))
    }
}
