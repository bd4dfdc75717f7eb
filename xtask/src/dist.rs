//! What a release holds: one static program, its man pages and completions.

use std::fs::{copy, create_dir_all, read};
use std::path::Path;

use crate::run::{Result, cargo, program, read as ask, run, target};

/// Builds everything into `target/dist`.
pub fn dist() -> Result {
    let version = ask(program("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc names no host")?;
    // Naming the target keeps the flag away from build scripts and macros, which cannot be static.
    let build = ["build", "--release", "--package", "imgtool", "--target", host];
    run(cargo().env("RUSTFLAGS", "-C target-feature=+crt-static").args(build))?;
    let built = target().join(host).join("release/imgtool");
    expect_static(&built)?;
    let to = target().join("dist");
    let failed = |error: std::io::Error| format!("{}: {error}", to.display());
    create_dir_all(&to).map_err(failed)?;
    copy(&built, to.join("imgtool")).map_err(failed)?;
    run(cargo()
        .args(["run", "--quiet", "--package", "xtask", "--features", "pages", "--", "pages"])
        .arg(&to))?;
    println!("{}", to.display());
    Ok(())
}

/// A static program asks for no interpreter (program header of type 3).
fn expect_static(file: &Path) -> Result {
    let bytes = read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let field = |at: usize, len: usize| -> Option<usize> {
        let mut word = [0; 8];
        word.get_mut(..len)?.copy_from_slice(bytes.get(at..at + len)?);
        usize::try_from(u64::from_le_bytes(word)).ok()
    };
    let headers = || -> Option<Vec<usize>> {
        let [start, size, count] = [field(0x20, 8)?, field(0x36, 2)?, field(0x38, 2)?];
        (0..count).map(|i| field(start + i * size, 4)).collect()
    };
    match headers() {
        Some(types) if !types.contains(&3) => Ok(()),
        Some(_) => Err(format!("{} is not static", file.display())),
        None => Err(format!("{} is no ELF program", file.display())),
    }
}
