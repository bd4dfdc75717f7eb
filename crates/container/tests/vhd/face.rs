//! What all containers have in common.

use super::*;
use container::probe::{for_reading, for_writing};
use container::{Container, Create, Error, Facts, Format};
use disk::Disk;
use ondisk::Classified;
use ondisk::guid::Uuid;
use testkit::vhd::{Block, Image};

/// One disk in all formats: made, filled, mapped, grown, read.
#[test]
fn every_format_grows_and_keeps_its_content() {
    let vhd = |kind| {
        Create::Vhd(container::vhd::create::Spec {
            len: Len::mib(6),
            uuid: Uuid([1; 16]),
            now: 1_700_000_000,
            kind,
            hidden: false,
        })
    };
    let makes = [
        Create::Raw(Len::mib(6)),
        vhd(container::vhd::create::New::Fixed),
        vhd(container::vhd::create::New::Dynamic),
        Create::Qcow2(container::qcow2::Create::new(Len::mib(6))),
    ];
    for make in makes {
        let format = make.format();
        let mut file = MemDisk::default();
        make.plan().unwrap().apply(&mut file).unwrap();
        let mut model = vec![0; 6 << 20];
        let file = changed(&file, |overlay| {
            let mut disk = Container::open(overlay, format, &limits()).unwrap();
            for at in [300_usize, 1 << 20, (6 << 20) - 900] {
                let bytes = testkit::images::noise(at as u64, 900);
                disk.write_at(Offset::new(at as u64), &bytes).unwrap();
                model[at..at + 900].copy_from_slice(&bytes);
            }
        });
        let old = Container::open(&file, format, &limits()).unwrap();
        assert_same(&all(&old), &model, format.name());
        let mut at = 0;
        for run in old.map() {
            let run = run.unwrap();
            assert_eq!(run.span.start().get(), at);
            at = run.span.end().get();
            assert!(run.data || model[run.span.start().get() as usize..at as usize].iter().all(|&b| b == 0));
        }
        assert_eq!(at, 6 << 20);
        assert!(old.check().unwrap().is_clean());
        let plan = old.plan_grow(Len::mib(9)).unwrap();
        assert_eq!(plan.new_len(), Len::mib(9));
        let grown = changed(&file, |overlay| plan.apply(overlay).unwrap());
        let new = Container::open(&grown, format, &limits()).unwrap();
        model.resize(9 << 20, 0);
        assert_same(&all(&new), &model, format.name());
        assert!(new.check().unwrap().is_clean());
        assert!(new.plan_grow(Len::mib(8)).is_err());
    }
}

#[test]
fn facts_show_both_sizes() {
    let image = Image { chs: (100, 16, 63), ..Image::dynamic(*b"vpc ", 60 << 20) };
    let file = mem(&image.build());
    let Facts::Vhd(facts) = Container::open(&file, Format::Vhd, &limits()).unwrap().facts() else { panic!() };
    assert_eq!((facts.current_size, facts.other_size), (Len::mib(60), Some(Len::mib(60))));
    let file = mem(&Image { creator: *b"win ", ..image }.build());
    let Facts::Vhd(facts) = Container::open(&file, Format::Vhd, &limits()).unwrap().facts() else { panic!() };
    assert_eq!(facts.other_size, Some(Len::new(100 * 16 * 63 * 512)));
    assert_eq!(facts.creator, "win ");
}

/// Attack 1: a guest writes a qcow2 header with a backing file into its raw disk.
#[test]
fn a_guest_cannot_turn_its_raw_disk_into_qcow2() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base.raw");
    std::fs::write(&base, [0; 1 << 20]).unwrap();
    let path = dir.path().join("disk.qcow2");
    let args =
        ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", base.to_str().unwrap(), path.to_str().unwrap()];
    testkit::tool::run("qemu-img", args);
    let file = load(&path);
    let error = for_writing(&file, Some("vm.img"), None).unwrap_err();
    assert!(
        matches!(error, Error::Ambiguous { .. }) && error.help().unwrap().contains("-f qcow2"),
        "{error}"
    );
    assert_eq!(for_writing(&file, Some("vm.raw"), None).unwrap(), Format::Raw);
    assert_eq!(for_writing(&file, Some("vm.qcow2"), None).unwrap(), Format::Qcow2);
    assert_eq!(for_reading(&file, Some("vm.img"), None).unwrap(), Format::Qcow2);
    // Only the magic, or two formats at once: nobody can tell.
    let magic = mem(&[&b"QFI\xfb\0\0\0\x03"[..], &[0; 4096]].concat());
    assert!(matches!(for_reading(&magic, None, None).unwrap_err(), Error::Ambiguous { .. }));
    let mut both =
        Image { kind: 2, blocks: vec![Block::whole(0)], ..Image::dynamic(*b"win ", 4 << 20) }.build();
    let head = file.to_vec();
    both[..head.len()].copy_from_slice(&head);
    assert!(matches!(for_reading(&mem(&both), None, None).unwrap_err(), Error::Ambiguous { .. }));
}
