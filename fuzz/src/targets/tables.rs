//! Partition tables.

use super::{applied, blames_the_image, states_of};
use crate::{Case, LIMITS};
use disk::{Disk, Overlay};
use ondisk::{Len, SpanSet};
use table::{Plan, Role, Severity, Table, To, plan_grow_disk, plan_grow_partition};

/// Reads and checks whatever table there is.
pub fn read(case: Case<'_>) {
    match table::read(&case.disk, &LIMITS) {
        Ok(Some(table)) => {
            assert!(table.partitions().len() <= LIMITS.partitions);
            let _ = (table.metadata(), table.id().to_string(), table.is_hybrid());
            for part in table.partitions() {
                let _ = (table.behind(part.number), table.limit(part.number, case.disk_len()));
            }
        }
        Ok(None) => {}
        Err(error) => blames_the_image(&error),
    }
    for size in [ondisk::SectorSize::B512, ondisk::SectorSize::B4096] {
        let _ = table::read_as(&case.disk, size, &LIMITS);
    }
}

impl Case<'_> {
    fn disk_len(&self) -> Len {
        disk::ReadAt::len(&self.disk)
    }
}

/// Grows the disk and each partition. The table is sound afterwards, says what was planned, and nothing else changes.
pub fn grow(case: Case<'_>) {
    let Ok(Some(before)) = table::read(&case.disk, &LIMITS) else { return };
    let more = [0, 512, 100 * 512, (8 << 20) + 3 * 512, 3 << 40];
    let len = Len::new(case.disk_len().get() + more[usize::from(case.knob) % more.len()]);
    let numbers = before.partitions().iter().map(|part| Some(part.number)).take(6);
    for number in numbers.chain([None]) {
        let plan = |table: &Table| match number {
            Some(number) => plan_grow_partition(table, number, To::Max, len),
            None => plan_grow_disk(table, len),
        };
        match plan(&before) {
            Ok(one) => {
                assert_stays_out(&before, &one);
                if let Some(after) = grown(&case, one, len) {
                    assert!(
                        plan(&after).expect("a grown table can be planned with").is_empty(),
                        "something is left"
                    );
                    assert_same(&before, &after);
                }
            }
            Err(error) => blames_the_image(&error),
        }
    }
}

fn grown(case: &Case<'_>, plan: Plan, len: Len) -> Option<Table> {
    let growth = plan.growth().to_vec();
    let mut overlay = Overlay::new(&case.disk, &LIMITS);
    overlay.resize(len).expect("an overlay has any length");
    applied(plan.apply(&mut overlay))?;
    let (_, new) = states_of(&case.disk, overlay)?;
    let after = table::read(&new, &LIMITS).expect("a grown table").expect("a grown table");
    let damage = after.findings().iter().find(|finding| finding.severity == Severity::Damage);
    assert!(damage.is_none(), "grown: {damage:?}");
    for one in growth {
        assert_eq!(after.partition(one.number).expect("it is still there").span, one.after);
    }
    Some(after)
}

fn assert_same(before: &Table, after: &Table) {
    assert_eq!(
        (before.id(), before.kind(), before.sector_size()),
        (after.id(), after.kind(), after.sector_size())
    );
    assert_eq!(before.partitions().len(), after.partitions().len());
    for (was, is) in before.partitions().iter().zip(after.partitions()) {
        assert_eq!(
            (was.number, was.span.start(), was.uuid, was.kind),
            (is.number, is.span.start(), is.uuid, is.kind)
        );
        assert_eq!((&was.name, was.attributes, was.bootable), (&is.name, is.attributes, is.bootable));
        assert!(is.span.contains(was.span));
    }
}

/// Fresh writes touch nothing that the table refers to, and no write touches a partition.
fn assert_stays_out(table: &Table, plan: &Plan) {
    let data = table.partitions().iter().filter(|part| part.role != Role::Extended).map(|part| part.span);
    let data: SpanSet = data.collect();
    let (fresh, home) = plan.writes();
    for write in fresh {
        assert!(!table.metadata().overlaps(write.span()), "fresh bytes over the table at {}", write.span());
    }
    for write in fresh.iter().chain(home) {
        assert!(!data.overlaps(write.span()), "a write into a partition at {}", write.span());
    }
}
