//! Keys that a password locks: it is read from a file or typed on a terminal, and without it nothing is made.

use std::fs::write;
use std::process::{Command, Output, Stdio};

use testkit::images::noise;
use testkit::tool::{done, said, tool};

use crate::kit::IMGTOOL;

const PASSWORD: &str = "open sesame";

/// Locks a key of minisign as minisign does, but so that to try a password takes a MiB, not a GiB.
const LOCK: &str = r"
import base64, hashlib, os, sys
name, password = sys.argv[1:]
about, line = open(name).read().split('\n')[:2]
secret = base64.b64decode(line)[54:126]
plain = secret + hashlib.blake2b(b'Ed' + secret, digest_size=32).digest()
salt = os.urandom(32)
pad = hashlib.scrypt(password.encode(), salt=salt, n=1024, r=8, p=1, dklen=len(plain))
limits = (32768).to_bytes(8, 'little') + (1 << 24).to_bytes(8, 'little')
locked = b'EdScB2' + salt + limits + bytes(a ^ b for a, b in zip(plain, pad))
open(name, 'w').write(about + '\n' + base64.b64encode(locked).decode() + '\n')
";

/// Runs a command on a terminal of its own, types what it is told as soon as that is hidden, and shows what was to be seen.
const TYPE: &str = r"
import os, pty, signal, sys, termios, time
typed, command = sys.argv[1], sys.argv[2:]
signal.alarm(60)
pid, terminal = pty.fork()
if pid == 0:
    os.execv(command[0], command)
seen = b''
while b'password' not in seen:
    seen += os.read(terminal, 1000)
while termios.tcgetattr(terminal)[3] & termios.ECHO:
    time.sleep(0.01)
os.write(terminal, typed.encode())
try:
    while part := os.read(terminal, 1000):
        seen += part
except OSError:
    pass
print(seen.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

/// Runs a command with a terminal as its input that is not that of its session.
const ALONE: &str = r"
import pty, subprocess, sys
sys.exit(subprocess.run(sys.argv[1:], stdin=pty.openpty()[1], start_new_session=True, timeout=60).returncode)
";

struct Folder(tempfile::TempDir);

impl Folder {
    /// With a disk, and a key that is locked.
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        write(folder.0.path().join("disk"), noise(1, 1 << 20)).unwrap();
        done(folder.at("minisign").args(["-G", "-W", "-p", "key.pub", "-s", "key"]));
        done(folder.at("python3").args(["-c", LOCK, "key", PASSWORD]));
        folder
    }

    fn at(&self, name: &str) -> Command {
        let mut command = tool(name);
        command.current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    /// Makes a signed patch.
    fn sign(&self, more: &[&str]) -> Output {
        self.at(IMGTOOL)
            .args(["delta", "create", "disk", "-o", "p", "--sign", "key"])
            .args(more)
            .output()
            .unwrap()
    }

    /// As [`Self::sign`], by a script that runs a command.
    fn by(&self, script: &[&str]) -> Output {
        let line = [IMGTOOL, "delta", "create", "disk", "-o", "p", "--sign", "key"];
        self.at("python3").arg("-c").args(script).args(line).output().unwrap()
    }

    fn signed(&self, out: &Output) {
        assert_eq!(out.status.code(), Some(0), "{}", said(out));
        let line = ["delta", "info", "p", "--require-signature", "--pubkey", "key.pub"];
        done(self.at(IMGTOOL).args(line));
        std::fs::remove_file(self.0.path().join("p")).unwrap();
    }

    fn refused(&self, out: &Output, code: i32, why: &str) {
        assert!(out.status.code() == Some(code) && said(out).contains(why), "{}: {}", out.status, said(out));
        assert!(!self.0.path().join("p").exists());
    }
}

#[test]
fn in_a_file() {
    let folder = Folder::new();
    write(folder.0.path().join("password"), format!("{PASSWORD}\n")).unwrap();
    write(folder.0.path().join("wrong"), "sesame\n").unwrap();
    // The key is one of minisign's.
    let password = std::fs::File::open(folder.0.path().join("password")).unwrap();
    done(folder.at("minisign").stdin(password).args(["-S", "-s", "key", "-m", "disk"]));
    done(folder.at("minisign").args(["-V", "-p", "key.pub", "-m", "disk"]));
    folder.signed(&folder.sign(&["--password-file", "password"]));
    folder.refused(&folder.sign(&["--password-file", "wrong"]), 3, "key");
    folder.refused(&folder.sign(&[]), 3, "--password-file");
}

#[test]
fn on_a_terminal() {
    let folder = Folder::new();
    let typed = |password: &str| {
        let out = folder.by(&[TYPE, password]);
        assert!(!said(&out).contains("sesame"), "it can be read: {}", said(&out));
        out
    };
    folder.signed(&typed(&format!("{PASSWORD}\n")));
    folder.refused(&typed("sesame\n"), 3, "key");
    folder.refused(&typed("\n"), 3, "key");
    folder.refused(&typed("\x04"), 3, "--password-file");
    folder.refused(&typed("\x03"), 130, "interrupted");
    folder.refused(&folder.by(&[ALONE]), 3, "--password-file");
}
