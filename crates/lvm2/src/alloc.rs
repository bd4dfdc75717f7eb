//! Free extents, and how a growing logical volume takes them.
//!
//! 1. First what lies right behind its last segment, then whole free runs, the longest first, those of its own physical
//!    volumes before others: as few new segments as possible.
//! 2. Stripes stay on their physical volumes, each on its own.
//! 3. A physical volume that is not allocatable gives nothing.

use crate::check::areas;
use crate::model::{Area, Lv, Mapping, Policy, Vg, run};
use crate::unit::{ExtentCount, ExtentRange};
use std::collections::BTreeMap;

/// What a logical volume takes: so many extents on each of its stripes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Right behind the stripes of the last segment.
    pub(crate) behind: ExtentCount,
    /// The runs of each new segment.
    pub(crate) segments: Vec<Vec<Area>>,
}

impl Taken {
    /// How many extents that are on each stripe.
    pub(crate) fn rows(&self) -> ExtentCount {
        let new = self.segments.iter().filter_map(|areas| areas.first());
        ExtentCount(new.fold(self.behind.0, |sum, area| sum.saturating_add(area.extents.count.0)))
    }
}

/// The free runs of each physical volume, ascending.
pub(crate) fn free(vg: &Vg) -> Vec<Vec<ExtentRange>> {
    let mut used: Vec<Area> = areas(vg).map(|(area, _)| area).collect();
    used.sort();
    let mut used = used.into_iter().peekable();
    let mut all = Vec::with_capacity(vg.pvs.len());
    for (number, pv) in vg.pvs.iter().enumerate() {
        let (mut free, mut at) = (Vec::new(), 0_u64);
        while let Some(area) = used.next_if(|area| area.pv <= number) {
            free.extend(gap(at, area.extents.first.0));
            at = at.max(area.extents.end().0);
        }
        free.extend(gap(at, pv.pe_count.0));
        all.push(free);
    }
    all
}

fn gap(from: u64, to: u64) -> Option<ExtentRange> {
    to.checked_sub(from).filter(|count| *count > 0).map(|count| run(from, count))
}

/// The most that a logical volume of stripes could take, up to `rows` extents on each.
pub(crate) fn take(vg: &Vg, lv: &Lv, rows: ExtentCount) -> Taken {
    let Some(Mapping::Striped { areas, .. }) = lv.segments.last().map(|last| &last.mapping) else {
        return Taken::default();
    };
    let mut free = free(vg);
    for (free, pv) in free.iter_mut().zip(&vg.pvs) {
        if !pv.is_allocatable() {
            free.clear();
        }
    }
    let behind = areas.iter().map(|area| behind(&free, area)).min().unwrap_or_default().min(rows.0);
    let mut taken = Taken { behind: ExtentCount(behind), segments: Vec::new() };
    let policy = vg.policy_of(lv);
    if behind == rows.0 || policy == Policy::Contiguous {
        return taken;
    }
    for area in areas {
        cut(&mut free, area, behind);
    }
    let own: Vec<usize> = areas.iter().map(|area| area.pv).collect();
    let rest = rows.0.saturating_sub(behind);
    taken.segments = match own.as_slice() {
        [own] => linear(&free, *own, policy, rest),
        own => striped(&free, own, rest),
    };
    taken
}

/// How many free extents follow an area.
fn behind(free: &[Vec<ExtentRange>], area: &Area) -> u64 {
    let runs = free.get(area.pv).map(Vec::as_slice).unwrap_or_default();
    let at = runs.binary_search_by_key(&area.extents.end(), |run| run.first);
    at.ok().and_then(|at| runs.get(at)).map_or(0, |run| run.count.0)
}

/// Takes the first extents out of the free run that follows an area.
fn cut(free: &mut [Vec<ExtentRange>], area: &Area, count: u64) {
    let Some(runs) = free.get_mut(area.pv) else { return };
    let at = runs.binary_search_by_key(&area.extents.end(), |run| run.first);
    if let Some(free) = at.ok().and_then(|at| runs.get_mut(at)) {
        *free = run(free.first.0.saturating_add(count), free.count.0.saturating_sub(count));
    }
}

/// Runs for a linear volume, the longest first.
fn linear(free: &[Vec<ExtentRange>], own: usize, policy: Policy, rows: u64) -> Vec<Vec<Area>> {
    let mut runs: Vec<Area> = Vec::new();
    for (pv, free) in free.iter().enumerate().filter(|(pv, _)| policy != Policy::Cling || *pv == own) {
        runs.extend(free.iter().map(|extents| Area { pv, extents: *extents }));
    }
    runs.sort_by_key(|area| {
        (area.pv != own, std::cmp::Reverse(area.extents.count), area.pv, area.extents.first)
    });
    let mut rest = rows;
    let mut segments = Vec::new();
    for area in runs {
        let count = area.extents.count.0.min(rest);
        if count > 0 {
            segments.push(vec![Area { extents: run(area.extents.first.0, count), ..area }]);
        }
        rest = rest.saturating_sub(count);
    }
    segments
}

/// Runs for a striped volume: on each physical volume the longest first, as long as all have one.
fn striped(free: &[Vec<ExtentRange>], own: &[usize], rows: u64) -> Vec<Vec<Area>> {
    let mut runs = BTreeMap::new();
    for pv in own {
        let mut longest = free.get(*pv).cloned().unwrap_or_default();
        longest.sort_by_key(|run| (run.count, std::cmp::Reverse(run.first)));
        if runs.insert(*pv, longest).is_some() {
            return Vec::new();
        }
    }
    let mut rest = rows;
    let mut segments = Vec::new();
    loop {
        runs.values_mut().for_each(|runs| while runs.pop_if(|run| run.count.0 == 0).is_some() {});
        let heads = own.iter().map(|pv| runs.get(pv).and_then(|runs| runs.last()).map(|run| run.count.0));
        let count = heads.min().flatten().unwrap_or_default().min(rest);
        if count == 0 {
            return segments;
        }
        let mut areas = Vec::with_capacity(own.len());
        for pv in own {
            if let Some(head) = runs.get_mut(pv).and_then(|runs| runs.last_mut()) {
                areas.push(Area { pv: *pv, extents: run(head.first.0, count) });
                *head = run(head.first.0.saturating_add(count), head.count.0.saturating_sub(count));
            }
        }
        segments.push(areas);
        rest = rest.saturating_sub(count);
    }
}
