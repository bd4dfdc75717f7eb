//! What the names of volumes and files mean to the storage manager.
//!
//! ```text
//!                 volume group                     folder
//! virtual disk    VHD-UUID LV-UUID QCOW2-UUID      UUID.vhd UUID.raw UUID.qcow2
//! journal         TYPE_ID_VALUE                    TYPE_UUID
//! undo of resize  jvhd_UUID                        .journal-UUID
//! changed blocks  UUID.cbtlog                      UUID.cbtlog
//! left over       VHD-OLD_UUID  UUID_trim_lv       OLD_UUID.vhd  UUID.vhd.new
//! ```

use container::Format;
use ondisk::guid::Uuid;

/// What a volume or file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// The image of a virtual disk.
    Vdi(Uuid, Format),
    /// The volume `MGT`.
    Metadata,
    /// A change of the storage manager's that was not finished.
    Pending(Journal),
    /// Which blocks of a VDI have changed.
    ChangedBlocks(Uuid),
    /// What an operation has left, or will take away.
    Leftover,
    /// Nothing of the storage manager's.
    Other,
}

/// A change that was not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Journal {
    /// A snapshot or clone.
    Clone,
    /// A volume gets its full size.
    Inflate,
    /// A leaf is merged into its parent.
    Leaf,
    /// A node is merged into its parent.
    Coalesce,
    /// Children get another parent.
    Relink,
    /// A raw volume is zeroed.
    Zero,
    /// A VHD gets another size.
    Resize,
}

const JOURNALS: [(&str, Journal); 7] = [
    ("clone", Journal::Clone),
    ("inflate", Journal::Inflate),
    ("leaf", Journal::Leaf),
    ("coalesce", Journal::Coalesce),
    ("relink", Journal::Relink),
    ("zero", Journal::Zero),
    ("jvhd", Journal::Resize),
];

const PREFIXES: [(&str, Format); 3] =
    [("VHD-", Format::Vhd), ("LV-", Format::Raw), ("QCOW2-", Format::Qcow2)];
const SUFFIXES: [(&str, Format); 3] =
    [(".vhd", Format::Vhd), (".raw", Format::Raw), (".qcow2", Format::Qcow2)];

impl Journal {
    /// What was going on.
    #[must_use]
    pub const fn described(self) -> &'static str {
        match self {
            Self::Clone => "a snapshot or clone",
            Self::Inflate => "the inflation of a volume",
            Self::Leaf => "the coalescing of a leaf",
            Self::Coalesce => "a coalescing",
            Self::Relink => "the relinking of children",
            Self::Zero => "the zeroing of a raw volume",
            Self::Resize => "the resize of a VHD",
        }
    }
}

impl Role {
    /// Of a logical volume.
    #[must_use]
    pub fn of_volume(name: &str) -> Self {
        if name == "MGT" {
            return Self::Metadata;
        }
        for (prefix, format) in PREFIXES {
            if let Some(rest) = name.strip_prefix(prefix) {
                let vdi = || uuid(rest).map(|uuid| Self::Vdi(uuid, format));
                return if rest.starts_with("OLD_") { Self::Leftover } else { vdi().unwrap_or(Self::Other) };
            }
        }
        if name.strip_suffix("_trim_lv").and_then(uuid).is_some() {
            return Self::Leftover;
        }
        Self::of_either(name)
    }

    /// Of a file.
    #[must_use]
    pub fn of_file(name: &str) -> Self {
        if name.strip_prefix(".journal-").and_then(uuid).is_some() {
            return Self::Pending(Journal::Resize);
        }
        for (suffix, format) in SUFFIXES {
            if let Some(vdi) = name.strip_suffix(suffix).and_then(uuid) {
                return Self::Vdi(vdi, format);
            }
            let new = name.strip_suffix(".new").and_then(|name| name.strip_suffix(suffix)).and_then(uuid);
            let old = name.strip_suffix(suffix).and_then(|name| name.strip_prefix("OLD_")).and_then(uuid);
            if new.or(old).is_some() {
                return Self::Leftover;
            }
        }
        Self::of_either(name)
    }

    fn of_either(name: &str) -> Self {
        if let Some(vdi) = name.strip_suffix(".cbtlog").and_then(uuid) {
            return Self::ChangedBlocks(vdi);
        }
        let Some((kind, rest)) = name.split_once('_') else { return Self::Other };
        let journal = JOURNALS.iter().find(|(name, _)| *name == kind);
        let of_vdi = rest.get(..36).is_some_and(|id| uuid(id).is_some());
        journal.filter(|_| of_vdi).map_or(Self::Other, |(_, journal)| Self::Pending(*journal))
    }
}

/// The UUIDs in a parent's name, as it may be told: a file's name, a volume's, or that of its device node, in which
/// every hyphen stands twice.
pub fn uuids_in(name: &str) -> impl Iterator<Item = Uuid> {
    let last = name.rsplit('/').next().unwrap_or_default();
    let single = last.replace("--", "-");
    let starts: Vec<usize> = single.char_indices().map(|(at, _)| at).rev().collect();
    starts.into_iter().filter_map(move |at| uuid(single.get(at..)?.get(..36)?))
}

/// A UUID as it is written in names, and nothing else.
fn uuid(text: &str) -> Option<Uuid> {
    let uuid: Uuid = text.parse().ok()?;
    text.eq_ignore_ascii_case(&uuid.to_string()).then_some(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4e5a5d1c-2a3b-4c5d-8e9f-0123456789ab";

    fn id() -> Uuid {
        ID.parse().unwrap()
    }

    #[test]
    fn volumes() {
        let role = |name: &str| Role::of_volume(&name.replace("ID", ID));
        assert_eq!(role("VHD-ID"), Role::Vdi(id(), Format::Vhd));
        assert_eq!(role("LV-ID"), Role::Vdi(id(), Format::Raw));
        assert_eq!(role("QCOW2-ID"), Role::Vdi(id(), Format::Qcow2));
        assert_eq!(role("MGT"), Role::Metadata);
        assert_eq!(role("VHD-OLD_ID"), Role::Leftover);
        assert_eq!(role("ID_trim_lv"), Role::Leftover);
        assert_eq!(role("ID.cbtlog"), Role::ChangedBlocks(id()));
        assert_eq!(role("jvhd_ID"), Role::Pending(Journal::Resize));
        assert_eq!(role("leaf_ID_1"), Role::Pending(Journal::Leaf));
        assert_eq!(role("inflate_ID_8388608"), Role::Pending(Journal::Inflate));
        for name in ["VHD-", "VHD-ID0", "leaf_1", "swap_1", "root", "leaf", "VHD-é"] {
            assert_eq!(role(name), Role::Other, "{name}");
        }
    }

    #[test]
    fn files() {
        let role = |name: &str| Role::of_file(&name.replace("ID", ID));
        assert_eq!(role("ID.vhd"), Role::Vdi(id(), Format::Vhd));
        assert_eq!(role("ID.raw"), Role::Vdi(id(), Format::Raw));
        assert_eq!(role("OLD_ID.vhd"), Role::Leftover);
        assert_eq!(role("ID.vhd.new"), Role::Leftover);
        assert_eq!(role(".journal-ID"), Role::Pending(Journal::Resize));
        assert_eq!(role("coalesce_ID"), Role::Pending(Journal::Coalesce));
        for name in ["filelog.txt", "lost+found", "ID", "x.vhd", "sm-hardlink.conf"] {
            assert_eq!(role(name), Role::Other, "{name}");
        }
    }

    #[test]
    fn a_parent_is_named_in_many_ways() {
        let doubled = ID.replace('-', "--");
        let node = format!("./VG_XenStorage--{}-VHD--{doubled}", ID.replace('4', "5").replace('-', "--"));
        for name in [format!("./{ID}.vhd"), format!("VHD-{ID}"), node] {
            assert_eq!(uuids_in(&name).next(), Some(id()), "{name}");
        }
        assert_eq!(uuids_in("./dm-7").next(), None);
        assert_eq!(uuids_in("ümläüt-and-more-than-thirty-six-characters").next(), None);
    }
}
