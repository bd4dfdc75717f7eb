//! A real guest, grown.

use std::fs::{File, create_dir_all};
use std::path::Path;

use crate::run::{Result, cargo, exists, program, root, run, target};

/// Builds the program, unpacks the guest, and shows it before and after it has grown.
pub fn demo() -> Result {
    run(cargo().args(["build", "--release", "--package", "imgtool"]))?;
    let dir = target().join("demo");
    create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let image = dir.join("guest.vhd");
    let packed = root().join("fixtures/demo-guest/guest.vhd.gz");
    let out = File::create(&image).map_err(|error| format!("{}: {error}", image.display()))?;
    run(program("gzip").arg("-dc").arg(packed).stdout(out))?;
    show(&dir, &["info", "guest.vhd"])?;
    show(&dir, &["grow", "guest.vhd", "+10G"])?;
    show(&dir, &["info", "guest.vhd"])?;
    show(&dir, &["check", "guest.vhd"])?;
    println!("\nThe grown guest is {}", image.display());
    if exists("qemu-system-x86_64") {
        println!("It boots with: qemu-system-x86_64 -nographic -drive format=vpc,file={}", image.display());
    }
    Ok(())
}

/// Runs the program as a user would, in the image's folder.
fn show(dir: &Path, args: &[&str]) -> Result {
    println!("\n$ imgtool {}", args.join(" "));
    run(program(target().join("release/imgtool")).current_dir(dir).args(args))
}
