//! What a run takes.

use std::fmt::{Display, Formatter, Result};
use std::path::Path;
use std::process::Command;
use testkit::tool::{find, said};

/// Of one or several programs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Bytes that must be sent.
    pub size: u64,
    /// Seconds, of user and system.
    pub processor: f64,
    /// Bytes, of the largest.
    pub memory: u64,
}

impl Cost {
    /// Of one program after the other, of which the last one makes what is sent.
    pub fn then(self, next: Self) -> Self {
        Self {
            size: next.size,
            processor: self.processor + next.processor,
            memory: self.memory.max(next.memory),
        }
    }

    pub fn bytes(&self) -> f64 {
        float(self.size)
    }

    pub fn memory(&self) -> f64 {
        float(self.memory >> 10)
    }
}

impl Display for Cost {
    fn fmt(&self, to: &mut Formatter<'_>) -> Result {
        write!(to, "{:>12} {:>10.1} s {:>8} MiB", self.size, self.processor, self.memory >> 20)
    }
}

/// Runs a command that makes the file `made`.
pub fn cost(command: &Command, made: &Path) -> Cost {
    let out = Command::new(find("/usr/bin/time"))
        .args(["-f", "%U %S %M"])
        .arg(command.get_program())
        .args(command.get_args())
        .output()
        .expect("time starts");
    assert!(out.status.success(), "{command:?}: {}", said(&out));
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    let last = text.lines().last().unwrap_or_default();
    let numbers: Vec<f64> = last.split(' ').map(|n| n.parse().expect("a number")).collect();
    let kib: u64 = last.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("kilobytes");
    Cost {
        size: made.metadata().map_or(0, |meta| meta.len()),
        processor: numbers[0] + numbers[1],
        memory: kib << 10,
    }
}

fn float(number: u64) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}
