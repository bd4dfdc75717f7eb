//! UUIDs and labels by which a boot loader, or a guest that starts, finds a volume.
//!
//! Of ext they are known; of other formats they are read from their fixed places, nothing else is believed.

use disk::ReadAt;
use ondisk::guid::Uuid;
use ondisk::text::until_nul;
use ondisk::{Len, Offset, Span};
use stack::content::Foreign;
use stack::{Content, Volume};

/// Where a format keeps its UUID, and where its label.
struct Places {
    uuid: u64,
    form: Form,
    label: Option<(u64, usize)>,
}

/// How the bytes are written as text.
#[derive(Clone, Copy)]
enum Form {
    /// 16 bytes in order.
    Uuid,
    /// A little-endian number as `ABCD-1234`.
    Fat,
    /// A little-endian number of 8 bytes.
    Ntfs,
}

/// What identifies the content of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ident {
    /// As `blkid` and GRUB write it.
    pub uuid: Option<String>,
    /// Bytes of the image.
    pub label: Vec<u8>,
}

/// What identifies the content of a volume; nothing where it cannot be read.
pub(crate) fn of(disk: &dyn ReadAt, volume: &Volume) -> Ident {
    if let Some(facts) = volume.facts() {
        return Ident { uuid: Some(facts.uuid.to_string()), label: facts.label.clone() };
    }
    let Ok(view) = volume.region.reader(disk) else { return Ident::default() };
    let Some(places) = places(&*view, volume.content) else { return Ident::default() };
    let label = places.label.and_then(|(at, len)| read(&*view, at, len)).unwrap_or_default();
    Ident { uuid: uuid(&*view, &places), label: until_nul(&label).trim_ascii_end().to_vec() }
}

fn uuid(volume: &dyn ReadAt, places: &Places) -> Option<String> {
    match places.form {
        Form::Uuid => Some(Uuid(read(volume, places.uuid, 16)?.try_into().ok()?).to_string()),
        Form::Fat => {
            let number = u32::from_le_bytes(read(volume, places.uuid, 4)?.try_into().ok()?);
            Some(format!("{:04X}-{:04X}", number >> 16, number & 0xffff))
        }
        Form::Ntfs => {
            let number = u64::from_le_bytes(read(volume, places.uuid, 8)?.try_into().ok()?);
            Some(format!("{number:016X}"))
        }
    }
}

fn places(volume: &dyn ReadAt, content: Content) -> Option<Places> {
    let places = |uuid, form, label| Some(Places { uuid, form, label });
    match content {
        Content::Swap { .. } => places(1036, Form::Uuid, Some((1052, 16))),
        Content::Foreign(Foreign::Xfs) => places(32, Form::Uuid, Some((108, 12))),
        Content::Foreign(Foreign::Btrfs) => places(0x1_0020, Form::Uuid, Some((0x1_012b, 256))),
        Content::Foreign(Foreign::Ntfs) => places(72, Form::Ntfs, None),
        Content::Foreign(Foreign::Fat) => {
            let is_fat32 = read(volume, 82, 5)? == b"FAT32";
            if is_fat32 {
                places(67, Form::Fat, Some((71, 11)))
            } else {
                places(39, Form::Fat, Some((43, 11)))
            }
        }
        _ => None,
    }
}

fn read(volume: &dyn ReadAt, at: u64, len: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len];
    let span = Span::new(Offset::new(at), Len::of(&bytes))?;
    if !Span::whole(volume.len()).contains(span) {
        return None;
    }
    volume.read_at(span.start(), &mut bytes).ok().map(|()| bytes)
}
