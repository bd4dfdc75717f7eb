//! The programs of others that tests ask. They come from Debian; a missing one is installed, never skipped.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

use crate::run::{Result, exists, program, run};

/// One `name package` a line; the tests read the same list.
const LIST: &str = include_str!("../../crates/testkit/oracles.txt");

/// Packages of the oracles that are not there.
fn missing() -> BTreeSet<&'static str> {
    let lines = LIST.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pairs = lines.map(|line| line.split_once(' ').expect("a line is a name and a package"));
    pairs.filter(|(name, _)| !exists(name)).map(|(_, package)| package.trim()).collect()
}

/// Makes sure that every oracle is there.
pub fn install() -> Result {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    let missing = missing();
    if !is_root {
        let tests = "tests mount filesystems through loop devices: run this as root";
        if missing.is_empty() {
            return Err(tests.to_owned());
        }
        let list = missing.into_iter().collect::<Vec<_>>().join(" ");
        return Err(format!(
            "these Debian packages are missing and only root can install them: {list}\n{tests}"
        ));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let apt = |args: &[&str]| {
        let mut command = program("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-o", "Dpkg::Use-Pty=0"]).args(args);
        run(&mut command)
    };
    apt(&["update"])?;
    let install = |packages: BTreeSet<&'static str>| {
        apt(&["install", "-y", "--no-install-recommends"].into_iter().chain(packages).collect::<Vec<_>>())
    };
    install(missing)?;
    let replaced = self::missing();
    if !replaced.is_empty() {
        // A package from elsewhere that was there gave way to those of the distribution.
        install(replaced)?;
    }
    let still = self::missing();
    if still.is_empty() {
        Ok(())
    } else {
        Err(format!("not found after installing their packages: {still:?}"))
    }
}
