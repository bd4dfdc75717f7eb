//! What the program can still do once the files that the operator named are open (threat model, G9).
//!
//! | layer | what is left |
//! | --- | --- |
//! | no new privileges | set-user-id programs give nothing |
//! | Landlock | opening below the declared places only; nothing is ever executed |
//! | seccomp | no programs, sockets, mounts, tracing, namespaces, kernel modules |
//! | limits | no core dump (it would hold guest data), address space in proportion to `--memory` |
//!
//! 1. Each layer is a best effort: what the system does not have is returned as a note, for `-v`.
//! 2. Landlock binds the calling thread and those that it starts: enter before starting workers.
//! 3. Nothing is taken from a file that is already open.

use disk::Limits;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seccompiler::{SeccompAction, SeccompFilter, TargetArch};
use std::path::{Path, PathBuf};

/// The newest version of Landlock whose rights we know and have looked at.
const LANDLOCK: ABI = ABI::V5;
/// Address space for code, stacks and what the allocator reserves without using it.
const RESERVE: u64 = 1 << 30;
/// The same for each worker: its stack and its part of the allocator.
const RESERVE_PER_THREAD: u64 = 160 << 20;

/// The places that a command opens only after it has entered the sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    reads: Vec<PathBuf>,
    writes: Vec<PathBuf>,
}

impl Needs {
    /// Everything is open already.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// A file, or a folder with everything below it, that will be read.
    #[must_use]
    pub fn reading(mut self, place: impl Into<PathBuf>) -> Self {
        self.reads.push(place.into());
        self
    }

    /// A file, or a folder with everything below it, where files will be made, written, renamed and removed.
    #[must_use]
    pub fn writing(mut self, place: impl Into<PathBuf>) -> Self {
        self.writes.push(place.into());
        self
    }
}

/// The folder that a file lies in.
#[must_use]
pub fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => file,
    }
}

/// Gives up everything else, for good. Returns what could not be given up.
#[must_use]
pub fn enter(needs: &Needs, limits: &Limits) -> Vec<String> {
    let mut notes = Vec::new();
    if let Err(error) = rustix::thread::set_no_new_privs(true) {
        notes.push(format!("new privileges stay possible: {error}"));
    }
    for (resource, most, what) in
        [(Resource::Core, 0, "core dumps"), (Resource::As, address_space(limits), "memory")]
    {
        if let Err(error) = lower(resource, most) {
            notes.push(format!("{what} cannot be limited: {error}"));
        }
    }
    match confine_files(needs) {
        Ok(RulesetStatus::FullyEnforced) => {}
        Ok(RulesetStatus::PartiallyEnforced) => {
            notes.push("files are confined by an older Landlock".to_owned())
        }
        Ok(RulesetStatus::NotEnforced) => notes.push("files are not confined: no Landlock here".to_owned()),
        Err(error) => notes.push(format!("files are not confined: {error}")),
    }
    if let Err(error) = confine_calls() {
        notes.push(format!("system calls are not confined: {error}"));
    }
    notes
}

fn address_space(limits: &Limits) -> u64 {
    let threads = ondisk::num::to_u64(limits.threads).saturating_mul(RESERVE_PER_THREAD);
    limits.memory.get().saturating_mul(2).saturating_add(RESERVE).saturating_add(threads)
}

/// Lowers a limit; one that is lower already stays.
fn lower(resource: Resource, most: u64) -> std::io::Result<()> {
    let now = getrlimit(resource);
    let lowest = |limit: Option<u64>| Some(limit.map_or(most, |limit| limit.min(most)));
    Ok(setrlimit(resource, Rlimit { current: lowest(now.current), maximum: lowest(now.maximum) })?)
}

fn confine_files(needs: &Needs) -> Result<RulesetStatus, Box<dyn std::error::Error>> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .create()?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = read
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSym
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer;
    let reads = needs.reads.iter().map(|place| (place, read));
    for (place, rights) in reads.chain(needs.writes.iter().map(|place| (place, write))) {
        rules = rules.add_rule(rule(place, rights)?)?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// The rule for one place; a file has no use for the rights on folders.
fn rule(place: &Path, rights: BitFlags<AccessFs>) -> Result<PathBeneath<PathFd>, Box<dyn std::error::Error>> {
    let file = PathFd::new(place)?;
    let rights = if place.is_dir() { rights } else { rights & AccessFs::from_file(LANDLOCK) };
    Ok(PathBeneath::new(file, rights))
}

/// System calls that no command has a use for, and that someone who had taken over the program would want.
const DENIED: &[libc::c_long] = &[
    // Programs and other processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_kill,
    // The network.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    // Device nodes: a guest's are never made here.
    libc::SYS_mknodat,
    // The kernel.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_personality,
    // Identity.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_capset,
];

fn confine_calls() -> Result<(), Box<dyn std::error::Error>> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let denied = DENIED.iter().map(|&call| (call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(denied, SeccompAction::Allow, refuse, arch)?;
    let program: seccompiler::BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter_all_threads(&program)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::process::Command;

    #[test]
    fn folders() {
        assert_eq!(folder_of(Path::new("a.img")), Path::new("."));
        assert_eq!(folder_of(Path::new("x/a.img")), Path::new("x"));
        assert_eq!(folder_of(Path::new("/a.img")), Path::new("/"));
    }

    #[test]
    fn limits_are_only_lowered() {
        let before = getrlimit(Resource::Nofile);
        lower(Resource::Nofile, u64::MAX).unwrap();
        assert_eq!(
            getrlimit(Resource::Nofile),
            Rlimit { maximum: before.maximum.or(Some(u64::MAX)), ..before }
        );
    }

    /// The test below runs this one as a process of its own, for nobody leaves the sandbox.
    #[test]
    fn confined_when_told() {
        let Some(root) = std::env::var_os("IMGTOOL_TEST_SANDBOX").map(PathBuf::from) else { return };
        let open_before = fs::File::options().read(true).write(true).open(root.join("secret/image")).unwrap();
        let needs = Needs::nothing().reading(root.join("parents")).writing(root.join("journals"));
        let notes = enter(&needs, &Limits::default());
        let denied = |result: std::io::Result<()>| {
            assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
        };

        assert!(rustix::thread::no_new_privs().unwrap());
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
        assert!(getrlimit(Resource::As).maximum.is_some_and(|most| most <= 4 << 30));
        denied(Command::new("/bin/true").status().map(drop));
        denied(std::net::TcpListener::bind("127.0.0.1:0").map(drop));

        open_before.set_len(4096).unwrap();
        open_before.sync_all().unwrap();
        fs::read(root.join("parents/base")).unwrap();
        fs::write(root.join("journals/new"), "x").unwrap();
        fs::rename(root.join("journals/new"), root.join("journals/newer")).unwrap();
        fs::remove_file(root.join("journals/newer")).unwrap();
        std::thread::spawn(|| ()).join().unwrap();
        if fs::read_to_string("/sys/kernel/security/lsm").is_ok_and(|lsm| !lsm.contains("landlock")) {
            assert!(notes.iter().any(|note| note.contains("no Landlock here")), "{notes:?}");
        } else {
            assert_eq!(notes, [""; 0]);
            denied(fs::read(root.join("secret/image")).map(drop));
            denied(fs::write(root.join("parents/base"), "x"));
            denied(fs::write(root.join("secret/new"), "x"));
        }
        println!("\nconfined");
    }

    #[test]
    fn nothing_is_left_but_what_was_declared() {
        let root = tempfile::tempdir().unwrap();
        for file in ["secret/image", "parents/base", "journals/other"] {
            let file = root.path().join(file);
            fs::create_dir(file.parent().unwrap()).unwrap();
            fs::write(file, "content").unwrap();
        }
        let run = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sandbox::tests::confined_when_told", "--nocapture", "--test-threads=1"])
            .env("IMGTOOL_TEST_SANDBOX", root.path())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&run.stdout);
        assert!(
            run.status.success() && told.contains("\nconfined"),
            "{told}{}",
            String::from_utf8_lossy(&run.stderr)
        );
    }
}
