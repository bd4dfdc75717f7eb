//! A damaged copy of a GPT is made from the other one: `sgdisk` and `sfdisk` find nothing any more, and the bytes are
//! those from before.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic
)]

#[allow(dead_code, reason = "shared with the other test binaries")]
mod support;

use disk::{Limits, ReadAt};
use support::{Image, MIB};
use table::plan_repair;

const LEN: u64 = 64 * MIB;
/// MBR, primary header and entries; entries and header of the backup.
const HEAD: usize = 34 * 512;
const TAIL: usize = 33 * 512;

fn gpt() -> Image {
    let image = Image::new(LEN);
    image.write(0, &[0x90; 440]);
    image.sgdisk(&["-n", "1:2048:+4M", "-n", "2:20480:+4M", "-n", "3:40960:+4M", "-t", "3:8200"]);
    image
}

fn table_bytes(image: &Image) -> (Vec<u8>, Vec<u8>) {
    (image.bytes(0, HEAD), image.bytes(LEN - TAIL as u64, TAIL))
}

/// Mends; what was said.
fn mend(image: &Image) -> Vec<String> {
    let disk = image.disk();
    let table = table::read(&disk, &Limits::default()).unwrap().unwrap();
    let plan = plan_repair(&table, &disk, &Limits::default()).unwrap();
    let says = plan.sentences();
    assert_eq!(says.is_empty(), plan.is_empty());
    image.apply(plan, disk.len().get());
    says
}

#[test]
fn each_byte_of_one_copy() {
    let sound = gpt();
    let want = table_bytes(&sound);
    let header = (0..92).step_by(3);
    let ranges: Vec<(u64, usize)> = header
        .flat_map(|at| [(512 + at, 1), (LEN - 512 + at, 1)])
        .chain([(1024, 1), (1024 + 130, 4), (1024 + 16000, 1), (LEN - TAIL as u64 + 57, 9)])
        .chain([(512, 512), (1024, 16384), (512, HEAD - 512), (LEN - 512, 512), (LEN - TAIL as u64, TAIL)])
        .collect();
    let partitions = sound.table().partitions().to_vec();
    for (at, len) in ranges {
        let image = sound.copy();
        let damaged: Vec<u8> = image.bytes(at, len).iter().map(|byte| byte ^ 0x5a).collect();
        image.write(at, &damaged);
        let says = mend(&image);
        assert_eq!(says.len(), 1, "bytes {at}+{len}: {says:?}");
        assert!(table_bytes(&image) == want, "bytes {at}+{len}");
        assert_eq!(image.table().partitions(), partitions);
        assert_eq!(mend(&image), Vec::<String>::new(), "again");
    }
    sound.assert_clean();
    assert_eq!(mend(&sound), Vec::<String>::new());
}

#[test]
fn what_protects_the_gpt() {
    let sound = gpt();
    let want = sound.bytes(0, 512);
    for (at, len) in [(510, 2), (446, 66), (0, 512)] {
        let image = sound.copy();
        image.write(at, &vec![0; len]);
        assert_eq!(mend(&image).len(), 1, "{at}+{len}");
        image.assert_clean();
        let code = if at == 0 { 440 } else { 0 };
        assert_eq!(image.bytes(code as u64, 512 - code), want[code..], "{at}+{len}");
    }
    // Without the primary copy the slot alone says that there is a GPT.
    let image = sound.copy();
    image.write(512, &[0; HEAD - 512]);
    assert_eq!(mend(&image).len(), 1);
    assert_eq!(image.bytes(0, 512), want);
    image.assert_clean();
}

#[test]
fn copies_that_differ_follow_the_one_that_is_read() {
    let image = gpt();
    let old_backup = table_bytes(&image).1;
    image.sgdisk(&["-d", "2", "-c", "1:new"]);
    let want = table_bytes(&image);
    image.write(LEN - TAIL as u64, &old_backup);
    assert!(!image.damage().is_empty());
    assert_eq!(mend(&image).len(), 1);
    assert!(table_bytes(&image) == want);
    image.assert_clean();
}

#[test]
fn entries_that_were_moved_stay_where_they_are() {
    let sound = gpt();
    sound.sgdisk(&["-j", "512"]);
    let far = sound.bytes(0, 600 * 512);
    for at in [512 + 30, 512 * 512 + 3] {
        let image = sound.copy();
        image.write(1024, &[0xfa; 4096]); // somebody's boot loader
        let byte = image.bytes(at, 1)[0];
        image.write(at, &[!byte]);
        assert_eq!(mend(&image).len(), 1);
        assert_eq!(image.bytes(0, 1024), far[..1024]);
        assert_eq!(image.bytes(1024, 4096), [0xfa; 4096]);
        assert_eq!(image.bytes(512 * 512, 16384), far[512 * 512..][..16384]);
        image.assert_clean();
    }
}

#[test]
fn what_has_no_copy_is_left() {
    // Partitions that overlap, in both copies, with copies that differ besides.
    let image = gpt();
    image.sfdisk("label: dos\nstart=2048, size=8192, type=83\n");
    assert_eq!(mend(&image), Vec::<String>::new(), "an MBR");
    let image = gpt();
    let bytes = image.bytes(0, 512);
    image.write(512 + 40, &[1]).write(LEN - 512 + 40, &[1]);
    assert!(table::read(&image.disk(), &Limits::default()).is_err(), "no copy is whole");
    assert_eq!(image.bytes(0, 512), bytes);
}

#[test]
fn sectors_of_4096_bytes() {
    let image = Image::new_4k(64 * MIB);
    image.sgdisk(&["-n", "1:256:+4M"]);
    for at in [4096 + 9, 8192 + 5, 64 * MIB - 4096 + 60, 64 * MIB - 5 * 4096 + 7] {
        let copy = image.copy();
        copy.write(at, &[0x77]);
        assert_eq!(mend(&copy).len(), 1, "{at}");
        copy.assert_clean();
    }
}
