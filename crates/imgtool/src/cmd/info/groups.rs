//! The volume groups in the picture of a disk.

use super::{content_json, push_content};
use crate::render::Tree;
use lvm2::{Lv, Severity, Vg};
use ondisk::size::Human;
use serde_json::{Map, Value, json};
use stack::{Layout, Volume, VolumeId};

/// Every volume group with its physical and logical volumes.
pub(super) fn push(tree: &mut Tree, layout: &Layout) {
    for vg in layout.groups.all() {
        tree.push(
            1,
            format!(
                "volume group {}, {} in extents of {}, {} free, UUID {}",
                vg.name(),
                Human(vg.len()),
                vg.extent_size(),
                Human(vg.free()),
                vg.uuid()
            ),
        );
        for pv in vg.pvs() {
            let place =
                layout.groups.carrier(pv).map_or_else(|| "missing".to_owned(), |id| format!("on {id}"));
            tree.push(2, format!("physical volume {}, {} extents, {place}", pv.name(), pv.extents()));
        }
        for lv in vg.lvs().iter().filter(|lv| lv.is_visible()) {
            tree.push(2, format!("logical volume {}, {}, {}", lv.name(), lv.kind(), Human(vg.len_of(lv))));
            match volume_of(layout, vg, lv) {
                Some(volume) => push_content(tree, 3, volume),
                None => tree.push(3, not_mapped(layout, vg, lv)),
            }
        }
    }
    for finding in layout.groups.findings() {
        let severity = if finding.severity == Severity::Damage { "damage" } else { "note" };
        tree.push(1, format!("{severity}: {}", finding.text));
    }
}

fn volume_of<'l>(layout: &'l Layout, vg: &Vg, lv: &Lv) -> Option<&'l Volume> {
    layout.volume(&VolumeId::Logical { vg: vg.name().to_owned(), lv: lv.name().to_owned() })
}

/// Why a logical volume's content cannot be seen.
fn not_mapped(layout: &Layout, vg: &Vg, lv: &Lv) -> String {
    match layout.groups.region(vg, lv) {
        Ok(_) => format!("another volume group is called {} as well", vg.name()),
        Err(error) => format!("not looked into: {error}"),
    }
}

/// The words of LVM's own reports, in bytes.
pub(super) fn json(layout: &Layout) -> Value {
    layout.groups.all().iter().map(|vg| group_json(layout, vg)).collect()
}

fn group_json(layout: &Layout, vg: &Vg) -> Value {
    let pv = |pv: &lvm2::Pv| {
        json!({
            "name": pv.name(),
            "uuid": pv.uuid().to_string(),
            "place": layout.groups.carrier(pv).map(ToString::to_string),
            "extents": pv.extents().0,
            "data-start": pv.data_start().get(),
        })
    };
    let lv = |lv: &Lv| {
        let mut object = Map::new();
        object.insert("name".to_owned(), lv.name().into());
        object.insert("uuid".to_owned(), lv.uuid().to_string().into());
        object.insert("size".to_owned(), vg.len_of(lv).get().into());
        object.insert("type".to_owned(), lv.kind().into());
        match volume_of(layout, vg, lv) {
            Some(volume) => object.insert("content".to_owned(), content_json(volume)),
            None => object.insert("unread".to_owned(), not_mapped(layout, vg, lv).into()),
        };
        Value::Object(object)
    };
    json!({
        "name": vg.name(),
        "uuid": vg.uuid().to_string(),
        "seqno": vg.seqno(),
        "extent-size": vg.extent_size().len().get(),
        "size": vg.len().get(),
        "free": vg.free().get(),
        "physical-volumes": vg.pvs().iter().map(pv).collect::<Vec<_>>(),
        "logical-volumes": vg.lvs().iter().filter(|one| one.is_visible()).map(lv).collect::<Vec<_>>(),
        "findings": vg.findings().iter().map(|one| one.text.clone()).collect::<Vec<_>>(),
    })
}
