#![allow(clippy::indexing_slicing)]
use super::*;
use container::Format;
use ondisk::Len;
use ondisk::size::SizeSpec;
use stack::place::Place;
use std::path::PathBuf;

fn args(line: &str) -> Args {
    match read(line) {
        Ok(Parsed::Run(args)) => *args,
        other => panic!("{line}: {other:?}"),
    }
}

fn read(line: &str) -> Result<Parsed, Failure> {
    parse(std::iter::once("imgtool").chain(line.split_whitespace()).map(OsString::from))
}

fn refused(line: &str) -> Failure {
    let failure = read(line).expect_err(line);
    assert_eq!(failure.exit(), Exit::Usage, "{line}");
    assert!(!failure.message().contains('\n'));
    failure
}

#[test]
fn the_definitions_are_consistent() {
    command().debug_assert();
}

#[test]
fn grow() {
    let Command::Grow(grow) =
        args("grow vm.vhd +10G -p vg/root --check --journal j --undo u --force").command
    else {
        panic!()
    };
    assert_eq!((grow.image, grow.size), (PathBuf::from("vm.vhd"), SizeSpec::Plus(Len::gib(10))));
    assert_eq!(grow.at.place(), Place::Volume { vg: "vg".to_owned(), lv: "root".to_owned() });
    assert!(grow.change.check && grow.change.force && !grow.disk_only && !grow.no_fs);
    assert_eq!((grow.change.journal, grow.change.undo), (Some("j".into()), Some("u".into())));
    let Command::Grow(grow) = args("grow vm.vhd 20G --no-fs").command else { panic!() };
    assert_eq!((grow.size, grow.at.place()), (SizeSpec::Total(Len::gib(20)), Place::Auto));
}

#[test]
fn globals_stand_before_and_after_the_command() {
    for line in [
        "--json -n -y -vv --memory 1G --parent p --parent-dir d -j 3 --color never --progress json -f qcow2 grow a 1G",
        "grow a 1G --json --dry-run --yes -v -v --memory 1G --parent p --parent-dir d --threads 3 --color never \
         --progress json --format qcow2",
        "--json grow -n a -y 1G -vv --memory=1G --parent=p --parent-dir=d -j3 --color=never --progress=json -fqcow2",
    ] {
        let globals = args(line).globals;
        assert!(globals.json && globals.dry_run && globals.yes && !globals.quiet, "{line}");
        assert_eq!((globals.verbose, globals.memory, globals.threads), (2, Len::gib(1), Some(3)));
        assert_eq!((globals.parent, globals.parent_dir), (vec!["p".into()], vec!["d".into()]));
        assert_eq!((globals.color, globals.progress), (ColorWhen::Never, ProgressWhen::Json));
        assert_eq!(globals.format, Some(Format::Qcow2));
    }
    assert!(args("fs -q ls a").globals.quiet && args("fs ls a -q").globals.quiet);
    assert_eq!(args("info a").globals.memory, Len::mib(512));
    assert_eq!(args("info a -f vpc").globals.format, Some(Format::Vhd));
}

#[test]
fn repeated_globals_add_up_on_both_sides() {
    let globals = args("--parent a --parent b -v info x --parent c -v").globals;
    assert_eq!(globals.parent, [PathBuf::from("a"), "b".into(), "c".into()]);
    assert_eq!(globals.verbose, 2);
    assert_eq!(args("--memory 1G info a --memory 2G").globals.memory, Len::gib(2));
}

#[test]
fn the_other_commands() {
    for line in [
        "recover a --undo u --journal j",
        "info a",
        "map a",
        "check a",
        "compare a b -f raw -F qcow2",
        "digest a",
        "sparsify a b -O qcow2",
        "convert a --in-place -O qcow2 --cluster-size 4K --check --undo u",
        "sparsify a --check --undo u --journal j --force -n",
        "create a 1G -O vhd-fixed",
        "create a --backing b -O qcow2 -f raw",
        "fs ls a / -lR -p 1",
        "fs cat a /etc/fstab -p LABEL=root",
        "fs stat a /etc",
        "fs find a /etc --name *.conf --type f",
        "fs copy-out a /etc dest",
        "fs tar-out a / -o out.tar --json",
        "fs replay a -p whole -n --check",
    ] {
        args(line);
    }
    for line in ["help", "help grow", "--help", "grow --help", "fs help ls", "--version", "-V"] {
        assert!(matches!(read(line), Ok(Parsed::Show(_))), "{line}");
    }
}

#[test]
fn refusals() {
    for (line, part) in [
        ("", "subcommand"),
        ("fs", "subcommand"),
        ("grow", "<IMAGE> <SIZE>"),
        ("grow a", "<SIZE>"),
        ("grow a 10", "for 10 GiB write 10G"),
        ("grow a -2G", "unexpected argument"),
        ("grow a min", "+ and how much more"),
        ("grow a 1G -p nowhere!", "not a place"),
        ("grow a 1G --disk-only --no-fs", "cannot be used with"),
        ("grow a 1G --disk-only -p 1", "cannot be used with"),
        ("grow a 1G -f dmg", "'dmg'"),
        ("info a --check", "unexpected argument"),
        ("info a -q -v", "contradict"),
        ("-q info a -v", "contradict"),
        ("info a -j 0", "0 is not in 1..=1024"),
        ("info a --memory 5", "less than 1 MiB"),
        ("create a", "SIZE"),
        ("convert a", "<DST>"),
        ("convert a --in-place", "--output-format"),
        ("convert a b --in-place -O raw", "cannot be used with"),
        ("convert a b --force", "only --in-place"),
        ("sparsify a b --check", "without OUT"),
        ("sparsify a -O raw", "OUT"),
        ("create a 1G -f qcow2", "there is none"),
        ("fs cat a /x --json", "standard output"),
        ("fs tar-out a --json", "standard output"),
        ("delta create --base a b -o - --json", "standard output"),
        ("delta apply --base a p -o - --json", "standard output"),
        ("fs find a --name [", "ends in the middle"),
        ("grow a 1G --base b", "read one virtual disk"),
        ("convert - b -f raw --base b", "read one virtual disk"),
        ("frobnicate a", "frobnicate"),
    ] {
        let failure = refused(line);
        assert!(failure.message().contains(part), "{line}: {}", failure.message());
    }
}

#[test]
fn a_misspelt_command_gets_a_tip_and_the_usage() {
    let lines = refused("gorw a 1G").lines();
    assert!(lines.contains("help: a similar subcommand exists: 'grow'"), "{lines}");
    assert!(lines.contains("help: usage: imgtool"), "{lines}");
}

#[test]
fn json_is_heard_even_where_the_rest_is_wrong() {
    let argv = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
    assert!(wants_json(&argv("imgtool nonsense --json")));
    assert!(!wants_json(&argv("--json info -- --json")));
}
