//! Volume groups made by LVM2's tools: what we read is what they report.

use crate::support::{MIB, Set, our_report, read, refs};
use disk::{Linear, ReadAt, Stripes};
use lvm2::{Mapping, Severity};
use ondisk::{Class, Classified, Len, Offset};

#[test]
fn sizes_and_layouts() {
    for extent in ["4k", "128k", "1m", "4m", "64m"] {
        let len = if extent == "64m" { 2048 * MIB } else { 300 * MIB + 1536 };
        let root: &[&str] = &["-l", "9", "-n", "root", "vg"];
        let set = Set::with_vg(&[len], &[], &["-s", extent], &[root, &["-l", "3", "-n", "sw_a-p", "vg"]]);
        assert_eq!(our_report(&set.vg()), set.report(), "{extent}");
        set.assert_clean();
    }
}

#[test]
fn areas_of_all_kinds() {
    let pvcreate: &[&[&str]] = &[
        &["--metadatasize", "10M"],
        &["--metadatasize", "64k", "--dataalignment", "64k"],
        &["--pvmetadatacopies", "2"],
        &["--bootloaderareasize", "2M"],
        &["--dataalignmentoffset", "7s"],
    ];
    for options in pvcreate {
        let set = Set::with_vg(&[200 * MIB], options, &[], &[&["-l", "9", "-n", "root", "vg"]]);
        assert_eq!(our_report(&set.vg()), set.report(), "{options:?}");
        set.assert_clean();
    }
}

#[test]
fn a_label_in_another_sector() {
    let set = Set::with_vg(&[64 * MIB], &["--labelsector", "3"], &[], &[&["-l", "9", "-n", "root", "vg"]]);
    assert_eq!(our_report(&set.vg()), set.report());
    assert_eq!(set.findings(), []);
}

#[test]
fn the_ring_turns() {
    for copies in ["1", "2"] {
        let area = &["--metadatasize", "36k", "--dataalignment", "4k", "--pvmetadatacopies", copies];
        let set = Set::with_vg(&[200 * MIB], area, &[], &[&["-l", "9", "-n", "root", "vg"]]);
        let mut wrapped = 0;
        for round in 0..40 {
            let (old, new) = if round % 2 == 0 { ("root", "other") } else { ("other", "root") };
            let rename = ["lvrename", "-q", "--driverloaded", "n", "vg", old, new];
            set.tools(|lvm| {
                (lvm.run(&rename), lvm.run(&["vgchange", "-q", "--addtag", &format!("t{round}"), "vg"]))
            });
            let vg = set.vg();
            assert_eq!(vg.findings(), []);
            assert_eq!(u64::from(vg.seqno()), 4 + 2 * round);
            assert_eq!(vg.lvs()[0].name(), new);
            let at = u64::from_le_bytes(set.bytes(0, 4096 + 40, 8).try_into().unwrap());
            let size = u64::from_le_bytes(set.bytes(0, 4096 + 48, 8).try_into().unwrap());
            let end = u64::from_le_bytes(set.bytes(0, 4096 + 32, 8).try_into().unwrap());
            wrapped += usize::from(at + size > end);
        }
        assert!(wrapped > 0, "no text passed the end of its area");
        assert_eq!(our_report(&set.vg()), set.report());
    }
}

#[test]
fn stripes_segments_and_several_devices() {
    let set = many();
    assert_eq!(our_report(&set.vg()), set.report());
    set.assert_clean();
    let vg = set.vg();
    assert!(vg.lvs().iter().any(|lv| lv.segments().len() > 2), "a volume in pieces");
    assert!(vg.lvs().iter().any(|lv| lv.kind() == "striped"));
}

/// Three devices: a striped volume, one in pieces, one over two devices.
fn many() -> Set {
    let set = Set::with_vg(&[60 * MIB, 80 * MIB, 70 * MIB], &["--pvmetadatacopies", "2"], &["-s", "1m"], &[]);
    set.tools(|lvm| {
        lvm.lvcreate(&["-l", "9", "-n", "a", "vg", "dev0:10-20"]);
        lvm.lvcreate(&["-l", "20", "-n", "pieces", "vg", "dev0:0-4", "dev0:30-34", "dev1:7-9", "dev1:0-6"]);
        lvm.lvcreate(&["-i", "3", "-I", "64k", "-l", "12", "-n", "striped", "vg"]);
        lvm.lvcreate(&["-i", "2", "-I", "4k", "-l", "6", "-n", "two", "vg", "dev1", "dev2"]);
    });
    set
}

#[test]
fn bytes_lie_where_the_kernel_would_look() {
    // Each extent is filled with its number, each stripe's turn with the turn's.
    let set = many();
    let vg = set.vg();
    for (number, pv) in vg.pvs().iter().enumerate() {
        for extent in 0..pv.extents().0 {
            let chunk = |kib: u64| u8::try_from((extent * 256 + kib / 4 + number as u64 * 77) % 251).unwrap();
            let bytes: Vec<u8> = (0..MIB).map(|byte| chunk(byte >> 10)).collect();
            set.write(pv.disk().unwrap(), pv.data_start().get() + extent * MIB, &bytes);
        }
    }
    // One device of all of them, as a disk with partitions.
    let mut whole = Vec::new();
    let mut starts = Vec::new();
    for disk in set.disks() {
        starts.push(whole.len() as u64);
        let mut bytes = vec![0; disk.len().to_usize()];
        disk.read_at(Offset::ZERO, &mut bytes).unwrap();
        whole.extend(bytes);
    }
    let whole = disk::MemDisk::from_bytes(&whole);
    for lv in vg.lvs() {
        let parts = vg.map(lv).unwrap().into_iter().map(|part| Stripes {
            stripe: part.stripe,
            spans: part
                .spans
                .iter()
                .map(|(disk, span)| span.shifted(Len::new(starts[*disk])).unwrap())
                .collect(),
        });
        let view = Linear::new(&whole, parts).unwrap();
        assert_eq!(view.len(), vg.len_of(lv));
        let table = dm_table(&vg, lv.name());
        for sector in (0..view.len().get() / 512).step_by(3) {
            let (disk, at) = translate(&table, sector);
            let mut got = [0; 512];
            view.read_at(Offset::new(sector * 512), &mut got).unwrap();
            assert_eq!(got.as_slice(), set.bytes(disk, at * 512, 512), "{} sector {sector}", lv.name());
        }
    }
}

/// A line of a device-mapper table: start, length, chunk in sectors, and device and start of each stripe.
type Line = (u64, u64, u64, Vec<(usize, u64)>);

/// The table that would be loaded for a logical volume, by the words of the kernel's documentation.
fn dm_table(vg: &lvm2::Vg, name: &str) -> Vec<Line> {
    let extent = vg.extent_size().len().get() / 512;
    let segments = vg.lv(name).unwrap().segments().iter();
    let line = |segment: &lvm2::Segment| {
        let Mapping::Striped { stripe, areas } = &segment.mapping else { panic!() };
        let stripes = areas.iter().map(|area| {
            let pv = &vg.pvs()[area.pv];
            (pv.disk().unwrap(), pv.data_start().get() / 512 + area.extents.first.0 * extent)
        });
        let (start, len) = (segment.extents.first.0 * extent, segment.extents.count.0 * extent);
        (start, len, stripe.get() / 512, stripes.collect())
    };
    segments.map(line).collect()
}

fn translate(table: &[Line], sector: u64) -> (usize, u64) {
    let (start, _, chunk, stripes) =
        table.iter().find(|line| (line.0..line.0 + line.1).contains(&sector)).expect("a mapped sector");
    let at = sector - start;
    if stripes.len() == 1 {
        return (stripes[0].0, stripes[0].1 + at);
    }
    let turn = at / chunk;
    let (device, first) = stripes[(turn % stripes.len() as u64) as usize];
    (device, first + turn / stripes.len() as u64 * chunk + at % chunk)
}

#[test]
fn a_missing_device_is_named() {
    let set = many();
    let disks = set.disks();
    let volumes = read(&disks[..2]);
    let [vg] = volumes.vgs.as_slice() else { panic!() };
    let missing: Vec<_> = vg.missing().map(lvm2::Pv::name).collect();
    assert_eq!(missing, ["pv2"]);
    let error = lvm2::Draft::of(vg, &disk::Limits::default()).unwrap_err();
    assert_eq!(error.class(), Class::Refused);
    assert!(
        error.to_string().starts_with("volume group vg needs a physical volume that is not here: pv2 ("),
        "{error}"
    );
    let kinds: Vec<bool> = vg.lvs().iter().map(|lv| vg.map(lv).is_ok()).collect();
    assert_eq!(kinds, [true, true, false, false]);
    let error = vg.map(vg.lv("striped").unwrap()).unwrap_err();
    assert!(error.to_string().contains("logical volume vg/striped: physical volume pv2"), "{error}");
    assert!(vg.findings().iter().all(|finding| finding.severity == Severity::Note));
}

#[test]
fn what_belongs_to_nobody() {
    let set = Set::new(&[64 * MIB, 64 * MIB, 64 * MIB]);
    set.tools(|lvm| {
        lvm.run(&["pvcreate", "dev0"]);
        lvm.run(&["pvcreate", "--metadatacopies", "0", "dev1"]);
        lvm.run(&["pvcreate", "dev2"]);
        lvm.run(&["vgcreate", "vg", "dev1", "dev2"]);
    });
    let volumes = set.volumes();
    assert_eq!((volumes.orphans.as_slice(), volumes.vgs.len()), ([0].as_slice(), 1));
    assert_eq!(set.findings(), []);
    // Alone, the device without a metadata area does not know its volume group.
    let disks = set.disks();
    let volumes = lvm2::read(&refs(&disks[..2]), &disk::Limits::default()).unwrap();
    assert_eq!((volumes.orphans.as_slice(), volumes.vgs.len()), ([0, 1].as_slice(), 0));
    assert!(volumes.findings[0].text.contains("a volume group has it, which is not here"));
    // No label at all.
    let empty = disk::MemDisk::from_bytes(&[0; 3000]);
    assert!(lvm2::read(&[&empty], &disk::Limits::default()).unwrap().vgs.is_empty());
}

#[test]
fn ignored_areas_are_passed_over() {
    let set =
        Set::with_vg(&[64 * MIB; 3], &[], &["--vgmetadatacopies", "1"], &[&["-l", "3", "-n", "root", "vg"]]);
    assert_eq!(our_report(&set.vg()), set.report());
    set.assert_clean();
}
