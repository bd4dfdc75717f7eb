//! GRUB 2's core image: the kernel with the modules it needs to find the rest of itself.
//!
//! ```text
//! boot.img            kernel_sector → diskboot.img     list → decompressor | LZMA stream | error correction
//! decompressed        kernel | "mimg" head | object | object | …
//! object              a module (ELF) | commands | the prefix
//! ```
//!
//! 1. The stream begins behind the decompressor, whose length differs between builds: places are tried until one yields
//!    a module area that ends where the stated size does.
//! 2. Sizes are bounded before anything is decompressed, and so is the sum of all tries.
//!
//! Source of the format: what `grub-mkimage` and `grub-bios-setup` of GRUB 2.06 write, and the field names of GRUB's
//! own headers.

use crate::layout::{
    Decompressor, ElfHeader, ElfSection, MODULE_MAGIC, ModuleHeader, ModuleInfo, OBJ_TYPE_CONFIG,
    OBJ_TYPE_ELF, OBJ_TYPE_PREFIX,
};
use crate::list::Loaded;
use crate::{Error, Result};
use lzma_rust2::LzmaReader;
use ondisk::num::{to_u64, to_usize};
use ondisk::text::{Printable, until_nul};
use ondisk::{Lba, Len};
use std::io::Read;
use zerocopy::FromBytes;

/// Kernel and all modules there are take less.
const UNCOMPRESSED_MAX: u32 = 2 << 20;
/// What all tries may decompress together.
const TRIES_MAX: u32 = 4 << 20;
/// The decompressor is loaded below the kernel's place.
const DECOMPRESSOR_MAX: usize = 0xe00;
/// Its length in GRUB 2.06.
const DECOMPRESSOR_USUAL: usize = 2848;
/// More objects than modules exist.
const OBJECTS_MAX: usize = 1024;
/// No module has a longer name.
const NAME_MAX: usize = 64;
/// The parameters that the decompressor is built with.
const LC: u32 = 3;
const LP: u32 = 0;
const PB: u32 = 2;
const DICTIONARY: u32 = 1 << 16;

/// What a core holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Core {
    /// The names of its modules, in the order in which they start; safe to print.
    pub modules: Vec<String>,
    /// Where GRUB's folder is; bytes of the image.
    pub prefix: Option<Vec<u8>>,
    /// The commands that it runs first; bytes of the image.
    pub config: Option<Vec<u8>>,
    /// The length of its compressed part.
    pub compressed: Len,
    /// The length of what corrects errors in it.
    pub redundancy: Len,
}

impl Core {
    /// What the objects of a core tell.
    fn of(objects: &[(u32, &[u8])]) -> Self {
        let mut core = Self::default();
        for (kind, object) in objects {
            match *kind {
                OBJ_TYPE_ELF => core.modules.push(Printable(module_name(object)).to_string()),
                OBJ_TYPE_CONFIG => core.config = Some(until_nul(object).to_vec()),
                OBJ_TYPE_PREFIX => core.prefix = Some(until_nul(object).to_vec()),
                _ => {}
            }
        }
        core
    }

    /// Whether it holds a module.
    #[must_use]
    pub fn has(&self, module: &str) -> bool {
        self.modules.iter().any(|one| one == module)
    }
}

/// Takes a core apart that begins at `at`.
pub(crate) fn parse(at: Lba, loaded: &Loaded) -> Result<Core> {
    let broken = |what: String| Error::broken("the core", at, what);
    let (head, _) = Decompressor::read_from_prefix(&loaded.bytes)
        .map_err(|_| broken(format!("has {} bytes behind its first sector", loaded.bytes.len())))?;
    let (compressed, uncompressed) = (head.compressed_size.get(), head.uncompressed_size.get());
    let redundancy = head.reed_solomon_redundancy.get();
    if uncompressed == 0 || uncompressed > UNCOMPRESSED_MAX {
        let text = format!("has an uncompressed size of {uncompressed}, expected 1 to {UNCOMPRESSED_MAX}");
        return Err(broken(text));
    }
    let there = to_u64(loaded.bytes.len());
    if u64::from(compressed) > there {
        return Err(broken(format!("has a compressed size of {compressed}, of {there} bytes that it lists")));
    }
    let image = decompress(&loaded.bytes, &head)
        .ok_or_else(|| broken("holds no LZMA stream that ends with modules".to_owned()))?;
    let objects = objects(&image).ok_or_else(|| broken("has a broken list of modules".to_owned()))?;
    let mut core = Core::of(&objects);
    core.compressed = Len::new(compressed.into());
    core.redundancy = Len::new(redundancy.into());
    Ok(core)
}

/// The kernel with its modules, from the place in `bytes` where such a stream begins.
fn decompress(bytes: &[u8], head: &Decompressor) -> Option<Vec<u8>> {
    let first = to_usize(head.no_reed_solomon_length.get().into()).checked_next_multiple_of(16)?;
    let others = (first..=DECOMPRESSOR_MAX).step_by(16);
    let mut left = TRIES_MAX;
    for start in [DECOMPRESSOR_USUAL].into_iter().chain(others) {
        let end = start.saturating_add(to_usize(head.compressed_size.get().into())).min(bytes.len());
        let Some(stream) = bytes.get(start..end) else { continue };
        // The range coder's first byte is always zero.
        if stream.first() != Some(&0) {
            continue;
        }
        let (image, took) = decode(stream, head.uncompressed_size.get().min(left));
        if to_u64(image.len()) == u64::from(head.uncompressed_size.get()) && module_area(&image).is_some() {
            return Some(image);
        }
        left = left.checked_sub(took).filter(|left| *left > 0)?;
    }
    None
}

/// What comes out of a stream, up to `size` bytes, and how many those are.
fn decode(stream: &[u8], size: u32) -> (Vec<u8>, u32) {
    let Ok(mut reader) = LzmaReader::new(stream, size.into(), LC, LP, PB, DICTIONARY, None) else {
        return (Vec::new(), 0);
    };
    let mut image = vec![0; to_usize(size.into())];
    let mut filled = 0;
    while let Some(rest) = image.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) | Err(_) => break,
            Ok(count) => filled = filled.saturating_add(count),
        }
    }
    image.truncate(filled);
    let took = u32::try_from(filled).unwrap_or(size);
    (image, took)
}

/// The module area, which reaches to the end of the image. Its magic also stands in the code that looks for it.
fn module_area(image: &[u8]) -> Option<&[u8]> {
    let places = image.windows(MODULE_MAGIC.len()).enumerate().filter(|(_, bytes)| *bytes == MODULE_MAGIC);
    places.filter_map(|(at, _)| image.get(at..)).find(|area| {
        ModuleInfo::read_from_prefix(area).is_ok_and(|(info, _)| {
            usize::try_from(info.size.get()) == Ok(area.len())
                && to_usize(info.offset.get().into()) >= size_of::<ModuleInfo>()
                && to_usize(info.offset.get().into()) <= area.len()
        })
    })
}

/// The objects of the module area, with their kinds.
fn objects(image: &[u8]) -> Option<Vec<(u32, &[u8])>> {
    let area = module_area(image)?;
    let (info, _) = ModuleInfo::read_from_prefix(area).ok()?;
    let mut rest = area.get(to_usize(info.offset.get().into())..)?;
    let mut objects = Vec::new();
    while !rest.is_empty() {
        let (head, _) = ModuleHeader::read_from_prefix(rest).ok()?;
        let size = to_usize(head.size.get().into());
        objects.push((head.kind.get(), rest.get(size_of::<ModuleHeader>()..size)?));
        if objects.len() > OBJECTS_MAX {
            return None;
        }
        rest = rest.get(size..)?;
    }
    Some(objects)
}

/// A module's name, which is in a section of its own; empty where there is none.
fn module_name(elf: &[u8]) -> &[u8] {
    let name = section(elf, b".modname\0").map(until_nul).unwrap_or_default();
    name.get(..NAME_MAX).unwrap_or(name)
}

/// The bytes of the section of that name, its NUL included.
fn section<'e>(elf: &'e [u8], name: &[u8]) -> Option<&'e [u8]> {
    let (head, _) =
        ElfHeader::read_from_prefix(elf).ok().filter(|(head, _)| head.e_ident.starts_with(b"\x7fELF"))?;
    let table = elf.get(to_usize(head.e_shoff.get().into())..)?;
    let step = usize::from(head.e_shentsize.get()).max(size_of::<ElfSection>());
    let sections = || {
        let all = table.chunks(step).take(head.e_shnum.get().into());
        all.filter_map(|bytes| ElfSection::read_from_prefix(bytes).ok().map(|(section, _)| section))
    };
    let bytes = |section: &ElfSection| {
        let start = to_usize(section.sh_offset.get().into());
        elf.get(start..start.saturating_add(to_usize(section.sh_size.get().into())))
    };
    let names = bytes(&sections().nth(head.e_shstrndx.get().into())?)?;
    let named = |section: &ElfSection| {
        names.get(to_usize(section.sh_name.get().into())..).is_some_and(|rest| rest.starts_with(name))
    };
    let found = sections().find(named)?;
    bytes(&found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used)]
    use super::*;
    use testkit::loader::Grub2;

    /// The kernel with its modules, as grub-mkimage packs it.
    fn image(modules: &[&str]) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        Grub2 { prefix: "(,gpt2)/boot/grub", config: Some("set a=b\n"), modules }.make(file.path());
        let bytes = std::fs::read(file.path()).unwrap();
        let (head, _) = Decompressor::read_from_prefix(&bytes[512..]).unwrap();
        decompress(&bytes[512..], &head).unwrap()
    }

    #[test]
    fn no_field_of_the_module_area_is_believed() {
        let sound = image(&["biosdisk"]);
        let area = sound.len() - module_area(&sound).unwrap().len();
        let want = Core::of(&objects(&sound).unwrap());
        assert_eq!(
            (want.modules.as_slice(), want.config.as_deref()),
            (&["biosdisk".to_owned()][..], Some(&b"set a=b\n"[..]))
        );
        // Each word of the heads and of the module's own headers, with numbers that a parser may stumble over.
        let words = (area..sound.len())
            .step_by(4)
            .filter(|at| at % 16 == 0 || *at < area + 128 || *at > sound.len() - 600);
        for at in words {
            for number in [0, 1, 3, 4, 0x7fff_ffff, 0x8000_0000, u32::MAX, u32::MAX - 7] {
                let mut bytes = sound.clone();
                bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
                if let Some(objects) = objects(&bytes) {
                    assert!(objects.len() <= OBJECTS_MAX + 1);
                    let core = Core::of(&objects);
                    assert!(core.modules.iter().all(|name| name.len() <= NAME_MAX * 4));
                }
            }
        }
    }

    #[test]
    fn a_decompressor_of_another_length_is_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        Grub2 { prefix: "/boot/grub", config: None, modules: &["ext2"] }.make(file.path());
        let mut bytes = std::fs::read(file.path()).unwrap().split_off(512);
        for shift in [16, 160] {
            bytes.splice(DECOMPRESSOR_USUAL..DECOMPRESSOR_USUAL, vec![0x90; shift]);
            let (head, _) = Decompressor::read_from_prefix(&bytes).unwrap();
            assert!(decompress(&bytes, &head).is_some(), "{shift} bytes longer");
        }
    }
}
