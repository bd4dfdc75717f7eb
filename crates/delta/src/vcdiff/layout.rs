//! Flags and identifiers of VCDIFF.
//!
//! Source: RFC 3284, sections 4 and 5; the checksum of a window and the identifiers of secondary compressors are those
//! of xdelta3 3.0.

/// At the beginning, and the version behind it.
pub const MAGIC: [u8; 4] = [0xd6, 0xc3, 0xc4, 0];

/// Of the file.
pub mod header {
    /// Sections may be compressed; by what, follows.
    pub const SECONDARY: u8 = 1;
    /// A code table follows.
    pub const CODE_TABLE: u8 = 2;
    /// Text for programs follows.
    pub const APPLICATION: u8 = 4;
    /// All that are known.
    pub const ALL: u8 = SECONDARY | CODE_TABLE | APPLICATION;
}

/// Of a window.
pub mod window {
    /// It copies from a segment of the base.
    pub const SOURCE: u8 = 1;
    /// It copies from a segment of what was made before.
    pub const TARGET: u8 = 2;
    /// It has a checksum.
    pub const ADLER32: u8 = 4;
    /// All that are known.
    pub const ALL: u8 = SOURCE | TARGET | ADLER32;
}

/// Which sections of a window are compressed.
pub mod packed {
    /// Bytes that are added.
    pub const DATA: u8 = 1;
    /// Instructions.
    pub const INSTRUCTIONS: u8 = 2;
    /// Where copies begin.
    pub const ADDRESSES: u8 = 4;
    /// In the order of the file.
    pub const EACH: [u8; 3] = [DATA, INSTRUCTIONS, ADDRESSES];
    /// All that are known.
    pub const ALL: u8 = DATA | INSTRUCTIONS | ADDRESSES;
}

/// Compressors of sections.
pub mod secondary {
    /// Huffman codes, several for each section.
    pub const DJW: u8 = 1;
    /// An xz stream for each kind of section, which goes on from window to window.
    pub const LZMA: u8 = 2;
    /// One adaptive Huffman code.
    pub const FGK: u8 = 16;
}
