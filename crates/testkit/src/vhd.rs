//! VHDs of every creator, and a slow second reader for them.
//!
//! Written from the format's description, apart from the code under test: byte by byte, nothing shared.

use std::ops::Range;

const NONE: u32 = u32::MAX;

/// A parent locator: its code and its data.
pub type Locator = ([u8; 4], Vec<u8>);

/// An image to be built. All sizes are in bytes.
#[derive(Clone, Debug)]
pub struct Image {
    /// Creator application.
    pub creator: [u8; 4],
    /// Creator version, major and minor.
    pub version: u32,
    /// `current_size`.
    pub len: u64,
    /// Cylinders, heads, sectors per track.
    pub chs: (u16, u8, u8),
    /// 2 fixed, 3 dynamic, 4 differencing.
    pub kind: u32,
    /// Block size.
    pub block: u64,
    /// Entries of the BAT.
    pub entries: u32,
    /// What the BAT is padded with: 0xff, or 0 as libvhd does.
    pub pad: u8,
    /// Blocks in the order of the file.
    pub blocks: Vec<Block>,
    /// Whether there is a batmap.
    pub batmap: bool,
    /// Sectors of the batmap beyond what is needed.
    pub batmap_spare: u64,
    /// The batmap's version.
    pub batmap_version: u32,
    /// Parent's id and locators.
    pub parent: Option<([u8; 16], Vec<Locator>)>,
    /// The image's own id.
    pub uuid: [u8; 16],
    /// Free bytes between the last block and the footer, full of garbage, as in a logical volume.
    pub gap: u64,
}

/// A block of an image.
#[derive(Clone, Debug)]
pub struct Block {
    /// Which.
    pub index: u32,
    /// The sectors that are there; their bytes follow from the sector's number on the disk.
    pub sectors: Vec<Range<u64>>,
}

impl Block {
    /// A block with all its sectors.
    #[must_use]
    pub fn whole(index: u32) -> Self {
        Self { index, sectors: std::iter::once(0..u64::MAX).collect() }
    }
}

/// What a sector of a built image holds.
#[must_use]
pub fn sector_bytes(salt: u8, sector: u64) -> [u8; 512] {
    let mut bytes = [salt; 512];
    bytes[..8].copy_from_slice(&sector.to_be_bytes());
    bytes[504..].copy_from_slice(&(!sector).to_be_bytes());
    bytes
}

impl Image {
    /// A dynamic image of 2 MiB blocks without any block.
    #[must_use]
    pub fn dynamic(creator: [u8; 4], len: u64) -> Self {
        Self {
            creator,
            version: 0x0001_0003,
            len,
            chs: (65_535, 16, 255),
            kind: 3,
            block: 2 << 20,
            entries: u32::try_from(len.div_ceil(2 << 20)).expect("few blocks"),
            pad: 0xff,
            blocks: Vec::new(),
            batmap: false,
            batmap_spare: 0,
            batmap_version: 0x0001_0002,
            parent: None,
            uuid: *b"an image of test",
            gap: 0,
        }
    }

    /// As [`Image::dynamic`] with that block size.
    #[must_use]
    pub fn with_block(mut self, block: u64) -> Self {
        self.block = block;
        self.entries = u32::try_from(self.len.div_ceil(block)).expect("few blocks");
        self
    }

    /// As tapdisk makes it: batmap, zeros behind the BAT.
    #[must_use]
    pub fn tap(len: u64) -> Self {
        Self { batmap: true, pad: 0, ..Self::dynamic(*b"tap\0", len) }
    }

    fn footer(&self) -> [u8; 512] {
        let mut f = [0; 512];
        f[..8].copy_from_slice(b"conectix");
        f[11] = 2;
        f[12..16].copy_from_slice(&[0, 1, 0, 0]);
        let data_offset = if self.kind == 2 { u64::MAX } else { 512 };
        f[16..24].copy_from_slice(&data_offset.to_be_bytes());
        f[24..28].copy_from_slice(&0x2000_0000_u32.to_be_bytes());
        f[28..32].copy_from_slice(&self.creator);
        f[32..36].copy_from_slice(&self.version.to_be_bytes());
        f[40..48].copy_from_slice(&self.len.to_be_bytes());
        f[48..56].copy_from_slice(&self.len.to_be_bytes());
        f[56..58].copy_from_slice(&self.chs.0.to_be_bytes());
        f[58] = self.chs.1;
        f[59] = self.chs.2;
        f[60..64].copy_from_slice(&self.kind.to_be_bytes());
        f[68..84].copy_from_slice(&self.uuid);
        seal(&mut f, 64);
        f
    }

    /// The file.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let footer = self.footer();
        if self.kind == 2 {
            let mut file: Vec<u8> = (0..self.len / 512).flat_map(|sector| sector_bytes(0, sector)).collect();
            file.extend(footer);
            return file;
        }
        let mut header = [0_u8; 1024];
        header[..8].copy_from_slice(b"cxsparse");
        header[8..16].fill(0xff);
        header[16..24].copy_from_slice(&1536_u64.to_be_bytes());
        header[24..28].copy_from_slice(&[0, 1, 0, 0]);
        header[28..32].copy_from_slice(&self.entries.to_be_bytes());
        header[32..36].copy_from_slice(&u32::try_from(self.block).expect("small").to_be_bytes());
        let bat_bytes = (u64::from(self.entries) * 4).next_multiple_of(512);
        let mut rest = vec![self.pad; to(bat_bytes)];
        rest[..to(u64::from(self.entries) * 4)].fill(0xff);
        if self.batmap {
            rest.extend(self.batmap_bytes(1536 + bat_bytes));
        }
        if let Some((id, locators)) = &self.parent {
            header[40..56].copy_from_slice(id);
            for (slot, (code, data)) in locators.iter().enumerate() {
                let at = 1536 + rest.len();
                let entry = &mut header[576 + slot * 24..600 + slot * 24];
                entry[..4].copy_from_slice(code);
                // Both ways of counting the space are in the field: bytes, and sectors.
                let space: u32 = if slot % 2 == 0 { 512 } else { 1 };
                entry[4..8].copy_from_slice(&space.to_be_bytes());
                entry[8..12].copy_from_slice(&u32::try_from(data.len()).expect("short").to_be_bytes());
                entry[16..24].copy_from_slice(&u64::try_from(at).expect("small").to_be_bytes());
                rest.extend(data);
                rest.resize(rest.len().next_multiple_of(512), 0);
            }
        }
        seal(&mut header, 36);
        let mut file = footer.to_vec();
        file.extend(header);
        file.extend(rest);
        for block in &self.blocks {
            let entry = u32::try_from(file.len() / 512).expect("small");
            let at = 1536 + to(u64::from(block.index) * 4);
            file[at..at + 4].copy_from_slice(&entry.to_be_bytes());
            file.extend(self.block_bytes(block));
        }
        file.resize(file.len() + to(self.gap), 0xdd);
        file.extend(footer);
        file
    }

    fn block_bytes(&self, block: &Block) -> Vec<u8> {
        let sectors = self.block / 512;
        let mut bytes = vec![0; to(sectors.div_ceil(8).next_multiple_of(512))];
        let bitmap = bytes.len();
        // Under a clear bit there is garbage.
        bytes.resize(bitmap + to(self.block), 0xee);
        for range in &block.sectors {
            for sector in range.start..range.end.min(sectors) {
                bytes[to(sector / 8)] |= 0x80 >> (sector % 8);
                let at = bitmap + to(sector * 512);
                let absolute = u64::from(block.index) * sectors + sector;
                bytes[at..at + 512].copy_from_slice(&sector_bytes(self.uuid[0], absolute));
            }
        }
        bytes
    }

    fn batmap_bytes(&self, at: u64) -> Vec<u8> {
        let covered = (self.len >> 24).max(1).next_multiple_of(512);
        let bytes =
            u64::from(self.entries).div_ceil(8).next_multiple_of(512).max(covered) + self.batmap_spare * 512;
        let mut map = vec![0_u8; to(bytes)];
        for block in &self.blocks {
            if block.sectors.iter().any(|range| range.start == 0 && range.end >= self.block / 512) {
                map[to(u64::from(block.index) / 8)] |= 0x80 >> (block.index % 8);
            }
        }
        let mut header = vec![0; 512];
        header[..8].copy_from_slice(b"tdbatmap");
        header[8..16].copy_from_slice(&(at + 512).to_be_bytes());
        header[16..20].copy_from_slice(&u32::try_from(bytes / 512).expect("small").to_be_bytes());
        header[20..24].copy_from_slice(&self.batmap_version.to_be_bytes());
        let sum = batmap_sum(&map[..to(covered)], self.batmap_version);
        header[24..28].copy_from_slice(&sum.to_be_bytes());
        header.extend(map);
        header
    }
}

fn to(n: u64) -> usize {
    usize::try_from(n).expect("64-bit")
}

fn checksum(record: &[u8], at: usize) -> u32 {
    !record
        .iter()
        .enumerate()
        .filter(|(i, _)| !(at..at + 4).contains(i))
        .map(|(_, b)| u32::from(*b))
        .sum::<u32>()
}

/// Gives a footer (`at` 64) or a header (`at` 36) its checksum.
pub fn seal(record: &mut [u8], at: usize) {
    let sum = checksum(record, at);
    record[at..at + 4].copy_from_slice(&sum.to_be_bytes());
}

fn batmap_sum(map: &[u8], version: u32) -> u32 {
    let signed = version == 0x0001_0001;
    let add = |sum: u32, byte: &u8| {
        let value = if signed { i32::from(byte.cast_signed()) } else { i32::from(*byte) };
        sum.wrapping_add(value.cast_unsigned())
    };
    !map.iter().fold(0, add)
}

fn be32(file: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(file[at..at + 4].try_into().expect("four bytes"))
}

fn be64(file: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(file[at..at + 8].try_into().expect("eight bytes"))
}

/// The virtual content by `current_size`, with a parent's under it.
///
/// # Panics
/// Where the image breaks the rules of the format: checksums, overlaps, the batmap's truth.
#[must_use]
pub fn content(file: &[u8], parent: Option<&[u8]>) -> Vec<u8> {
    let end = file.len() - 512;
    let footer = &file[end..];
    assert_eq!(&footer[..8], b"conectix");
    assert_eq!(be32(footer, 64), checksum(footer, 64), "footer checksum");
    let len = to(be64(footer, 48));
    if be32(footer, 60) == 2 {
        assert_eq!(len, end, "a fixed image ends behind its disk");
        return file[..end].to_vec();
    }
    assert!(file[..512] == *footer, "the footers are equal");
    let header = &file[512..1536];
    assert_eq!(&header[..8], b"cxsparse");
    assert_eq!(be32(header, 36), checksum(header, 36), "header checksum");
    let (table, entries, block) =
        (to(be64(header, 16)), to(be32(header, 28).into()), to(be32(header, 32).into()));
    assert!(entries >= len.div_ceil(block), "enough entries");
    let bat_end = table + (entries * 4).next_multiple_of(512);
    let bitmap = (block / 512).div_ceil(8).next_multiple_of(512);
    let mut owned = vec![(0, 1536, "head".to_owned()), (table, bat_end, "BAT".to_owned())];
    for slot in 0..8 {
        let entry = &header[576 + slot * 24..600 + slot * 24];
        if entry[..4] != [0; 4] {
            let at = to(be64(entry, 16));
            owned.push((at, at + to(be32(entry, 8).into()), format!("locator {slot}")));
        }
    }
    let batmap = (&footer[28..32] == b"tap\0" && be32(footer, 32) >= 0x0001_0002).then(|| {
        let at = bat_end;
        assert_eq!(&file[at..at + 8], b"tdbatmap", "the batmap is behind the BAT");
        let (map, bytes) = (to(be64(file, at + 8)), to(u64::from(be32(file, at + 16)) * 512));
        let covered = (len >> 24).max(1).next_multiple_of(512);
        assert!(covered <= bytes && bytes * 8 >= entries, "the batmap is long enough");
        let sum = batmap_sum(&file[map..map + covered], be32(file, at + 20));
        assert_eq!(be32(file, at + 24), sum, "batmap checksum");
        owned.push((at, at + 512, "batmap header".to_owned()));
        owned.push((map, map + bytes, "batmap".to_owned()));
        map
    });
    let mut disk = parent.unwrap_or_default().to_vec();
    disk.resize(len.next_multiple_of(block), 0);
    for index in 0..entries {
        let entry = be32(file, table + index * 4);
        let complete = batmap.is_some_and(|map| file[map + index / 8] & (0x80 >> (index % 8)) != 0);
        if entry == NONE {
            assert!(!complete, "the batmap knows block {index}, the BAT does not");
            continue;
        }
        let at = to(u64::from(entry) * 512);
        owned.push((at, at + bitmap + block, format!("block {index}")));
        for sector in 0..block / 512 {
            let here = file[at + sector / 8] & (0x80 >> (sector % 8)) != 0;
            assert!(here || !complete, "the batmap calls block {index} complete");
            if here && index < len.div_ceil(block) {
                let (from, target) = (at + bitmap + sector * 512, index * block + sector * 512);
                disk[target..target + 512].copy_from_slice(&file[from..from + 512]);
            }
        }
    }
    owned.sort();
    for pair in owned.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "{:?} overlaps {:?}", pair[0], pair[1]);
    }
    assert!(owned.last().is_none_or(|last| last.1 <= end), "the footer is last");
    disk.truncate(len);
    disk
}

/// Where each block begins in the file: (index, byte).
#[must_use]
pub fn blocks(file: &[u8]) -> Vec<(u32, u64)> {
    let (table, entries) = (to(be64(file, 512 + 16)), be32(file, 512 + 28));
    let entry = |index: u32| be32(file, table + to(u64::from(index) * 4));
    (0..entries).filter(|i| entry(*i) != NONE).map(|i| (i, u64::from(entry(i)) * 512)).collect()
}
