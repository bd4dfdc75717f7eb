//! No false alarm: every flavour as mke2fs fills it and as a kernel lives in it, on which e2fsck finds nothing.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a mistake here must stop the test")]

use disk::{Cancel, Cx, FileDev, Limits, Quiet, ReadAt};
use extfs::Ext;
use extfs::check::{Report, Scope, check};
use testkit::images::{FLAVORS, Fill, make};

fn report(disk: impl ReadAt, scope: Scope) -> Report {
    let (cancel, limits) = (Cancel::new(), Limits::default());
    let cx = Cx { progress: &Quiet, cancel: &cancel, limits, now: 1_800_000_000 };
    check(&Ext::open(disk, &limits).unwrap(), scope, &cx).unwrap()
}

#[test]
fn sound_filesystems_are_clean() {
    let only = std::env::var("EXTFS_FLAVOR").ok();
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let mut alarms = Vec::new();
    for flavor in FLAVORS.iter().filter(|flavor| only.as_deref().is_none_or(|only| only == flavor.name)) {
        make(flavor, flavor.usual_len(), Fill::Lived, &image);
        for scope in [Scope::Touched, Scope::Full] {
            let disk = FileDev::new(std::fs::File::open(&image).unwrap()).unwrap();
            let report = report(disk, scope);
            alarms.extend(
                report.damage().take(5).map(|finding| format!("{} {scope:?}: {finding}", flavor.name)),
            );
            alarms.extend(report.notes().map(|note| format!("{} {scope:?}: note {note}", flavor.name)));
            let stats = report.stats;
            assert!(
                scope == Scope::Touched || stats.inodes > 20 && stats.dirs > 5 && stats.clusters > 20,
                "{stats:?}"
            );
        }
    }
    assert!(alarms.is_empty(), "{alarms:#?}");
}
