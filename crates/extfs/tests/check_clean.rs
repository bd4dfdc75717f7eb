//! No false alarm: every flavour as mke2fs fills it and as a kernel lives in it, on which e2fsck finds nothing.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a mistake here must stop the test")]

use disk::{Cancel, Cx, FileDev, Limits, Overlay, Quiet, ReadAt};
use extfs::Ext;
use extfs::check::{Report, Scope, check};
use testkit::images::{FLAVORS, Fill, flavor, make};
use testkit::kernel::copy_while_mounted;

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

/// A copy of a running guest's disk: files that were removed and are still open are no damage, neither are counts that
/// only the journal has right.
#[test]
fn a_running_guests_disk_is_clean_behind_its_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (image, copy) = (dir.path().join("image"), dir.path().join("copy"));
    for name in ["ext4-1k", "ext4-orphan-file", "ext3-1k"] {
        let flavor = flavor(name);
        make(flavor, flavor.usual_len(), Fill::Lived, &image);
        copy_while_mounted(&image, &copy, |root| {
            std::fs::create_dir(root.join("new")).unwrap();
            let open: Vec<_> = (0..20)
                .map(|i| {
                    let path = root.join(format!("new/file {i}"));
                    std::fs::write(&path, vec![7; 30_000]).unwrap();
                    let file = std::fs::File::open(&path).unwrap();
                    std::fs::remove_file(&path).unwrap();
                    file
                })
                .collect();
            std::fs::write(root.join("kept"), b"kept").unwrap();
            open
        });
        let disk = FileDev::new(std::fs::File::open(&copy).unwrap()).unwrap();
        let (cancel, limits) = (Cancel::new(), Limits::default());
        let before = report(&disk, Scope::Touched);
        assert!(before.notes().any(|note| note.to_string().contains("needs recovery")), "{name}: {before:?}");
        let mut overlay = Overlay::new(&disk, &limits);
        let cx = Cx { progress: &Quiet, cancel: &cancel, limits, now: 1_800_000_000 };
        extfs::recovered(&mut overlay, &cx).unwrap();
        let after = report(&overlay, Scope::Full);
        assert!(after.is_clean(), "{name}: {:#?}", after.damage().collect::<Vec<_>>());
    }
}
