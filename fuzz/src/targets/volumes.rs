//! Volume groups.

use super::{applied, blames_the_image, states_of};
use crate::volumes::{PV, parts};
use crate::{Case, LIMITS};
use disk::{Disk, MemDisk, Overlay, ReadAt, Slice, Sparse};
use lvm2::{By, Draft, ExtentCount, Plan, Severity, Vg, Volumes, plan_commit, plan_grow_lv, plan_grow_pv};
use ondisk::{Len, SpanSet};

fn volumes(disk: &dyn ReadAt) -> lvm2::Result<Volumes> {
    read_all(&parts(disk))
}

fn read_all<D: ReadAt>(disks: &[D]) -> lvm2::Result<Volumes> {
    let disks: Vec<&dyn ReadAt> = disks.iter().map(|disk| -> &dyn ReadAt { disk }).collect();
    lvm2::read(&disks, &LIMITS)
}

/// Reads whatever volume groups there are, and maps all of their volumes.
pub fn read(case: Case<'_>) {
    match volumes(&case.disk) {
        Ok(volumes) => {
            let found = volumes.vgs.iter().flat_map(Vg::findings).chain(&volumes.findings);
            found.for_each(|one| assert!(!one.text.chars().any(char::is_control), "{}", one.text));
            volumes.vgs.iter().for_each(look);
        }
        Err(error) => blames_the_image(&error),
    }
}

fn look(vg: &Vg) {
    let _ = (vg.len(), vg.free(), vg.uuid().to_string());
    for lv in vg.lvs() {
        match vg.map(lv) {
            Ok(parts) => {
                let bytes = parts.iter().flat_map(|part| &part.spans).map(|(_, span)| span.len().get());
                assert_eq!(bytes.sum::<u64>(), vg.len_of(lv).get(), "{}", lv.name());
            }
            Err(error) => blames_the_image(&error),
        }
    }
}

/// Grows every physical volume and one logical volume. The result is sound, has what was planned, and the bytes of the
/// other volumes stay where they are.
pub fn grow(case: Case<'_>) {
    // The parts as disks of their own: each becomes longer at its end.
    let load = |part: Slice<&dyn ReadAt>| MemDisk::from(Sparse::load(&part).expect("a part of the disk"));
    let disks: Vec<MemDisk> = parts(&case.disk).into_iter().map(load).collect();
    let Ok(before) = read_all(&disks) else { return };
    let more = [0, MIB, 5 * MIB + 512, 100 * MIB][usize::from(case.knob) % 4];
    for vg in before.vgs.iter().take(2) {
        for lv in vg.lvs().iter().take(4) {
            let by =
                if case.knob & 4 == 0 { By::AllFree } else { By::Extents(ExtentCount(u64::from(case.knob))) };
            match plan(vg, lv.name(), by, more, &disks) {
                Ok((plan, expect)) => check(vg, &plan, &expect, more, &disks),
                Err(error) => blames_the_image(&error),
            }
        }
    }
}

const MIB: u64 = 1 << 20;

fn plan(vg: &Vg, lv: &str, by: By, more: u64, disks: &[MemDisk]) -> lvm2::Result<(Plan, Vg)> {
    let mut draft = Draft::of(vg, &LIMITS)?;
    for (number, pv) in vg.pvs().iter().enumerate().take(4) {
        let len = pv.disk().map_or(PV, |index| disks[index].len());
        plan_grow_pv(&mut draft, number, Len::new(len.get() + more))?;
    }
    plan_grow_lv(&mut draft, lv, by)?;
    let expect = draft.vg().clone();
    Ok((plan_commit(draft, 1_700_000_000)?, expect))
}

fn check(before: &Vg, plan: &Plan, expect: &Vg, more: u64, disks: &[MemDisk]) {
    let (mut halves, mut grown) = (Vec::new(), Vec::new());
    for (index, disk) in disks.iter().enumerate() {
        let mut overlay = Overlay::new(disk, &LIMITS);
        overlay.resize(Len::new(disk.len().get() + more)).expect("an overlay has any length");
        let Some(()) = applied(plan.apply(index, &mut overlay)) else { return };
        let Some((half, new)) = states_of(disk, overlay) else { return };
        halves.push(half);
        grown.push(new);
    }
    assert_data_untouched(before, plan);
    let half = read_all(&halves).expect("what was read before");
    let same =
        half.vgs.iter().find(|vg| vg.uuid() == before.uuid()).expect("fresh bytes leave the old state");
    assert_eq!((same.seqno(), same.lvs()), (before.seqno(), before.lvs()));
    let after = read_all(&grown).expect("a grown volume group");
    let after = after.vgs.iter().find(|vg| vg.uuid() == before.uuid()).expect("a grown volume group");
    let damage = after.findings().iter().find(|one| one.severity == Severity::Damage);
    assert!(damage.is_none(), "grown: {damage:?}");
    assert_eq!(after.lvs(), expect.lvs());
    assert_eq!(after.seqno(), before.seqno() + u32::from(!plan.is_empty()));
    for (was, is) in before.lvs().iter().zip(after.lvs()) {
        assert_eq!((was.uuid(), was.name()), (is.uuid(), is.name()));
        assert!(is.extents() >= was.extents());
        if let (Ok(old), Ok(new)) = (before.map(was), after.map(is)) {
            let starts =
                |parts: &[lvm2::Part]| parts.iter().flat_map(|part| part.spans.clone()).collect::<Vec<_>>();
            let (old, new) = (starts(&old), starts(&new));
            assert!(
                old.iter().zip(&new).all(|(old, new)| old.0 == new.0 && new.1.contains(old.1)),
                "{}",
                was.name()
            );
        }
    }
}

/// No write touches extents of a volume.
fn assert_data_untouched(vg: &Vg, plan: &Plan) {
    for (index, writes) in plan.devices() {
        let areas = vg.lvs().iter().flat_map(lvm2::Lv::segments).flat_map(|segment| segment.mapping.areas());
        let own = areas.filter(|area| vg.pvs()[area.pv].disk() == Some(*index));
        let taken: SpanSet = own.filter_map(|area| vg.span_of(*area)).collect();
        for one in writes {
            assert!(!taken.overlaps(one.write.span()), "a write into a volume at {}", one.write.span());
        }
    }
}
