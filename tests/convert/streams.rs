//! Disks that come from standard input or go to standard output, and conversions that do not come to their end.

use super::*;

/// Runs the program, with `bytes` on its standard input.
fn fed(bytes: &[u8], args: &[&str]) -> std::process::Output {
    let mut child = Command::new(crate::kit::IMGTOOL)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // Who refuses reads nothing.
        scope.spawn(move || bytes.chunks(100_001).try_for_each(|part| pipe.write_all(part)).ok());
        child.wait_with_output().unwrap()
    })
}

#[test]
fn streams() {
    let dir = tempfile::tempdir().unwrap();
    let raw = raw(dir.path());
    let bytes = fs::read(&raw).unwrap();
    for (line, qemu) in &TARGETS[..4] {
        let image = dir.path().join("new");
        let mut args = vec!["convert", "-q", "-f", "raw", "-", text(&image)];
        args.extend(line.split_whitespace());
        assert!(fed(&bytes, &args).status.success(), "{line}");
        judge(&image, qemu, &raw);
        let ours = if *qemu == "vpc" { "vhd" } else { qemu };
        assert!(code(0, &["convert", "-f", ours, text(&image), "-"]) == bytes, "{line}");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "nothing is left beside it");
        fs::remove_file(&image).unwrap();
    }
    let image = dir.path().join("new");
    code(2, &["convert", "-", text(&image)]);
    code(2, &["convert", "-O", "qcow2", text(&raw), "-"]);
    code(2, &["convert", "--json", text(&raw), "-"]);
    let plan = String::from_utf8(code(0, &["convert", "-n", text(&raw), "-"])).unwrap();
    assert!(plan.contains("would carry a raw disk of 21"), "{plan}");

    let odd = &bytes[..(5 << 20) + 77];
    let out = fed(odd, &["convert", "-f", "raw", "-", "-"]);
    assert!(out.status.success() && out.stdout.len() == (5 << 20) + 512, "{}", out.stdout.len());
    assert!(out.stdout.starts_with(odd) && out.stdout[odd.len()..].iter().all(|byte| *byte == 0));
    assert!(String::from_utf8_lossy(&out.stderr).contains("no whole sectors"));
    for (line, why) in [
        ("convert - -", "say so with -f raw"),
        ("convert -f qcow2 - -", "standard input carries a raw disk only"),
        ("convert -f raw -n - -", "cannot be foreseen"),
        ("convert -f raw -O vhd - -", "standard output carries a raw disk only"),
    ] {
        let out = fed(&bytes, &line.split(' ').collect::<Vec<_>>());
        assert!(out.status.code() == Some(2) && said(&out).contains(why), "{line}: {}", said(&out));
    }
}

/// Whoever interrupts a conversion finds nothing; whoever kills it, drafts at most, which the next one removes.
#[test]
fn an_interruption_leaves_nothing() {
    for (signal, code, left) in [("INT", Some(130), 0), ("TERM", Some(130), 0), ("KILL", None, 1)] {
        for format in ["raw", "qcow2"] {
            let dir = tempfile::tempdir().unwrap();
            let image = dir.path().join("new");
            let mut child = Command::new(crate::kit::IMGTOOL)
                .args(["convert", "-q", "-f", "raw", "-O", format, "-", text(&image)])
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut pipe = child.stdin.take().unwrap();
            pipe.write_all(&noise(1, 3 << 20)).unwrap();
            while fs::read_dir(&dir).unwrap().count() == 0 {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            let line = ["convert", "-f", "raw", "-O", format, "-", text(&image)];
            let rival = fed(&noise(2, 1 << 20), &line);
            assert!(rival.status.code() == Some(3), "a draft at which somebody works: {}", said(&rival));
            run("sh", ["-c", &format!("kill -{signal} {}", child.id())]);
            let status = child.wait().unwrap();
            let mut words = String::new();
            child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
            assert_eq!(status.code(), code, "{signal} {format}: {words}");
            assert!(!image.exists());
            assert_eq!(fs::read_dir(&dir).unwrap().count(), left, "{signal} {format}");
            let line = ["convert", "-q", "-f", "raw", "-O", format, "-", text(&image)];
            let again = fed(&noise(1, 1 << 20), &line);
            assert!(again.status.success(), "{signal} {format}: {}", said(&again));
            assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "{signal} {format}");
        }
    }
}
