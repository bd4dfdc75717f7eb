//! Names that GRUB 2 gives to devices, and the commands that a core runs first.
//!
//! ```text
//! (hd0,gpt2)/boot/grub    (,msdos1)/boot/grub    ()/boot/grub    /boot/grub
//! (lvm/vg-lv)/boot/grub   (lvmid/VG-UUID/LV-UUID)/boot/grub      (mduuid/…)/grub
//! search.fs_uuid UUID root HINT…        search --fs-uuid --set=root UUID        set prefix=($root)'/boot/grub'
//! ```
//!
//! 1. An empty disk is the one that was booted from.
//! 2. Only commands that find the root or name the prefix mean something here; a script that branches is not followed.

use ondisk::text::Printable;

/// The device of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    /// The disk that was booted from, or one by number, and what of it.
    Disk { disk: Option<u32>, part: Part },
    /// A logical volume by its name for the device mapper: `vg-lv`.
    Lvm(String),
    /// A logical volume by the UUIDs of its group and of itself.
    LvmId(String, String),
    /// Something else: its whole name.
    Other(String),
}

/// Which part of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// A partition by number, and the kind of table that it is in, where that is said.
    Number(Option<String>, u32),
}

/// How the commands of a core find the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Search {
    /// By the UUID of a filesystem.
    Uuid(String),
    /// By its label.
    Label(String),
    /// By a file on it.
    File(String),
}

/// What the commands of a core do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Commands {
    /// The last search that sets the root.
    pub search: Option<Search>,
    /// The root where it is set by name.
    pub root: Option<Device>,
    /// The prefix: its device, unless it is `$root`, and its path.
    pub prefix: Option<(Option<Device>, Vec<u8>)>,
}

/// No core has more commands that matter.
const LINES_MAX: usize = 64;
/// No disk has such a number of partitions; longer texts are no numbers.
const DIGITS_MAX: usize = 6;

/// Takes a path into device and rest. A path without a device is on what was booted from.
pub(crate) fn path(text: &[u8]) -> (Option<Device>, Vec<u8>) {
    let inner = text.strip_prefix(b"(").and_then(|rest| {
        let end = rest.iter().position(|&byte| byte == b')')?;
        Some((rest.get(..end)?, rest.get(end.saturating_add(1)..)?))
    });
    match inner {
        Some((b"$root", rest)) => (None, rest.to_vec()),
        Some((name, rest)) => (Some(device(name)), rest.to_vec()),
        None => (None, text.to_vec()),
    }
}

/// What a device's name means, without its parentheses.
pub(crate) fn device(name: &[u8]) -> Device {
    let shown = Printable(name).to_string();
    if let Some(name) = shown.strip_prefix("lvm/") {
        return Device::Lvm(name.to_owned());
    }
    if let Some((vg, lv)) = shown.strip_prefix("lvmid/").and_then(|ids| ids.split_once('/')) {
        return Device::LvmId(vg.to_owned(), lv.to_owned());
    }
    let (disk, part) = match shown.split_once(',') {
        Some((disk, part)) => (disk, Some(part)),
        None => (shown.as_str(), None),
    };
    let disk = match disk {
        "" => Some(None),
        disk => disk.strip_prefix("hd").and_then(number).map(Some),
    };
    let part = match part {
        None => Some(Part::Whole),
        Some(part) => {
            let kind = part.trim_end_matches(|c: char| c.is_ascii_digit());
            let number = part.get(kind.len()..).and_then(number).filter(|number| *number > 0);
            number.map(|number| Part::Number((!kind.is_empty()).then(|| kind.to_owned()), number))
        }
    };
    match (disk, part) {
        (Some(disk), Some(part)) => Device::Disk { disk, part },
        _ => Device::Other(shown),
    }
}

fn number(digits: &str) -> Option<u32> {
    let short = !digits.is_empty() && digits.len() <= DIGITS_MAX;
    short.then(|| digits.parse().ok()).flatten()
}

/// What the commands of a core do.
pub(crate) fn commands(config: &[u8]) -> Commands {
    let mut commands = Commands::default();
    for line in config.split(|&byte| byte == b'\n' || byte == b';').take(LINES_MAX) {
        let words = words(line);
        match words.split_first() {
            Some((first, rest)) if first == "search" || first.starts_with("search.") => {
                commands.search = search(first, rest).or(commands.search);
            }
            Some((first, rest)) if first == "set" => {
                match rest.first().and_then(|word| word.split_once('=')) {
                    Some(("root", value)) => commands.root = Some(root(value)),
                    Some(("prefix", value)) => commands.prefix = Some(path(value.as_bytes())),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    commands
}

fn root(value: &str) -> Device {
    device(value.trim_start_matches('(').trim_end_matches(')').as_bytes())
}

/// The words of a line, without their quotes, as far as they are text.
fn words(line: &[u8]) -> Vec<String> {
    let line = String::from_utf8_lossy(line);
    line.split_whitespace().map(|word| word.replace(['\'', '"'], "")).collect()
}

fn search(command: &str, words: &[String]) -> Option<Search> {
    let search: Option<fn(String) -> Search> = match command {
        "search.fs_uuid" => Some(Search::Uuid),
        "search.fs_label" => Some(Search::Label),
        "search.file" => Some(Search::File),
        _ => words.iter().find_map(|word| by(word)),
    };
    // `--set root` takes a word of its own, `--set=root` and the dotted commands do not.
    let mut plain = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        if (word == "--set" || word == "-s") && words.peek().is_some_and(|next| *next == "root") {
            words.next();
        } else if !word.starts_with('-') {
            plain.push(word);
        }
    }
    let name = if command == "search" { plain.last() } else { plain.first() };
    Some(search?(name?.to_string()))
}

/// What an option of `search` searches by.
fn by(option: &str) -> Option<fn(String) -> Search> {
    match option {
        "--fs-uuid" | "-u" => Some(Search::Uuid),
        "--label" | "-l" | "--fs-label" => Some(Search::Label),
        "--file" | "-f" => Some(Search::File),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(disk: Option<u32>, kind: Option<&str>, number: u32) -> Option<Device> {
        Some(Device::Disk { disk, part: Part::Number(kind.map(str::to_owned), number) })
    }

    #[test]
    fn paths() {
        for (text, want) in [
            ("(hd0,gpt2)/boot/grub", at(Some(0), Some("gpt"), 2)),
            ("(,msdos1)/boot/grub", at(None, Some("msdos"), 1)),
            ("(hd1,3)/boot/grub", at(Some(1), None, 3)),
            ("()/boot/grub", Some(Device::Disk { disk: None, part: Part::Whole })),
            ("/boot/grub", None),
            ("($root)/boot/grub", None),
            ("(lvm/vg-root)/boot/grub", Some(Device::Lvm("vg-root".to_owned()))),
            ("(lvmid/a/b)/boot/grub", Some(Device::LvmId("a".to_owned(), "b".to_owned()))),
            ("(mduuid/0123)/boot/grub", Some(Device::Other("mduuid/0123".to_owned()))),
            ("(hd0,gpt)/boot/grub", Some(Device::Other("hd0,gpt".to_owned()))),
            ("(,msdos0)/boot/grub", Some(Device::Other(",msdos0".to_owned()))),
            ("(hd0,gpt99999999999)/boot/grub", Some(Device::Other("hd0,gpt99999999999".to_owned()))),
        ] {
            assert_eq!(path(text.as_bytes()), (want, b"/boot/grub".to_vec()), "{text}");
        }
        assert_eq!(path(b"(hd0,gpt2/boot"), (None, b"(hd0,gpt2/boot".to_vec()));
    }

    #[test]
    fn searches() {
        let uuid = || Some(Search::Uuid("0a1b-2c3d".to_owned()));
        for line in [
            "search.fs_uuid 0a1b-2c3d root hd0,gpt2",
            "search --fs-uuid --set=root 0a1b-2c3d",
            "search --no-floppy --fs-uuid --set root 0a1b-2c3d",
            "search -u -s root '0a1b-2c3d'",
        ] {
            assert_eq!(commands(line.as_bytes()).search, uuid(), "{line}");
        }
        assert_eq!(commands(b"search --label BOOT -s").search, Some(Search::Label("BOOT".to_owned())));
        assert_eq!(commands(b"search").search, None);
        let all = commands(b"search.fs_uuid 0a1b-2c3d root \nset prefix=($root)'/boot/grub'\n");
        assert_eq!(
            all,
            Commands { search: uuid(), root: None, prefix: Some((None, b"/boot/grub".to_vec())) }
        );
        assert_eq!(commands(b"set root='hd0,msdos1'").root, at(Some(0), Some("msdos"), 1));
    }
}
