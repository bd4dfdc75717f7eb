//! Physical volumes made, changed and judged by LVM2's own tools, and our changes applied to the same files.

use disk::{Data, FileDev, Limits, MemDisk, Overlay, ReadAt, Sparse};
use lvm2::{Draft, Lv, Mapping, Plan, Severity, Vg, Volumes, plan_commit};
use ondisk::{Len, Offset};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use tempfile::TempDir;
use testkit::lvm::Lvm;
use testkit::oracle::Loop;
use testkit::tool::copy_sparse;

pub const MIB: u64 = 1 << 20;
/// The time of every change here.
pub const NOW: u64 = 1_700_000_000;

/// One file for each physical volume.
pub struct Set {
    dir: TempDir,
    count: usize,
}

impl Set {
    pub fn new(lens: &[u64]) -> Self {
        let set = Self { dir: TempDir::new().unwrap(), count: lens.len() };
        for (number, len) in lens.iter().enumerate() {
            File::create(set.path(number)).unwrap().set_len(*len).unwrap();
        }
        set
    }

    /// One volume group `vg` on all devices.
    pub fn with_vg(lens: &[u64], pvcreate: &[&str], vgcreate: &[&str], lvs: &[&[&str]]) -> Self {
        let set = Self::new(lens);
        set.tools(|lvm| {
            lvm.create("vg", pvcreate, vgcreate);
            lvs.iter().for_each(|args| lvm.lvcreate(args));
        });
        set
    }

    pub fn path(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("pv{number}"))
    }

    pub fn copy(&self) -> Self {
        let copy = Self { dir: TempDir::new().unwrap(), count: self.count };
        (0..self.count).for_each(|number| copy_sparse(&self.path(number), &copy.path(number)));
        copy
    }

    pub fn set_len(&self, number: usize, len: u64) {
        OpenOptions::new().write(true).open(self.path(number)).unwrap().set_len(len).unwrap();
    }

    pub fn write(&self, number: usize, at: u64, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).open(self.path(number)).unwrap();
        file.write_all_at(bytes, at).unwrap();
    }

    pub fn bytes(&self, number: usize, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        File::open(self.path(number)).unwrap().read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    /// Lets the tools at the devices.
    pub fn tools<T>(&self, work: impl FnOnce(&Lvm<'_>) -> T) -> T {
        let attach = |number| {
            let path = self.path(number);
            Loop::span(&path, Offset::ZERO, Len::new(path.metadata().unwrap().len()))
        };
        let devices: Vec<Loop> = (0..self.count).map(attach).collect();
        work(&Lvm::on(&devices))
    }

    pub fn disks(&self) -> Vec<FileDev> {
        (0..self.count).map(|number| FileDev::new(File::open(self.path(number)).unwrap()).unwrap()).collect()
    }

    /// The devices in memory.
    pub fn load(&self) -> Vec<MemDisk> {
        self.disks().iter().map(|disk| MemDisk::from(Sparse::load(disk).unwrap())).collect()
    }

    pub fn volumes(&self) -> Volumes {
        read(&self.disks())
    }

    /// The only volume group.
    pub fn vg(&self) -> Vg {
        let [vg] = self.volumes().vgs.try_into().expect("one volume group");
        vg
    }

    /// Everything that is found.
    pub fn findings(&self) -> Vec<(Severity, String)> {
        let disks = self.disks();
        let found = lvm2::check(&refs(&disks), &Limits::default()).unwrap();
        found.into_iter().map(|finding| (finding.severity, finding.text)).collect()
    }

    /// Plans by `steps` and applies it the way a command does: staged over the files, then as a change of them.
    pub fn change(&self, steps: impl FnOnce(&mut Draft<'_>) -> lvm2::Result<()>) -> lvm2::Result<Plan> {
        let vg = self.vg();
        let mut draft = Draft::of(&vg, &Limits::default())?;
        steps(&mut draft)?;
        let plan = plan_commit(draft, NOW)?;
        for (number, disk) in self.disks().iter().enumerate() {
            let mut overlay = Overlay::new(disk, &Limits::default());
            plan.apply(number, &mut overlay).unwrap();
            let change = overlay.into_change().unwrap();
            for write in change.fresh.iter().chain(&change.home) {
                match &write.data {
                    Data::Bytes(bytes) => self.write(number, write.at.get(), bytes),
                    Data::Zero(len) => self.write(number, write.at.get(), &vec![0; len.to_usize()]),
                };
            }
        }
        Ok(plan)
    }

    /// The tools and our own check agree that nothing is wrong.
    pub fn assert_clean(&self) -> &Self {
        assert_eq!(self.findings(), []);
        self.tools(|lvm| lvm.assert_clean("vg"));
        self
    }

    /// What the tools report of all segments, physical volumes and volume groups.
    pub fn report(&self) -> Vec<Vec<String>> {
        self.tools(|lvm| {
            vec![
                lvm.report(
                    "lvs",
                    "lv_name,lv_uuid,seg_type,stripes,stripe_size,seg_start_pe,seg_size,seg_pe_ranges",
                ),
                lvm.report(
                    "pvs",
                    "pv_name,pv_uuid,vg_name,pe_start,pv_pe_count,pv_pe_alloc_count,pv_mda_count",
                ),
                lvm.report(
                    "vgs",
                    "vg_name,vg_uuid,vg_extent_size,vg_extent_count,vg_free_count,pv_count,lv_count",
                ),
            ]
        })
    }
}

pub fn refs<D: ReadAt>(disks: &[D]) -> Vec<&dyn ReadAt> {
    disks.iter().map(|disk| -> &dyn ReadAt { disk }).collect()
}

pub fn read<D: ReadAt>(disks: &[D]) -> Volumes {
    lvm2::read(&refs(disks), &Limits::default()).unwrap()
}

/// What the tools' report says, as we see it.
pub fn our_report(vg: &Vg) -> Vec<Vec<String>> {
    let mut lvs: Vec<&Lv> = vg.lvs().iter().collect();
    lvs.sort_by_key(|lv| lv.name());
    let segments = lvs.iter().flat_map(|lv| lv.segments().iter().map(|segment| segment_row(vg, lv, segment)));
    let used = |number: usize| {
        let areas = lvs.iter().flat_map(|lv| lv.segments()).flat_map(|segment| segment.mapping.areas());
        areas.filter(|area| area.pv == number).map(|area| area.extents.count.0).sum::<u64>()
    };
    let mut pvs: Vec<String> = (vg.pvs().iter().enumerate())
        .map(|(number, pv)| {
            let (disk, areas) = (pv.disk().unwrap(), pv.metadata_areas().count());
            let start = pv.data_start();
            format!("dev{disk}|{}|{}|{start}|{}|{}|{areas}", pv.uuid(), vg.name(), pv.extents(), used(number))
        })
        .collect();
    pvs.sort();
    let extent = vg.extent_size().len().get();
    let counts = [vg.len(), vg.free()].map(|len| len.get() / extent);
    let visible = lvs.iter().filter(|lv| lv.is_visible()).count();
    let row = format!(
        "{}|{}|{extent}|{}|{}|{}|{visible}",
        vg.name(),
        vg.uuid(),
        counts[0],
        counts[1],
        vg.pvs().len()
    );
    vec![segments.collect(), pvs, vec![row]]
}

fn segment_row(vg: &Vg, lv: &Lv, segment: &lvm2::Segment) -> String {
    let Mapping::Striped { stripe, areas } = &segment.mapping else { panic!("{segment:?}") };
    let kind = if areas.len() > 1 { "striped" } else { "linear" };
    let place = |area: &lvm2::Area| format!("dev{}:{}", vg.pvs()[area.pv].disk().unwrap(), area.extents);
    let size = vg.extent_size().len_of(segment.extents.count).unwrap();
    let ranges: Vec<String> = areas.iter().map(place).collect();
    let (name, first) = (lv.name(), segment.extents.first);
    format!("{name}|{}|{kind}|{}|{stripe}|{first}|{size}|{}", lv.uuid(), areas.len(), ranges.join(" "))
}
