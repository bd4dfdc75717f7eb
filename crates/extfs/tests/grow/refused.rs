//! What will not be grown, by name, and what damage and lies do: never a panic, never a write.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::kit::{LIMITS, cx, grow, plan};
use disk::{Cancel, Disk, FileDev, MemDisk, Sparse};
use extfs::resize::{GrowOptions, plan_grow};
use extfs::{BlockCount, Error, Ext, Object, Part};
use ondisk::{Class, Classified, Len, Offset};
use testkit::images::{Fill, flavor, make};
use testkit::oracle::{assert_clean, debugfs};
use testkit::tool::{output, run};

fn image(name: &str, dir: &Path) -> PathBuf {
    let image = dir.join(name);
    make(flavor(name), flavor(name).usual_len(), Fill::Tree, &image);
    image
}

/// The error of growing an image to that many blocks; its bytes stay.
fn refused(image: &Path, to: u64, options: GrowOptions) -> Error {
    let before = blake(image);
    let error = plan(image, BlockCount(to), options).expect_err("must be refused");
    assert_eq!(before, blake(image));
    error
}

fn blake(image: &Path) -> Vec<u8> {
    std::fs::read(image).unwrap()
}

#[track_caller]
fn expect(error: &Error, class: Class, text: &str) {
    assert_eq!(error.class(), class, "{error}");
    assert!(error.to_string().contains(text), "{error}");
}

#[test]
fn states_that_are_not_settled() {
    let dir = tempfile::tempdir().unwrap();
    let default = GrowOptions::default();
    for (command, text) in [
        ("feature needs_recovery", "journal must be replayed"),
        ("ssv last_orphan 12", "orphaned files"),
        ("ssv state 2", "marked as having errors"),
        ("ssv state 0", "not unmounted cleanly"),
    ] {
        let image = image("ext4-1k", dir.path());
        let _ = debugfs(&image, Offset::ZERO, true, command);
        expect(&refused(&image, 100_000, default), Class::Refused, text);
    }
    let image = image("ext4-mmp", dir.path());
    let fs = Ext::open(FileDev::new(File::open(&image).unwrap()).unwrap(), &LIMITS).unwrap();
    let block = fs.sb().mmp_block().unwrap();
    let mut bytes = fs.read_block(Part::Mmp(block), block).unwrap();
    bytes[4..8].copy_from_slice(&[1, 0, 0, 0]);
    bytes[16..24].copy_from_slice(b"evil\x1b[m\0");
    fs.sb().sums().seal(Object::Mmp, &mut bytes);
    let at = fs.geom().block_size.offset_of(block).unwrap();
    File::options().write(true).open(&image).unwrap().write_all_at(&bytes, at.get()).unwrap();
    let error = refused(&image, 100_000, default);
    expect(&error, Class::InUse, "mmp");
    assert!(!error.to_string().contains('\x1b'));
}

#[test]
fn sizes_that_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let default = GrowOptions::default();
    let four = image("ext4-uninit-bg", dir.path());
    expect(&refused(&four, 1000, default), Class::Usage, "fewer");
    expect(&refused(&four, (1 << 32) + 1, default), Class::Refused, "64bit");
    let clipped = plan(&four, BlockCount(1 << 32), default).unwrap();
    assert!(clipped.new.blocks.0 < 1 << 32);
    assert!(plan(&four, clipped.old.blocks, default).unwrap().is_empty());
    let few = dir.path().join("few");
    File::create(&few).unwrap().set_len(64 << 20).unwrap();
    let few_args = ["-q", "-F", "-t", "ext4", "-b", "1024", "-E", "resize=200000", few.to_str().unwrap()];
    run("mke2fs", few_args);
    let legacy = GrowOptions { legacy_boot: true };
    assert!(plan(&few, BlockCount(400_000), default).unwrap().converts_to_meta_bg());
    assert!(!plan(&few, BlockCount(400_000), legacy).unwrap().converts_to_meta_bg());
    let clusters = image("ext4-bigalloc-1k", dir.path());
    expect(&refused(&clusters, 200 << 20, legacy), Class::Refused, "bigalloc");
}

#[test]
fn sixty_four_tebibytes_and_more() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("dense");
    File::create(&image).unwrap().set_len(Len::gib(4).get()).unwrap();
    // 16384 inodes in a group of 128 MiB: 2^32 of them are reached at 32 TiB.
    run(
        "mke2fs",
        ["-q", "-F", "-t", "ext4", "-b", "4096", "-O", "64bit", "-i", "8192", image.to_str().unwrap()],
    );
    let default = GrowOptions::default();
    let most = plan(&image, BlockCount(32 << 28), default).unwrap();
    assert_eq!(most.new.inodes(), u32::MAX - u32::MAX % most.new.inodes_per_group);
    expect(&refused_plan(&image, 40 << 28), Class::Refused, "inodes");
}

/// What would not fit into memory is refused before anything is written.
#[test]
fn memory_is_known_in_advance() {
    let dir = tempfile::tempdir().unwrap();
    let image = image("ext4-1k", dir.path());
    let error = refused_plan(&image, 4 << 30);
    assert!(matches!(error, Error::Disk(disk::Error::Memory { .. })), "{error}");
}

fn refused_plan(image: &Path, to: u64) -> Error {
    plan(image, BlockCount(to), GrowOptions::default()).expect_err("must be refused")
}

/// Damage in what the change relies on, where no checksum tells.
#[test]
fn damage_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let damages: [(&str, &str); 7] = [
        ("sif <7> block[DIND] 0", "double indirect"),
        ("sif <7> block[0] 77", "other than the double indirect"),
        ("sif <7> block[DIND] 300", "list"),
        ("sif <7> mode 040700", "regular file"),
        ("freeb 57400 8", "free"),
        ("set_bg 7 free_blocks_count 7", "bg_free_blocks_count"),
        ("set_bg 3 block_bitmap 200000", "bg_block_bitmap"),
    ];
    for (command, text) in damages {
        let image = image("ext3-1k", dir.path());
        let file = File::options().write(true).open(&image).unwrap();
        file.set_len(60_000 << 10).unwrap();
        let done = output("resize2fs", ["-f".as_ref(), image.as_os_str(), "60000".as_ref()]);
        assert!(done.status.success());
        let _ = debugfs(&image, Offset::ZERO, true, command);
        expect(&refused_plan(&image, 100_000), Class::Corrupt, text);
    }
    // One wrong entry in the list of twins, and a table that lies in another one.
    let image = image("ext3-1k", dir.path());
    let file = File::options().read(true).write(true).open(&image).unwrap();
    let gdt = 2 << 10;
    file.write_all_at(&[9], (3 << 10) + 4).unwrap();
    expect(&refused_plan(&image, 100_000), Class::Corrupt, "twins");
    let mut table = [0; 4];
    file.read_exact_at(&mut table, gdt + 8).unwrap();
    file.write_all_at(&(u32::from_le_bytes(table) + 3).to_le_bytes(), gdt + 4).unwrap();
    expect(&refused_plan(&image, 100_000), Class::Corrupt, "other metadata");
}

/// Old content of a device in the grown space must not show.
#[test]
fn stale_bytes_do_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["ext3-centos5", "ext4-4k", "ext4-bigalloc", "ext4-meta-bg", "ext4-no-checksums"] {
        let image = image(name, dir.path());
        let len = std::fs::metadata(&image).unwrap().len();
        let file = File::options().write(true).open(&image).unwrap();
        file.write_all_at(&vec![0xa5; usize::try_from(len).unwrap()], len).unwrap();
        grow(&image, BlockCount(2 * len / u64::from(flavor(name).block)));
        assert_clean(&image, Offset::ZERO);
    }
}

/// Random bytes in the metadata: an error or a plan that can be carried out, and nothing else.
#[test]
fn mutations_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    let mut seed = 1_u64;
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let (mut planned, mut refused) = (0, 0);
    for name in ["ext3-1k", "ext4-no-checksums", "ext2-plain", "ext4-meta-bg-32bit"] {
        let image = image(name, dir.path());
        let base = Sparse::load(&FileDev::new(File::open(&image).unwrap()).unwrap()).unwrap();
        for _ in 0..150 {
            let mut bytes = base.clone();
            bytes.set_len(Len::mib(300));
            for _ in 0..=next(3) {
                // Superblock fields, descriptors and bitmaps, or the reserve and what follows.
                let at = match next(4) {
                    0 | 1 => 1024 + next(0x280),
                    2 => 2048 + next(1024),
                    _ => next(400 << 10),
                };
                bytes.put(Offset::new(at), &[u8::try_from(next(256)).unwrap()]);
            }
            let mut disk = MemDisk::from(bytes);
            let to = BlockCount((64 << 10) + next(200_000));
            let plan = Ext::open(&disk, &LIMITS).and_then(|fs| plan_grow(&fs, to, GrowOptions::default()));
            let Ok(plan) = plan else {
                refused += 1;
                continue;
            };
            planned += 1;
            assert!(!plan.sentences().is_empty());
            let need = plan.new.block_size.len_of(plan.new.blocks).unwrap();
            if need <= Len::gib(4) {
                disk.resize(need.max(Len::mib(300))).unwrap();
                let cancel = Cancel::new();
                let _ = plan.apply(&mut disk, &cx(&cancel));
            }
        }
    }
    assert!(planned > 50 && refused > 50, "{planned} planned, {refused} refused");
}
