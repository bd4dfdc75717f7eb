//! Which operating system a root filesystem holds.

use disk::ReadAt;
use extfs::Ext;
use ondisk::Len;
use ondisk::text::Printable;

/// What a root filesystem says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// The system's name as it calls itself, safe to print; empty where it does not say.
    pub name: String,
}

/// No file that names a system is longer.
const NAME_FILE_MAX: Len = Len::kib(64);

/// Files that hold the name in their first line, on systems without `os-release`.
const RELEASE_FILES: [&str; 4] =
    ["/etc/redhat-release", "/etc/SuSE-release", "/etc/alpine-release", "/etc/debian_version"];

/// What the guest is, if `fs` is its root: it has `/etc/fstab`, or names a system.
pub fn recognise<D: ReadAt>(fs: &Ext<D>) -> Option<Guest> {
    for path in ["/etc/os-release", "/usr/lib/os-release"] {
        if let Some(text) = read_text(fs, path) {
            return Some(Guest { name: pretty_name(&text).unwrap_or_default() });
        }
    }
    for path in RELEASE_FILES {
        if let Some(text) = read_text(fs, path) {
            return Some(Guest { name: named_by(path, &text) });
        }
    }
    read_text(fs, "/etc/fstab").map(|_| Guest { name: String::new() })
}

fn read_text<D: ReadAt>(fs: &Ext<D>, path: &str) -> Option<Vec<u8>> {
    let inode = fs.resolve(path.as_bytes()).ok()?;
    if inode.kind() != Some(extfs::Kind::File) || inode.size() > NAME_FILE_MAX {
        return None;
    }
    fs.read_whole(&inode).ok()
}

/// The value of `PRETTY_NAME`, without its quotes.
fn pretty_name(text: &[u8]) -> Option<String> {
    let line = text.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"PRETTY_NAME="))?;
    let line = line.trim_ascii();
    let quoted = |mark: u8| line.strip_prefix(&[mark])?.strip_suffix(&[mark]);
    Some(Printable(quoted(b'"').or_else(|| quoted(b'\'')).unwrap_or(line)).to_string())
}

fn named_by(path: &str, text: &[u8]) -> String {
    let first = text.split(|&b| b == b'\n').next().unwrap_or_default();
    let name = Printable(first.trim_ascii()).to_string();
    match path {
        "/etc/debian_version" => format!("Debian {name}"),
        "/etc/alpine-release" => format!("Alpine Linux {name}"),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let os = b"ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(pretty_name(os).as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(pretty_name(b"PRETTY_NAME='a\x1bb'").as_deref(), Some("a\\x1bb"));
        assert_eq!(pretty_name(b"ID=x\n"), None);
        assert_eq!(named_by("/etc/debian_version", b"12.5\n"), "Debian 12.5");
        assert_eq!(
            named_by("/etc/redhat-release", b"CentOS release 5.11 (Final)\n"),
            "CentOS release 5.11 (Final)"
        );
    }
}
