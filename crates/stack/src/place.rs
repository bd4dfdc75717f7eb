//! Which place inside an image is meant: what `-p/--partition` takes.
//!
//! ```text
//! 3                          partition 3, numbered as Linux numbers it
//! LABEL= UUID= PARTUUID= PARTLABEL=     as in fstab
//! vg/lv                      a logical volume of the guest
//! whole                      the whole disk
//! /dev/sda3 vda3 /dev/nvme0n1p3 /dev/vg/lv /dev/mapper/vg-lv    names from inside the guest
//! ```
//!
//! 1. Parsing is pure: it knows the grammar, and nothing of any image.
//! 2. An image is one disk: which disk of the guest a device name names (`sda`, `vdb`) does not matter.
//! 3. `Display` gives a text that parses to the same place (`Auto` has none).

use std::fmt;
use std::str::FromStr;

/// A place inside an image, as typed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Place {
    /// The one that the command can mean.
    #[default]
    Auto,
    /// The whole disk.
    Whole,
    /// The partition of that number, from 1; logical ones from 5.
    Partition(u32),
    /// The filesystem with that label.
    Label(String),
    /// The filesystem with that UUID, or what its kind has instead of one (`ABCD-1234`).
    Uuid(String),
    /// The partition with that label (GPT).
    PartLabel(String),
    /// The partition with that GUID (GPT), or disk signature and number (MBR: `1234abcd-01`).
    PartUuid(String),
    /// A logical volume.
    Volume {
        /// The name of its volume group.
        vg: String,
        /// Its own name.
        lv: String,
    },
}

/// A text that does not name a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPlace {
    /// Not one of the forms.
    #[error(
        "not a place; write a partition's number, LABEL=…, UUID=…, PARTUUID=…, PARTLABEL=…, vg/lv or whole"
    )]
    Form,
    /// Partition 0, or a number that no table has.
    #[error("partitions are numbered from 1")]
    Number,
    /// `LABEL=` and alike with nothing behind it.
    #[error("nothing stands behind the equals sign")]
    Empty,
    /// A device-mapper name that is not `vg-lv`.
    #[error("not the device of a logical volume; write vg/lv")]
    Mapper,
}

impl FromStr for Place {
    type Err = BadPlace;

    fn from_str(text: &str) -> Result<Self, BadPlace> {
        if text == "whole" {
            return Ok(Self::Whole);
        }
        if let Some((tag, value)) = text.split_once('=') {
            return tagged(tag, value);
        }
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return number(text);
        }
        if let Some(name) = text.strip_prefix("/dev/mapper/") {
            return mapper(name);
        }
        let name = text.strip_prefix("/dev/").unwrap_or(text);
        match name.split_once('/') {
            Some((vg, lv)) if is_lvm_name(vg) && is_lvm_name(lv) => {
                Ok(Self::Volume { vg: vg.to_owned(), lv: lv.to_owned() })
            }
            Some(_) => Err(BadPlace::Form),
            None => device(name),
        }
    }
}

fn tagged(tag: &str, value: &str) -> Result<Place, BadPlace> {
    let place = match tag {
        "LABEL" => Place::Label,
        "UUID" => Place::Uuid,
        "PARTLABEL" => Place::PartLabel,
        "PARTUUID" => Place::PartUuid,
        _ => return Err(BadPlace::Form),
    };
    if value.is_empty() { Err(BadPlace::Empty) } else { Ok(place(value.to_owned())) }
}

fn number(digits: &str) -> Result<Place, BadPlace> {
    match digits.parse() {
        Ok(n) if n > 0 && !digits.starts_with('0') => Ok(Place::Partition(n)),
        _ => Err(BadPlace::Number),
    }
}

/// A disk or partition by its kernel name: letters and a number (`sda3`), or, where the disk's own name ends in a
/// digit, a `p` between the two numbers (`nvme0n1p3`).
fn device(name: &str) -> Result<Place, BadPlace> {
    for family in ["sd", "vd", "xvd", "hd"] {
        if let Some(rest) = name.strip_prefix(family) {
            let partition = rest.trim_start_matches(|c: char| c.is_ascii_lowercase());
            return if partition.len() == rest.len() { Err(BadPlace::Form) } else { whole_or(partition) };
        }
    }
    let rest = if let Some(rest) = name.strip_prefix("nvme") {
        digits_off(rest).and_then(|rest| rest.strip_prefix('n'))
    } else {
        ["mmcblk", "loop", "nbd"].into_iter().find_map(|family| name.strip_prefix(family))
    };
    match rest.and_then(digits_off).ok_or(BadPlace::Form)? {
        "" => Ok(Place::Whole),
        rest => match rest.strip_prefix('p') {
            Some(partition) if !partition.is_empty() => whole_or(partition),
            _ => Err(BadPlace::Form),
        },
    }
}

/// What follows the name of a disk: nothing, or the number of a partition.
fn whole_or(partition: &str) -> Result<Place, BadPlace> {
    if partition.is_empty() {
        Ok(Place::Whole)
    } else if partition.bytes().all(|b| b.is_ascii_digit()) {
        number(partition)
    } else {
        Err(BadPlace::Form)
    }
}

/// The text behind at least one digit.
fn digits_off(text: &str) -> Option<&str> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    (rest.len() < text.len()).then_some(rest)
}

/// Takes a device-mapper name apart: one hyphen separates group and volume, two stand for one in a name.
fn mapper(name: &str) -> Result<Place, BadPlace> {
    let mut parts = vec![String::new()];
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        let separates = c == '-' && chars.next_if_eq(&'-').is_none();
        match parts.last_mut() {
            Some(part) if !separates => part.push(c),
            _ => parts.push(String::new()),
        }
    }
    match <[String; 2]>::try_from(parts) {
        Ok([vg, lv]) if is_lvm_name(&vg) && is_lvm_name(&lv) => Ok(Place::Volume { vg, lv }),
        _ => Err(BadPlace::Mapper),
    }
}

/// The names that LVM allows for groups and volumes.
fn is_lvm_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && !name.starts_with('-')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+_.-".contains(&b))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => Ok(()),
            Self::Whole => f.write_str("whole"),
            Self::Partition(n) => n.fmt(f),
            Self::Label(label) => write!(f, "LABEL={label}"),
            Self::Uuid(uuid) => write!(f, "UUID={uuid}"),
            Self::PartLabel(label) => write!(f, "PARTLABEL={label}"),
            Self::PartUuid(uuid) => write!(f, "PARTUUID={uuid}"),
            Self::Volume { vg, lv } => write!(f, "{vg}/{lv}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(vg: &str, lv: &str) -> Place {
        Place::Volume { vg: vg.to_owned(), lv: lv.to_owned() }
    }

    #[test]
    fn every_form() {
        for (text, place) in [
            ("3", Place::Partition(3)),
            ("whole", Place::Whole),
            ("LABEL=root fs", Place::Label("root fs".to_owned())),
            ("LABEL=a=b", Place::Label("a=b".to_owned())),
            ("UUID=ABCD-1234", Place::Uuid("ABCD-1234".to_owned())),
            ("PARTUUID=1234abcd-01", Place::PartUuid("1234abcd-01".to_owned())),
            ("PARTLABEL=EFI", Place::PartLabel("EFI".to_owned())),
            ("ubuntu-vg/ubuntu-lv", volume("ubuntu-vg", "ubuntu-lv")),
            ("/dev/vg/lv", volume("vg", "lv")),
            ("/dev/mapper/vg-lv", volume("vg", "lv")),
            ("/dev/mapper/ubuntu--vg-ubuntu--lv", volume("ubuntu-vg", "ubuntu-lv")),
            ("/dev/mapper/a---b", volume("a-", "b")),
        ] {
            assert_eq!(text.parse(), Ok(place.clone()), "{text}");
            assert_eq!(place.to_string().parse(), Ok(place), "{text}");
        }
    }

    #[test]
    fn device_names() {
        for text in
            ["/dev/sda3", "vda3", "/dev/xvda3", "/dev/nvme0n1p3", "hdb3", "sdaa3", "mmcblk0p3", "nbd12p3"]
        {
            assert_eq!(text.parse(), Ok(Place::Partition(3)), "{text}");
        }
        for text in ["/dev/sda", "vdb", "nvme0n1", "/dev/loop7"] {
            assert_eq!(text.parse(), Ok(Place::Whole), "{text}");
        }
        assert_eq!("/dev/sda15".parse(), Ok(Place::Partition(15)));
    }

    #[test]
    fn refusals() {
        for text in [
            "",
            "/",
            "/dev",
            "/dev/",
            "root",
            "sd",
            "sd3",
            "sda3x",
            "nvme0",
            "nvme0n",
            "nvme0n1p",
            "nvme0n13p",
            "nvmen1",
            "loopp1",
            "vg/",
            "/lv",
            "/dev/vg/lv/x",
            "../etc",
            "vg/..",
            "-vg/lv",
            "v g/lv",
            "FOO=bar",
            "label=x",
            "/dev/disk/by-uuid/x",
            "３",
        ] {
            assert_eq!(text.parse::<Place>(), Err(BadPlace::Form), "{text}");
        }
        for text in ["0", "03", "99999999999", "/dev/sda0", "nvme0n1p0"] {
            assert_eq!(text.parse::<Place>(), Err(BadPlace::Number), "{text}");
        }
        for text in [
            "/dev/mapper/cryptroot",
            "/dev/mapper/vg-lv-real",
            "/dev/mapper/-lv",
            "/dev/mapper/vg-",
            "/dev/mapper/",
        ] {
            assert_eq!(text.parse::<Place>(), Err(BadPlace::Mapper), "{text}");
        }
        assert_eq!("UUID=".parse::<Place>(), Err(BadPlace::Empty));
    }
}
