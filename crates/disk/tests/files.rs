//! Real files: commits, undo, a full disk, and processes that are killed. Needs root for loop devices and tmpfs.
//!
//! `KILLS=2000 cargo test -p disk --test files killed -- --nocapture` runs the campaign.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used
)]

use disk::image::JOURNAL_SUFFIX;
use disk::{
    Cancel, Change, CommitOptions, Cx, Image, Limits, MemDisk, OpenOptions, Outcome, Over, Place, Pour,
    ReadAt, Sparse,
};
use ondisk::{Class, Classified, Len, Offset, Span};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use testkit::sim::sample::{base, bytes, change, journal, write};
use testkit::sim::{Rng, cx};
use testkit::tool::run;

fn save(path: &Path, bytes: &Sparse) {
    let file = std::fs::File::create(path).unwrap();
    file.set_len(bytes.len().get()).unwrap();
    for (at, page) in bytes.pages() {
        let there = (bytes.len().get() - at.get()).min(4096) as usize;
        file.write_all_at(&page[..there], at.get()).unwrap();
    }
}

fn side_car(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(JOURNAL_SUFFIX);
    name.into()
}

fn open(path: &Path) -> Image {
    Image::open(path, &OpenOptions { write: true, ..OpenOptions::default() }).unwrap()
}

fn after(base: &Sparse, change: &Change) -> Sparse {
    let mut disk = MemDisk::from(base.clone());
    disk.apply(change).unwrap();
    disk.bytes().clone()
}

fn loaded(path: &Path) -> Sparse {
    Sparse::load(&Image::open(path, &OpenOptions::default()).unwrap()).unwrap()
}

#[test]
fn commit_and_undo() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.img");
    let cancel = Cancel::new();
    let shrink = Change {
        old_len: Len::kib(64),
        new_len: Len::new(33_000),
        fresh: vec![write(7, 16384, 512)],
        home: vec![write(8, 512, 1024)],
        ..Change::default()
    };
    for (n, change) in [change(), shrink].iter().enumerate() {
        save(&path, &base());
        std::os::unix::fs::chown(&path, Some(1234), Some(4321)).unwrap();
        let mode = [0o640, 0o604][n];
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let undo = dir.path().join(format!("undo{n}"));
        let options = CommitOptions { undo: Some(undo.clone()), about: "test".to_owned() };
        let mut image = open(&path);
        let receipt = image.commit(change, &options, &cx(&cancel)).unwrap();
        assert_eq!(receipt.flushes, 7);
        assert!(!side_car(&path).exists());
        let theirs = std::fs::metadata(&undo).unwrap();
        assert_eq!((theirs.uid(), theirs.gid(), theirs.mode() & 0o7777), (1234, 4321, mode));
        assert!(Sparse::load(&image).unwrap() == after(&base(), change));
        let back = image.undo(&Place::at(&undo).unwrap(), &Limits::default()).unwrap();
        image.commit(&back, &CommitOptions::default(), &cx(&cancel)).unwrap();
        assert!(Sparse::load(&image).unwrap() == base(), "undo of {change:?}");
        // Once is enough.
        let again = image.undo(&Place::at(&undo).unwrap(), &Limits::default()).unwrap_err();
        assert_eq!(again.class(), Class::Foreign);
        // The file is not overwritten by the next one.
        let taken = image.commit(change, &options, &cx(&cancel)).unwrap_err();
        assert_eq!(taken.class(), Class::Refused, "{taken}");
        assert!(!side_car(&path).exists() && Sparse::load(&image).unwrap() == base());
    }
}

/// Whoever replaces or writes to an image while a change of it is planned keeps what he has done.
#[test]
fn changed_by_others_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let [path, other] = ["a.img", "other.img"].map(|name| dir.path().join(name));
    let work: [(&str, &dyn Fn()); 4] = [
        ("replaced", &|| {
            save(&other, &base());
            std::fs::rename(&other, &path).unwrap();
        }),
        ("removed", &|| std::fs::remove_file(&path).unwrap()),
        ("written to", &|| {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.write_all_at(b"y", 60_000).unwrap();
        }),
        ("lengthened", &|| {
            std::fs::File::options().write(true).open(&path).unwrap().set_len(70_000).unwrap();
        }),
    ];
    let cancel = Cancel::new();
    for (what, work) in work {
        save(&path, &base());
        let mut image =
            Image::open(&path, &OpenOptions { write: true, force: true, ..OpenOptions::default() }).unwrap();
        std::thread::sleep(Duration::from_millis(20)); // file systems count time in ticks
        work();
        let before = path.exists().then(|| loaded(&path));
        for _ in 0..2 {
            let seen = image.foresee(&change(), &CommitOptions::default()).unwrap_err();
            let error = image.commit(&change(), &CommitOptions::default(), &cx(&cancel)).unwrap_err();
            assert_eq!((error.class(), error.to_string()), (Class::Refused, seen.to_string()), "{what}");
        }
        assert!(before == path.exists().then(|| loaded(&path)) && !side_car(&path).exists(), "{what}");
    }
}

#[test]
fn pending() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.img");
    save(&path, &base());
    std::fs::write(side_car(&path), journal(&base(), &change())).unwrap();
    let error = Image::open(&path, &OpenOptions { write: true, ..OpenOptions::default() }).unwrap_err();
    assert_eq!(error.class(), Class::Pending);
    assert!(error.help().unwrap().contains("imgtool recover"));
    // The home writes are there, and the fresh ones: forward.
    save(&path, &after(&base(), &change()));
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&bytes(99, 512), 0).unwrap();
    let image = Image::open(&path, &OpenOptions::default()).unwrap();
    let pending = image.pending(&Limits::default()).unwrap().unwrap();
    assert_eq!(pending.outcome(), Outcome::RolledForward);
    assert_eq!(pending.about().unwrap(), "a \\x1bcommand");
    assert!(
        Sparse::load(&pending.view(&image, &Limits::default()).unwrap()).unwrap()
            == after(&base(), &change())
    );
    drop((pending, image, file));
    let mut image = Image::open(&path, &OpenOptions { recover: true, ..OpenOptions::default() }).unwrap();
    let cancel = Cancel::new();
    assert_eq!(image.recover(&cx(&cancel)).unwrap(), Outcome::RolledForward);
    assert!(Sparse::load(&image).unwrap() == after(&base(), &change()));
    assert_eq!(image.recover(&cx(&cancel)).unwrap(), Outcome::Nothing);
    assert!(!side_car(&path).exists());
}

/// The journal of an image that is reached through a link lies beside the image.
#[test]
fn one_journal_for_all_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.img");
    save(&path, &base());
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    let link = dir.path().join("sub/link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    std::fs::write(side_car(&path), b"").unwrap();
    let error = Image::open(&link, &OpenOptions { write: true, ..OpenOptions::default() }).unwrap_err();
    assert_eq!(error.class(), Class::Pending);
    // A link in the journal's place is not followed.
    std::fs::remove_file(side_car(&path)).unwrap();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), side_car(&path)).unwrap();
    let error = Image::open(&path, &OpenOptions { write: true, ..OpenOptions::default() }).unwrap_err();
    assert_eq!(error.class(), Class::Io, "{error}");
}

#[test]
fn reading_does_not_write() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.img");
    save(&path, &base());
    let cancel = Cancel::new();
    let mut image = Image::open(&path, &OpenOptions::default()).unwrap();
    assert_eq!(
        image.commit(&change(), &CommitOptions::default(), &cx(&cancel)).unwrap_err().class(),
        Class::Unsupported
    );
    assert!(loaded(&path) == base());
}

/// Stopped before the first home write: as if nothing had happened.
/// What is poured goes to the right bytes and no others, wherever it begins: in whole pages past the cache, and what is
/// left through it.
#[test]
fn poured_by_several_threads() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("a.img");
    let noise = |seed: u64, len: usize| {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    };
    let (mut want, beside) = (noise(1, 12 << 20), noise(2, 16 << 20));
    std::fs::write(&path, &want).unwrap();
    let places =
        [(512, 5 << 20), (6 << 20, 4096), ((6 << 20) + 51_200, 300 << 10), (7 << 20, (2 << 20) + 7 * 512)];
    let behind = ((12 << 20) + 3584, (3 << 20) + 512);
    let mut change = Change { old_len: Len::mib(12), new_len: Len::mib(16), ..Change::default() };
    want.resize(16 << 20, 0);
    for (n, (to, len)) in places.into_iter().chain([behind]).enumerate() {
        let from = n * 512 * 3;
        want[to..to + len].copy_from_slice(&beside[from..from + len]);
        change.pours.push(Pour {
            from: Span::new(Offset::new(from as u64), Len::new(len as u64)).unwrap(),
            to: Offset::new(to as u64),
            over: if to < 12 << 20 { Over::Shadowed } else { Over::Unused },
        });
    }
    let cancel = Cancel::new();
    let cx = Cx { limits: Limits { threads: 3, ..Limits::default() }, ..cx(&cancel) };
    let mut image = open(&path);
    image.pour(&change, &MemDisk::from_bytes(&beside), &CommitOptions::default(), &cx).unwrap();
    let mut odd = [0; 3];
    image.read_at(Offset::new(777), &mut odd).unwrap();
    assert_eq!(odd[..], want[777..780], "the cache is in use again");
    assert!(std::fs::read(&path).unwrap() == want);
}

#[test]
fn cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.img");
    save(&path, &base());
    let cancel = Cancel::new();
    cancel.cancel();
    let error = open(&path).commit(&change(), &CommitOptions::default(), &cx(&cancel)).unwrap_err();
    assert_eq!(error.class(), Class::Cancelled);
    assert!(loaded(&path) == base() && !side_car(&path).exists());
}

struct Tmpfs(tempfile::TempDir);

impl Drop for Tmpfs {
    fn drop(&mut self) {
        run("umount", [self.0.path()]);
    }
}

#[test]
fn no_space() {
    let disk = Tmpfs(tempfile::tempdir().unwrap());
    run("mount", ["-t", "tmpfs", "-o", "size=1M", "none", disk.0.path().to_str().unwrap()]);
    let path = disk.0.path().join("a.img");
    save(&path, &base());
    let cancel = Cancel::new();
    // Too large for the image's new end; fits, but not together with the journal; and into a hole.
    let far = Change { fresh: vec![write(1, 65536, 2 << 20)], new_len: Len::mib(4), ..change() };
    let large = Change {
        old_len: Len::kib(600),
        new_len: Len::kib(600),
        home: vec![write(1, 0, 600 << 10)],
        ..Change::default()
    };
    let mut full = Sparse::new(Len::kib(600));
    full.put(Offset::ZERO, &bytes(1, 600 << 10));
    for (base, change) in [(base(), far), (full, large)] {
        save(&path, &base);
        let error = open(&path).commit(&change, &CommitOptions::default(), &cx(&cancel)).unwrap_err();
        assert_eq!(error.class(), Class::Io);
        assert!(error.to_string().to_lowercase().contains("no space"), "{error}");
        assert!(loaded(&path) == base && !side_car(&path).exists());
    }
}

struct Loop(String);

impl Drop for Loop {
    fn drop(&mut self) {
        run("losetup", ["--detach", &self.0]);
    }
}

#[test]
fn block_device() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.img");
    save(&path, &base());
    let device = Loop(run("losetup", ["--find", "--show", path.to_str().unwrap()]).trim().to_owned());
    let same = Change { fresh: vec![write(1, 20480, 2048)], new_len: Len::kib(64), ..change() };
    let cancel = Cancel::new();
    let error = open(device.0.as_ref()).commit(&same, &CommitOptions::default(), &cx(&cancel)).unwrap_err();
    assert_eq!(error.class(), Class::Refused);
    assert!(error.help().unwrap().contains("--journal"));
    let how =
        OpenOptions { write: true, journal: Some(dir.path().join("journal")), ..OpenOptions::default() };
    let mut image = Image::open(device.0.as_ref(), &how).unwrap();
    assert_eq!(
        image.commit(&change(), &CommitOptions::default(), &cx(&cancel)).unwrap_err().class(),
        Class::Refused,
        "the device has no room for it"
    );
    image.commit(&same, &CommitOptions::default(), &cx(&cancel)).unwrap();
    assert!(Sparse::load(&image).unwrap() == after(&base(), &same));
    assert!(!dir.path().join("journal").exists());
}

/// Two states of an image, and the ways between them.
fn seesaw() -> [(Sparse, Change); 2] {
    let there = Change {
        fresh: (0..40).map(|n| write(100 + n, 70_000 + n * 1500, 900)).collect(),
        home: (0..30).map(|n| write(200 + n, n * 512, 512)).collect(),
        ..change()
    };
    let end = after(&base(), &there);
    let home = |n: u64| {
        let mut bytes = vec![0; 512];
        base().get(Offset::new(n * 512), &mut bytes);
        disk::Write { at: Offset::new(n * 512), data: disk::Data::Bytes(bytes) }
    };
    let back = Change {
        old_len: there.new_len,
        new_len: there.old_len,
        home: (0..30).map(home).collect(),
        ..Change::default()
    };
    [(base(), there), (end, back)]
}

/// Not a test: what [`killed`] kills.
#[test]
#[ignore = "started by another test"]
fn victim() {
    let Some(path) = std::env::var_os("VICTIM").map(PathBuf::from) else { return };
    std::fs::write(path.with_extension("begun"), "").unwrap();
    let cancel = Cancel::new();
    let mut image = Image::open(&path, &OpenOptions { recover: true, ..OpenOptions::default() }).unwrap();
    image.recover(&cx(&cancel)).unwrap();
    let states = seesaw();
    loop {
        let now = Sparse::load(&image).unwrap();
        let (_, change) = states.iter().find(|(state, _)| *state == now).expect("neither state");
        image.commit(change, &CommitOptions::default(), &cx(&cancel)).unwrap();
    }
}

#[test]
fn killed() {
    let kills: u64 = std::env::var("KILLS").map_or(40, |kills| kills.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.img");
    save(&path, &base());
    let states = seesaw();
    let mut outcomes = [0; 3];
    let mut rng = Rng::new(3);
    for kill in 0..kills {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--ignored", "--nocapture"])
            .env("VICTIM", &path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // How long a process takes to begin is nothing that a time could be chosen for.
        while std::fs::remove_file(path.with_extension("begun")).is_err() {
            assert!(victim.try_wait().unwrap().is_none(), "the victim ended by itself");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(rng.below(60_000)));
        assert!(victim.try_wait().unwrap().is_none(), "the victim ended by itself");
        victim.kill().unwrap();
        victim.wait().unwrap();
        // Every other time the next victim recovers, and may be killed in the middle of that.
        if kill % 2 == 0 {
            let recover = OpenOptions { recover: true, ..OpenOptions::default() };
            let cancel = Cancel::new();
            let outcome = Image::open(&path, &recover).unwrap().recover(&cx(&cancel)).unwrap();
            outcomes[outcome as usize] += 1;
            let now = loaded(&path);
            assert!(states.iter().any(|(state, _)| *state == now), "kill {kill}: neither state");
        }
    }
    println!("nothing to do, rolled back, rolled forward: {outcomes:?}");
    assert!(outcomes[1] + outcomes[2] > 0, "no kill ever hit a commit: {outcomes:?}");
}
