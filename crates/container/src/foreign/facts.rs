//! What an image of a format that is only read says about itself. All text is safe to print.

use ondisk::Len;
use ondisk::size::Human;
use ondisk::text::Printable;
use std::fmt;

/// What `info` tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The format with its variant, in a few words.
    pub title: String,
    /// The size of a cluster, grain or block.
    pub cluster_size: Option<Len>,
    /// The image was not closed.
    pub dirty: bool,
    /// The rest, a sentence each.
    pub lines: Vec<String>,
    /// The same for scripts, by the names of `qemu-img` where it has one.
    pub fields: Vec<(&'static str, Fact)>,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Text.
    Text(String),
    /// A number.
    Number(u64),
    /// Whether it is so.
    Flag(bool),
    /// Several things, with their own names and values.
    List(Vec<Vec<(&'static str, Fact)>>),
}

/// A disk of an archive, and what it may be called on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its label.
    pub name: String,
    /// Its identity.
    pub uuid: String,
    /// The device that the guest saw, or the number that it was plugged in at.
    pub device: String,
    /// The size of the disk.
    pub len: Len,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.device.is_empty() {
            write!(f, "{} ", self.device)?;
        }
        write!(f, "'{}' {}, {}", self.name, self.uuid, Human(self.len))
    }
}

/// Bytes of an image as text that is safe to print.
pub(crate) fn text(bytes: &[u8]) -> String {
    Printable(ondisk::text::until_nul(bytes)).to_string()
}
