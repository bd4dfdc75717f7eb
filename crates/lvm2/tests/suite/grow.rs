//! Growing, beside what `pvresize` and `lvextend` make of a copy.

use crate::support::{MIB, NOW, Set, our_report};
use disk::{Limits, Overlay};
use lvm2::{By, Change, Draft, ExtentCount, plan_commit, plan_grow_lv, plan_grow_pv};
use ondisk::{Class, Classified, Len, Offset};

const ROOT: &[&str] = &["-l", "9", "-n", "root", "vg"];
const SWAP: &[&str] = &["-l", "3", "-n", "swap", "vg"];

/// What the tools make of a copy whose devices have those lengths.
fn theirs(set: &Set, lens: &[u64], lvextend: &[&str]) -> Vec<Vec<String>> {
    let copy = set.copy();
    lens.iter().enumerate().for_each(|(number, len)| copy.set_len(number, *len));
    copy.tools(|lvm| {
        for number in 0..lens.len() {
            lvm.run(&["pvresize", "-q", &format!("dev{number}")]);
        }
        if !lvextend.is_empty() {
            lvm.run(&[&["lvextend", "-q", "--driverloaded", "n", "-y"], lvextend].concat());
        }
    });
    copy.report()
}

/// What we make of it.
fn ours(set: &Set, lens: &[u64], lv: &str, by: By) -> lvm2::Plan {
    lens.iter().enumerate().for_each(|(number, len)| set.set_len(number, *len));
    let numbers: Vec<_> =
        set.vg().pvs().iter().enumerate().map(|(number, pv)| (number, pv.disk().unwrap())).collect();
    let plan = set.change(|draft| {
        for (number, disk) in numbers {
            plan_grow_pv(draft, number, Len::new(lens[disk]))?;
        }
        plan_grow_lv(draft, lv, by)
    });
    plan.unwrap()
}

fn count(extents: u64) -> By {
    By::Extents(ExtentCount(extents))
}

/// Both do the same; the tools are content; a second time nothing is left to do.
fn assert_same(set: &Set, lens: &[u64], lv: &str, by: By, lvextend: &[&str]) -> lvm2::Plan {
    let expect = theirs(set, lens, lvextend);
    let before = set.vg();
    let plan = ours(set, lens, lv, by);
    set.assert_clean();
    assert_eq!(set.report(), expect);
    let after = set.vg();
    assert_eq!(our_report(&after), expect);
    assert_eq!(after.seqno(), before.seqno() + 1, "one commit for all of it");
    if by == By::AllFree {
        let again = set.change(|draft| {
            plan_grow_pv(draft, 0, Len::new(lens[0]))?;
            plan_grow_lv(draft, lv, By::AllFree)
        });
        assert!(again.unwrap().is_empty());
    }
    plan
}

#[test]
fn the_last_volume_takes_what_the_device_gained() {
    for (options, extent) in [
        (&[][..], "4m"),
        (&[], "4k"),
        (&[], "64m"),
        (&["--pvmetadatacopies", "2"], "4m"),
        (&["--metadatasize", "10M"], "4m"),
        (&["--metadatasize", "10M", "--pvmetadatacopies", "2"], "1m"),
        (&["--dataalignmentoffset", "7s"], "128k"),
        (&["--bootloaderareasize", "2M"], "1m"),
    ] {
        let (old, new) = (2000 * MIB + 512, 3000 * MIB + 1536);
        let set = Set::with_vg(&[old], options, &["-s", extent], &[SWAP, ROOT]);
        let plan = assert_same(&set, &[new], "root", By::AllFree, &["-l", "+100%FREE", "vg/root"]);
        assert!(plan.changes().iter().any(|one| matches!(one, Change::Lv { segments: 0, .. })), "{plan:?}");
        assert!(plan.sentences().iter().all(|text| !text.is_empty()));
    }
}

#[test]
fn a_volume_in_front_of_another_gets_a_new_segment() {
    let set = Set::with_vg(&[200 * MIB], &[], &[], &[ROOT, SWAP]);
    let plan = assert_same(&set, &[300 * MIB], "root", count(30), &["-l", "+30", "vg/root"]);
    assert!(matches!(plan.changes(), [Change::Pv { .. }, Change::Lv { segments: 1, .. }]), "{plan:?}");
    // Further growth makes that segment longer.
    let plan = assert_same(&set, &[400 * MIB], "root", By::AllFree, &["-l", "+100%FREE", "vg/root"]);
    assert!(matches!(plan.changes(), [Change::Pv { .. }, Change::Lv { segments: 0, .. }]), "{plan:?}");
}

#[test]
fn to_a_size() {
    let set = Set::with_vg(&[200 * MIB], &[], &[], &[SWAP, ROOT]);
    let by = By::To(Len::new(101 * MIB + 1));
    assert_same(&set, &[300 * MIB], "root", by, &["-L", "104m", "vg/root"]);
    let same = set.change(|draft| plan_grow_lv(draft, "root", By::To(Len::new(104 * MIB))));
    assert!(same.unwrap().is_empty());
    let error = set.change(|draft| plan_grow_lv(draft, "root", By::To(Len::new(100 * MIB)))).unwrap_err();
    assert_eq!(error.to_string(), "logical volume vg/root has 26 extents, growing cannot give it 25");
    let error = set.change(|draft| plan_grow_lv(draft, "root", count(1000))).unwrap_err();
    let expect = "logical volume vg/root needs 1000 more extents, 45 are free where it can use them";
    assert_eq!((error.to_string().as_str(), error.class()), (expect, Class::Refused));
}

#[test]
fn stripes_stay_on_their_devices() {
    let stripes: &[&str] = &["-i", "2", "-I", "64k", "-l", "8", "-n", "two", "vg", "dev0", "dev1"];
    let lens = [100 * MIB, 100 * MIB, 100 * MIB];
    let set = Set::with_vg(&lens, &[], &[], &[stripes]);
    let grown = [200 * MIB, 150 * MIB, 100 * MIB];
    let plan = assert_same(&set, &grown, "two", count(21), &["-l", "+21", "vg/two"]);
    assert!(plan.changes().iter().any(|one| matches!(one, Change::Lv { segments: 0, .. })), "{plan:?}");
    // Another volume behind it: a new segment, over the same two.
    set.tools(|lvm| lvm.lvcreate(&["-l", "1", "-n", "wall", "vg", "dev0"]));
    assert_same(&set, &grown, "two", count(10), &["-l", "+10", "vg/two"]);
    // All that the smaller one has left.
    let plan = ours(&set, &grown, "two", By::AllFree);
    assert!(!plan.is_empty());
    set.assert_clean();
    assert_eq!(our_report(&set.vg()), set.report());
    assert_eq!(set.vg().lv("two").unwrap().extents(), ExtentCount(2 * 37));
    let error = set.change(|draft| plan_grow_lv(draft, "two", count(1))).unwrap_err();
    assert!(error.to_string().contains("needs 2 more extents, 0 are free"), "{error}");
}

#[test]
fn free_runs_in_pieces_are_all_taken() {
    let set = Set::with_vg(&[100 * MIB, 100 * MIB], &[], &["-s", "1m"], &[]);
    set.tools(|lvm| {
        for (name, place) in
            [("a", "dev0:5-9"), ("b", "dev0:30-34"), ("c", "dev1:50-54"), ("root", "dev0:10-14")]
        {
            lvm.lvcreate(&["-l", "5", "-n", name, "vg", place]);
        }
    });
    ours(&set, &[120 * MIB, 130 * MIB], "root", By::AllFree);
    set.assert_clean();
    let vg = set.vg();
    assert_eq!(our_report(&vg), set.report());
    assert_eq!(vg.free(), Len::ZERO);
    assert_eq!(vg.lv("root").unwrap().extents(), ExtentCount(119 + 129 - 15));
}

#[test]
fn many_changes_turn_the_ring() {
    let area = &["--metadatasize", "36k", "--dataalignment", "4k", "--pvmetadatacopies", "2"];
    let set = Set::with_vg(&[200 * MIB], area, &[], &[SWAP, &["-l", "1", "-n", "root", "vg"]]);
    for round in 0..30 {
        if round % 2 == 0 {
            ours(&set, &[200 * MIB], "root", count(1));
        } else {
            set.tools(|lvm| lvm.run(&["lvextend", "-q", "--driverloaded", "n", "-l", "+1", "vg/root"]));
        }
        assert_eq!(set.findings(), []);
    }
    set.assert_clean();
    let vg = set.vg();
    assert_eq!((vg.seqno(), vg.lv("root").unwrap().extents()), (33, ExtentCount(31)));
    assert_eq!(our_report(&vg), set.report());
}

#[test]
fn small_growth_of_a_device_with_two_areas() {
    // The new area overlaps the old one.
    for more in [4096, 300 << 10, MIB, 5 * MIB] {
        let set = Set::with_vg(&[64 * MIB], &["--pvmetadatacopies", "2"], &["-s", "4k"], &[ROOT]);
        let grown = 64 * MIB + more;
        ours(&set, &[grown], "root", By::AllFree);
        set.assert_clean();
        assert_eq!(our_report(&set.vg()), set.report());
        let areas: Vec<_> = set.vg().pvs()[0].metadata_areas().collect();
        assert_eq!(areas[1].end(), Offset::new(grown), "{more}");
        let found = set.tools(|lvm| lvm.run(&["pvck", "--dump", "headers", "dev0"]));
        assert_eq!(found.matches("# vgname vg seqno 3").count(), 2, "{found}");
    }
}

#[test]
fn nothing_is_gained_by_less_than_an_extent() {
    let set = Set::with_vg(&[64 * MIB], &[], &[], &[ROOT]);
    set.set_len(0, 64 * MIB + 512);
    let plan = set.change(|draft| plan_grow_pv(draft, 0, Len::new(64 * MIB)));
    assert!(matches!(plan, Err(lvm2::Error::Short { .. })), "{plan:?}");
    let plan = set.change(|draft| plan_grow_pv(draft, 0, Len::new(65 * MIB - 512))).unwrap();
    assert!(plan.is_empty() && plan.devices().is_empty());
}

#[test]
fn unknown_words_stay_and_the_journal_stays_small() {
    let set = Set::with_vg(&[200 * MIB], &["--metadatasize", "10M"], &["--addtag", "a.b"], &[SWAP, ROOT]);
    set.tools(|lvm| lvm.run(&["lvchange", "-q", "--addtag", "t1", "vg/root"]));
    let before = set.tools(|lvm| lvm.text("dev0"));
    set.set_len(0, 300 * MIB);
    let vg = set.vg();
    let mut draft = Draft::of(&vg, &Limits::default()).unwrap();
    plan_grow_pv(&mut draft, 0, Len::new(300 * MIB)).unwrap();
    plan_grow_lv(&mut draft, "root", count(5)).unwrap();
    assert_eq!(draft.vg().lv("root").unwrap().extents(), ExtentCount(14));
    let plan = plan_commit(draft, NOW).unwrap();
    let disks = set.disks();
    let mut overlay = Overlay::new(&disks[0], &Limits::default());
    plan.apply(0, &mut overlay).unwrap();
    let change = overlay.into_change().unwrap();
    // Label and header; the text goes where nothing was.
    let home: u64 = change.home.iter().map(|write| write.span().len().get()).sum();
    assert!(home <= 1024, "{:?}", change.home);
    for write in change.fresh.iter().chain(&change.home) {
        let disk::Data::Bytes(bytes) = &write.data else { panic!("{write:?}") };
        set.write(0, write.at.get(), bytes);
    }
    let after = set.tools(|lvm| lvm.text("dev0"));
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (before, after) = (lines(&before), lines(&after));
    assert_eq!(before.len(), after.len());
    let changed: Vec<_> =
        before.iter().zip(&after).filter(|(old, new)| old != new).map(|(_, new)| new.as_str()).collect();
    assert_eq!(
        changed,
        [
            "seqno = 5",
            "dev_size = 614400",
            "pe_count = 72",
            "extent_count = 14",
            "description = \"imgtool grew pv0, vg/root\"",
            "creation_time = 1700000000",
        ]
    );
}

#[test]
fn a_text_must_fit_twice() {
    let area = &["--metadatasize", "36k", "--dataalignment", "4k"];
    let set = Set::with_vg(&[200 * MIB], area, &["-s", "4k"], &[]);
    let names: Vec<String> = (0..40).map(|number| format!("volume-with-a-long-name-{number}")).collect();
    set.tools(|lvm| names.iter().for_each(|name| lvm.lvcreate(&["-l", "1", "-n", name, "vg"])));
    let mut grown = 0;
    let error = names.iter().cycle().find_map(|name| {
        grown += 1;
        set.change(|draft| plan_grow_lv(draft, name, count(1))).err()
    });
    let error = error.unwrap();
    assert!(error.to_string().starts_with("the new metadata take "), "{error}");
    assert!(grown > 20, "{grown}");
    assert_eq!(error.class(), Class::Refused);
    set.assert_clean();
}

#[test]
fn policies_are_obeyed() {
    let contiguous: &[&str] = &["--alloc", "contiguous", "-l", "9", "-n", "root", "vg", "dev0"];
    let set = Set::with_vg(
        &[100 * MIB, 100 * MIB],
        &[],
        &[],
        &[contiguous, &["-l", "3", "-n", "swap", "vg", "dev0"]],
    );
    let error = set.change(|draft| plan_grow_lv(draft, "root", count(1))).unwrap_err();
    assert_eq!(error.to_string(), "logical volume vg/root needs 1 more extents, 0 are free right behind it");
    set.tools(|lvm| lvm.run(&["lvchange", "-q", "--alloc", "cling", "vg/root"]));
    assert!(set.change(|draft| plan_grow_lv(draft, "root", count(13))).is_err());
    assert!(!set.change(|draft| plan_grow_lv(draft, "root", count(12))).unwrap().is_empty());
    set.assert_clean();
    // Nothing comes from a device that must not give.
    set.tools(|lvm| lvm.run(&["pvchange", "-q", "-xn", "dev1"]));
    let error = set.change(|draft| plan_grow_lv(draft, "swap", count(1))).unwrap_err();
    assert!(error.to_string().contains("0 are free"), "{error}");
    let error = set.change(|draft| plan_grow_pv(draft, 1, Len::new(200 * MIB))).unwrap_err();
    assert!(
        error.to_string().contains("physical volume pv1 of volume group vg is not allocatable"),
        "{error}"
    );
}

#[test]
fn volume_groups_that_are_left_alone() {
    let cases: &[(&[&str], &str)] =
        &[(&["vgchange", "-xn", "vg"], "is not resizeable"), (&["vgexport", "vg"], "is exported")];
    for (command, why) in cases {
        let set = Set::with_vg(&[64 * MIB], &[], &[], &[ROOT]);
        set.tools(|lvm| lvm.run(command));
        let error = set.change(|draft| plan_grow_lv(draft, "root", count(1))).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(error.class(), Class::Refused);
    }
    let set = Set::with_vg(&[64 * MIB], &[], &[], &[ROOT]);
    let error = set.change(|draft| plan_grow_lv(draft, "no\x1b", count(1))).unwrap_err();
    assert_eq!(error.to_string(), "volume group vg has no logical volume no\\x1b");
    assert_eq!(error.class(), Class::Usage);
    let error = set.change(|draft| plan_grow_pv(draft, 1, Len::new(64 * MIB))).unwrap_err();
    assert_eq!(error.class(), Class::Usage);
}
