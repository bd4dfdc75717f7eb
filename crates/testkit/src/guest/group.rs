//! Guests' volume groups, made by lvm2, and their content, spread by hand: there may be no device-mapper.

use std::fs::{File, OpenOptions};
use std::path::Path;

use ondisk::{Len, Offset, Span};

use super::{Group, Role};
use crate::lvm::Lvm;
use crate::oracle::Loop;
use crate::tool::copy_data;

/// Extents of a linear logical volume that follow each other on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extents {
    /// The logical volume.
    pub volume: String,
    /// Where they lie on the disk.
    pub span: Span,
}

/// Makes the span of a disk a physical volume, and the group and its volumes on it.
pub(super) fn create(disk: &Path, (at, len): (Offset, Len), group: &Group) {
    let device = [Loop::span(disk, at, len)];
    let lvm = Lvm::on(&device);
    lvm.create(group.0, &[], &[]);
    for (name, mib, _) in group.1 {
        lvm.lvcreate(&["-n", name, "-L", &format!("{mib}m"), group.0]);
    }
    lvm.assert_clean(group.0);
}

/// What GRUB calls the logical volume of the root filesystem.
pub(super) fn grub_name(disk: &Path, (at, len): (Offset, Len), group: &Group) -> String {
    let root = group.1.iter().find(|volume| matches!(volume.2, Role::Root(_))).expect("a root");
    let device = [Loop::span(disk, at, len)];
    let rows = Lvm::on(&device).report("lvs", "vg_uuid,lv_uuid,lv_name");
    let uuids = rows.iter().find_map(|row| row.strip_suffix(&format!("|{}", root.0))).expect("its row");
    format!("lvmid/{}", uuids.replace('|', "/"))
}

/// Where the linear logical volumes of the one physical volume in `pv` lie, each in the order of its bytes.
///
/// # Panics
/// Where a segment is not linear.
#[must_use]
pub fn extents(disk: &Path, pv: Span) -> Vec<Extents> {
    let device = [Loop::span(disk, pv.start(), pv.len())];
    let lvm = Lvm::on(&device);
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("lvs: {text}"));
    let first = number(&lvm.report("pvs", "pe_start")[0]);
    let segment = |row: &String| {
        let fields: Vec<&str> = row.split('|').collect();
        let range = fields[2].strip_prefix("dev0:").and_then(|range| range.split_once('-'));
        let (from, to) = range.unwrap_or_else(|| panic!("lvs: {row}"));
        let size = number(fields[1]);
        let start = pv.start().get() + first + number(from) * size;
        let len = (number(to) - number(from) + 1) * size;
        let span = Span::new(Offset::new(start), Len::new(len)).expect("within the disk");
        Extents { volume: fields[0].to_owned(), span }
    };
    lvm.report("lvs", "lv_name,vg_extent_size,seg_pe_ranges").iter().map(segment).collect()
}

/// Copies the data of a sparse file to its runs on the disk.
///
/// # Panics
/// Where they cannot be written.
pub fn put(content: &Path, disk: &Path, runs: &[Span]) {
    let content = File::open(content).expect("content opens");
    let disk = OpenOptions::new().write(true).open(disk).expect("a disk opens");
    let mut base = 0;
    for run in runs {
        let len = run.len().get();
        copy_data(&content, base..base + len, &disk, run.start().get());
        base += len;
    }
}

/// Collects the bytes of `runs` of a disk in a sparse file.
///
/// # Panics
/// Where they cannot be read.
pub fn take(disk: &Path, runs: &[Span], content: &Path) {
    let disk = File::open(disk).expect("a disk opens");
    let to = File::create(content).expect("a file");
    let mut base = 0;
    for run in runs {
        copy_data(&disk, run.start().get()..run.end().get(), &to, base);
        base += run.len().get();
    }
    to.set_len(base).expect("a file takes its length");
}
