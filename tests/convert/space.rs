//! What does not fit is refused before anything is written, and what may fit is not.

use super::*;

fn small(dir: &Path, mib: u64) -> Mount {
    let small = dir.join("small.ext4");
    File::create(&small).unwrap().set_len(mib << 20).unwrap();
    run("mke2fs", ["-q", "-F", "-t", "ext4", "-m", "0", text(&small)]);
    Mount::read_write(&small)
}

fn names(mount: &Mount) -> Vec<String> {
    let names = fs::read_dir(mount.path()).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Runs a command that writes `new` into a small file system, and expects that it is refused at once.
fn refused(mount: &Mount, args: &[&str]) {
    for dry in [true, false] {
        let args: Vec<_> = args.iter().copied().chain(dry.then_some("-n")).collect();
        let out = imgtool(&args);
        let told = said(&out);
        assert_eq!(out.status.code(), Some(5), "{args:?}: {told}");
        assert!(told.contains("no space left: ") && told.contains("MiB are free"), "{args:?}: {told}");
        assert_eq!(names(mount), ["lost+found"], "{args:?}");
    }
}

#[test]
fn a_full_disk_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("disk.raw");
    fs::write(&source, noise(5, 24 << 20)).unwrap();
    let mount = small(dir.path(), 16);
    let image = mount.path().join("new");
    for (line, _) in TARGETS {
        let mut args = vec!["convert", "-f", "raw", text(&source), text(&image)];
        args.extend(line.split_whitespace());
        if line.contains("--compress") {
            // How small it gets, only doing it tells.
            code(5, &args);
            assert_eq!(names(&mount), ["lost+found"], "{line}");
        } else {
            refused(&mount, &args);
        }
    }
    refused(&mount, &["sparsify", "-f", "raw", text(&source), text(&image)]);

    let [base, child] = ["base.qcow2", "child.qcow2"].map(|name| dir.path().join(name));
    convert(&source, &base, "");
    code(0, &["create", "-q", "--backing", text(&base), text(&child)]);
    refused(&mount, &["convert", "--keep-chain", text(&child), text(&mount.path().join("new.qcow2"))]);
    let (patch, empty) = (dir.path().join("patch"), dir.path().join("empty"));
    File::create(&empty).unwrap().set_len(512).unwrap();
    code(0, &["delta", "create", "-q", "--base", text(&empty), text(&source), "-o", text(&patch)]);
    refused(&mount, &["delta", "apply", "--base", text(&empty), text(&patch), "-o", text(&image)]);
}

/// Zeros that were written take space in the source, and none in the result.
#[test]
fn what_only_seems_not_to_fit_is_converted() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("disk.raw");
    let mut bytes = vec![0; 24 << 20];
    bytes[7 << 20..8 << 20].copy_from_slice(&noise(5, 1 << 20));
    fs::write(&source, bytes).unwrap();
    let mount = small(dir.path(), 16);
    for format in ["raw", "vhd", "vhd-fixed", "qcow2"] {
        let image = mount.path().join("new");
        code(0, &["convert", "-q", "-n", "-O", format, text(&source), text(&image)]);
        convert(&source, &image, &format!("-O {format}"));
        fs::remove_file(image).unwrap();
    }
}

/// All batches together are foreseen, not one after the other.
#[test]
fn a_chain_that_cannot_be_flattened_where_it_lies() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base.qcow2");
    let options = "preallocation=metadata,cluster_size=2M";
    run("qemu-img", ["create", "-q", "-f", "qcow2", "-o", options, text(&base), "3G"]);
    let mount = small(dir.path(), 1536);
    let child = mount.path().join("child.qcow2");
    code(0, &["create", "-q", "--backing", text(&base), text(&child)]);
    let before = fs::read(&child).unwrap();
    for line in ["-n", "-q"] {
        let out = imgtool(["chain", "flatten", line, "--parent", text(&base), text(&child)]);
        let told = said(&out);
        assert!(out.status.code() == Some(5) && told.contains("no space left: the image needs"), "{told}");
        assert!(fs::read(&child).unwrap() == before, "{line}");
    }
}

/// A dry run is refused where the conversion is.
#[test]
fn a_place_where_nothing_can_be_made() {
    let dir = tempfile::tempdir().unwrap();
    let source = noisy(dir.path(), 1 << 20, &[(0, 5000)]);
    let empty = dir.path().join("empty.ext4");
    File::create(&empty).unwrap().set_len(4 << 20).unwrap();
    run("mke2fs", ["-q", "-F", text(&empty)]);
    let mount = Mount::new(&empty, "ro,loop");
    let (there, busy) = (mount.path().join("new.qcow2"), dir.path().join("new.qcow2"));
    let draft = disk::Draft::create(&busy).unwrap();
    for command in ["convert", "sparsify", "create", "delta"] {
        for dry in ["-y", "-n"] {
            let out = |to: &Path| match command {
                "create" => imgtool([command, text(to), "1M", dry]),
                "delta" => {
                    let line = [command, "create", "--base", text(&source), text(&source), "-o", text(to)];
                    imgtool(line.into_iter().chain([dry]))
                }
                _ => imgtool([command, text(&source), text(to), dry]),
            };
            let told = out(&there);
            assert!(
                told.status.code() == Some(5) && said(&told).contains("Read-only"),
                "{command} {}",
                said(&told)
            );
            let told = out(&busy);
            assert!(
                told.status.code() == Some(3) && said(&told).contains("somebody makes it"),
                "{}",
                said(&told)
            );
        }
    }
    drop(draft);
}
