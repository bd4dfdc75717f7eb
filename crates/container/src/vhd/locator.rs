//! Parent locators: the parent's name in the spellings of several platforms.
//!
//! The names come from whoever supplied the image: they are decoded here, and opened by nobody without the rules of
//! the threat model (G2).

use super::layout::{DynamicHeader, ParentLocator};
use crate::{Error, Format, ParentRef, Result};
use disk::{ReadAt, read_vec};
use ondisk::guid::Uuid;
use ondisk::{Len, Offset, Span};

/// No platform has longer names.
const NAME_MAX: Len = Len::kib(64);

/// The space that a locator's data has in the file; `None` where it has none or lies.
pub fn space(locator: &ParentLocator) -> Option<Span> {
    let space = u64::from(locator.platform_data_space.get());
    let space = Len::new(if space < 512 { space << 9 } else { space });
    let used = Len::new(locator.platform_data_length.get().into());
    let is_used = locator.platform_code != [0; 4];
    Span::new(Offset::new(locator.platform_data_offset.get()), space.max(used)).filter(|_| is_used)
}

/// Everything that the header says about the parent.
pub fn parent_ref(file: &dyn ReadAt, header: &DynamicHeader) -> ParentRef {
    let id = Uuid(header.parent_unique_id);
    // XenServer: an image over a raw volume names nobody.
    let (id, format) = if id.is_nil() { (None, Format::Raw) } else { (Some(id), Format::Vhd) };
    let timestamp = Some(header.parent_timestamp.get()).filter(|time| *time != 0).map(super::unix_time);
    let mut parent = ParentRef { names: Vec::new(), id, format: Some(format), timestamp };
    // The relative name first: it is the one that survives a move of the whole chain.
    for code in [*b"W2ru", *b"MacX", *b"W2ku", *b"Wi2r", *b"Wi2k"] {
        for locator in header.parent_locators.iter().filter(|locator| locator.platform_code == code) {
            if let Some(name) = read(file, locator) {
                parent.push(name);
            }
        }
    }
    if let Some(name) = utf16(&header.parent_unicode_name, u16::from_be_bytes) {
        parent.push(unix(&name));
    }
    // A chain that was moved as a whole lies in one folder.
    let plain: Vec<_> = parent.names.iter().filter_map(|name| name.rsplit('/').next()).collect();
    let plain: Vec<_> = plain.into_iter().map(str::to_owned).collect();
    plain.into_iter().for_each(|name| parent.push(name));
    parent
}

fn read(file: &dyn ReadAt, locator: &ParentLocator) -> Option<String> {
    let used = Len::new(locator.platform_data_length.get().into());
    let span = Span::new(Offset::new(locator.platform_data_offset.get()), used)?;
    if used > NAME_MAX || !Span::whole(file.len()).contains(span) {
        return None;
    }
    let limits = disk::Limits { memory: NAME_MAX, ..disk::Limits::default() };
    let bytes = read_vec(file, span, &limits).ok()?;
    decode(locator.platform_code, &bytes)
}

/// A locator's data as a name with `/` between folders.
fn decode(code: [u8; 4], bytes: &[u8]) -> Option<String> {
    match &code {
        b"W2ru" | b"W2ku" => utf16(bytes, u16::from_le_bytes).map(|name| unix(&name)),
        b"MacX" => {
            let name = std::str::from_utf8(ondisk::text::until_nul(bytes)).ok()?;
            let path = name.strip_prefix("file://").unwrap_or(name);
            Some(path.strip_prefix("localhost").unwrap_or(path)).map(|path| plain(&unescape(path)))
        }
        b"Wi2r" | b"Wi2k" => std::str::from_utf8(ondisk::text::until_nul(bytes)).ok().map(unix),
        _ => None,
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<String> {
    let (pairs, _) = bytes.as_chunks::<2>();
    let units = pairs.iter().map(|pair| unit(*pair)).take_while(|&unit| unit != 0);
    char::decode_utf16(units).collect::<std::result::Result<String, _>>().ok().filter(|name| !name.is_empty())
}

/// A Windows path with the separators of everybody else, and without a drive's letter.
fn unix(name: &str) -> String {
    let mut start = name.chars();
    let drive = start.next().is_some_and(|c| c.is_ascii_alphabetic()) && start.next() == Some(':');
    let path = if drive { start.as_str() } else { name };
    plain(&path.replace('\\', "/"))
}

/// Without the `./` in front.
fn plain(path: &str) -> String {
    let mut path = path;
    while let Some(rest) = path.strip_prefix("./") {
        path = rest.trim_start_matches('/');
    }
    path.to_owned()
}

/// `%41` as `A`, as a URL has it; anything else stays as it is.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = tail.get(..2).filter(|_| first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// The header's field for a parent with that relative name: the last part of it.
pub fn name_field(name: &str) -> Result<[u8; 512]> {
    let base = name.rsplit('/').next().unwrap_or_default();
    let units: Vec<u8> = base.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let mut field = [0; 512];
    field.get_mut(..units.len()).ok_or_else(too_long)?.copy_from_slice(&units);
    Ok(field)
}

/// A name that no VHD can hold.
pub fn too_long() -> Error {
    Error::Usage { what: "the parent's name is too long for a VHD".to_owned() }
}

/// The data of a new image's locators for a parent with that relative name: code and bytes.
pub fn encode(name: &str) -> [([u8; 4], Vec<u8>); 3] {
    let relative = if name.starts_with('/') { name.to_owned() } else { format!("./{name}") };
    let windows: Vec<u8> = relative.replace('/', "\\").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let url = format!("file://{relative}").into_bytes();
    [(*b"MacX", url), (*b"W2ku", windows.clone()), (*b"W2ru", windows)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn le(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn spellings_of_one_name() {
        let name = |code: &[u8; 4], bytes: &[u8]| decode(*code, bytes);
        assert_eq!(name(b"W2ru", &le(r".\base.vhd")).unwrap(), "base.vhd");
        assert_eq!(name(b"W2ru", &le(r"..\a\base.vhd")).unwrap(), "../a/base.vhd");
        assert_eq!(name(b"W2ku", &le(r"C:\vm\Base Disk.vhd")).unwrap(), "/vm/Base Disk.vhd");
        assert_eq!(name(b"MacX", b"file://./base.vhd").unwrap(), "base.vhd");
        assert_eq!(name(b"MacX", b"file://localhost/vm/a%20b.vhd").unwrap(), "/vm/a b.vhd");
        assert_eq!(name(b"MacX", b"file:///vm/100%.vhd").unwrap(), "/vm/100%.vhd");
        assert_eq!(name(b"W2ru", &[0, 0xd8, 0x41, 0]), None, "half a surrogate pair");
        assert_eq!(name(b"Mac ", b"alias"), None);
        assert_eq!(name(b"W2ru", b""), None);
    }

    #[test]
    fn what_we_write_we_read() {
        for name in ["base.vhd", "sub/bäse.vhd", "/abs/𝄞.vhd"] {
            for (code, bytes) in encode(name) {
                assert_eq!(decode(code, &bytes).unwrap(), name);
            }
        }
    }
}
