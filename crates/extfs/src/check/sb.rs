//! The superblock beyond what opening it has verified, and its backups.

use super::finding::{Report, What};
use crate::Ext;
use crate::error::{Part, Result};
use crate::feature::{Compat, Incompat, RoCompat};
use crate::layout::superblock::STATE_ERROR;
use crate::unit::GroupNo;
use disk::{Cx, ReadAt};

const PART: Part = Part::Superblock(GroupNo(0));

/// Checks the primary superblock.
pub(super) fn check<D: ReadAt>(fs: &Ext<D>, cx: &Cx<'_>, report: &mut Report) {
    limits(fs, report);
    features(fs, report);
    sizes_inside(fs, report);
    state(fs, cx, report);
}

/// Numbers that the geometry allows and the format does not.
fn limits<D: ReadAt>(fs: &Ext<D>, report: &mut Report) {
    let (sb, geom) = (fs.sb(), fs.geom());
    let mut most = |name, found: u64, max: u64| {
        if found > max {
            report.damaged(PART, What::field(name, found, format!("at most {max}")));
        }
    };
    let per_block = geom.block_size.bytes().checked_div(geom.inode_size.into()).unwrap_or(1);
    most("s_r_blocks_count", sb.reserved_blocks().0, geom.blocks.0 / 2);
    most("s_free_blocks_count", sb.free_blocks().0, geom.blocks.0);
    most("s_free_inodes_count", sb.free_inodes().into(), geom.inodes().into());
    most("s_clusters_per_group", geom.clusters_per_group().into(), (1 << 16) - 8);
    let table = u64::from(geom.blocks_per_group).saturating_sub(4).saturating_mul(per_block);
    most(
        "s_inodes_per_group",
        geom.inodes_per_group.into(),
        table.min((1_u64 << 16).saturating_sub(per_block)),
    );
    if u64::from(geom.inodes_per_group) < per_block {
        report.damaged(
            PART,
            What::field("s_inodes_per_group", geom.inodes_per_group, format!("at least {per_block}")),
        );
    }
    let (log, cluster) = (sb.raw().s_log_block_size.get(), sb.raw().s_log_cluster_size.get());
    let bigalloc = sb.ro_compat().has(RoCompat::BIGALLOC);
    if cluster < log || cluster > 19 || !bigalloc && cluster != log {
        let expected = if bigalloc { format!("{log} to 19") } else { log.to_string() };
        report.damaged(PART, What::field("s_log_cluster_size", cluster, expected));
    }
    let flex = sb.raw().s_log_groups_per_flex;
    if flex > 31 {
        report.damaged(PART, What::field("s_log_groups_per_flex", flex, "at most 31"));
    }
    let mmp = crate::BlockNo(sb.raw().s_mmp_block.get());
    if sb.incompat().has(Incompat::MMP) && (mmp <= geom.first_data_block || mmp.0 >= geom.blocks.0) {
        report.damaged(PART, What::field("s_mmp_block", mmp.0, format!("a block below {}", geom.blocks)));
    }
    let clusters = sb.raw().s_clusters_per_group.get();
    if clusters != geom.clusters_per_group() {
        report.damaged(PART, What::field("s_clusters_per_group", clusters, geom.clusters_per_group()));
    }
    let size = sb.raw().s_desc_size.get();
    if size > 1024 || (size != 0 && !size.is_power_of_two()) {
        report.damaged(PART, What::field("s_desc_size", size, "a power of two up to 1024"));
    }
}

/// Features that exclude or need each other.
fn features<D: ReadAt>(fs: &Ext<D>, report: &mut Report) {
    let (compat, incompat, ro) = (fs.sb().compat(), fs.sb().incompat(), fs.sb().ro_compat());
    let mut broken = |is: bool, problem| {
        if is {
            report.damaged(PART, What::Broken(problem));
        }
    };
    let csum = ro.has(RoCompat::METADATA_CSUM);
    broken(csum && ro.has(RoCompat::GDT_CSUM), "has both metadata_csum and uninit_bg");
    broken(!csum && incompat.has(Incompat::CSUM_SEED), "has metadata_csum_seed without metadata_csum");
    broken(incompat.has(Incompat::BIT64) && !incompat.has(Incompat::EXTENTS), "has 64bit without extents");
    let resize = compat.has(Compat::RESIZE_INODE);
    broken(resize && incompat.has(Incompat::META_BG), "has both resize_inode and meta_bg");
    broken(
        ro.has(RoCompat::ORPHAN_PRESENT) && !compat.has(Compat::ORPHAN_FILE),
        "has orphan_present without orphan_file",
    );
    let unknown = compat.without(Compat::KNOWN).0 | ro.without(RoCompat::KNOWN).0;
    if unknown != 0 {
        report.note(
            PART,
            What::field("the unknown features", unknown, "none: what they change was not looked at"),
        );
    }
    let reserved = fs.geom().reserved_gdt;
    if !resize && reserved != 0 {
        report.damaged(PART, What::field("s_reserved_gdt_blocks", reserved, "0 without resize_inode"));
    }
}

/// `s_min_extra_isize` and `s_want_extra_isize`.
fn sizes_inside<D: ReadAt>(fs: &Ext<D>, report: &mut Report) {
    let (raw, size) = (fs.sb().raw(), fs.geom().inode_size);
    let max = size.saturating_sub(128);
    let fields = [
        ("s_min_extra_isize", raw.s_min_extra_isize.get()),
        ("s_want_extra_isize", raw.s_want_extra_isize.get()),
    ];
    for (name, found) in fields {
        if size > 128 && found != 0 && (found < 4 || found > max || !found.is_multiple_of(4)) {
            report.damaged(PART, What::field(name, found, format!("a multiple of 4 from 4 to {max}")));
        }
    }
}

/// What the filesystem says about itself.
fn state<D: ReadAt>(fs: &Ext<D>, cx: &Cx<'_>, report: &mut Report) {
    let raw = fs.sb().raw();
    if fs.needs_recovery() {
        report.note(PART, What::Broken("needs recovery: the journal has to be replayed"));
    }
    if fs.has_orphans() {
        report.note(PART, What::Broken("needs recovery: deleted files have to be freed"));
    }
    if raw.s_state.get() & STATE_ERROR != 0 {
        report.note(PART, What::Broken("says that errors were seen"));
    }
    let now = cx.now;
    if u64::from(raw.s_mtime.get().max(raw.s_wtime.get())) > now.saturating_add(86400) {
        report.note(PART, What::Broken("was written in the future, says its time"));
    }
}

/// Compares the backup of the superblock in `group`, as far as a repair would believe it.
pub(super) fn backup<D: ReadAt>(fs: &Ext<D>, group: GroupNo, report: &mut Report) -> Result<()> {
    let part = Part::Superblock(group);
    match fs.sb().read_backup(fs.disk(), group) {
        Ok(copy) => {
            let (mine, theirs) = (fs.sb(), copy);
            let same = mine.geom().blocks == theirs.geom().blocks
                && mine.geom().inodes() == theirs.geom().inodes()
                && mine.uuid() == theirs.uuid();
            if !same {
                report.note(part, What::Broken("describes another filesystem than the primary one"));
            }
            Ok(())
        }
        Err(error) => {
            let mut aside = Report::default();
            aside.error(part, error)?;
            for finding in aside.damage() {
                report.note(finding.part, finding.what.clone());
            }
            Ok(())
        }
    }
}
