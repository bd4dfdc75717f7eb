//! What kind of failure an error is. The command line derives its exit codes from this alone.

use std::fmt;

/// The kinds of failure, never mixed with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The caller asked for something that makes no sense.
    Usage,
    /// We will not do it: it would lose data, does not fit, or is switched off by policy.
    Refused,
    /// Somebody else holds the image.
    InUse,
    /// We cannot do it: the format has a feature that is not supported.
    Unsupported,
    /// The image contradicts itself or its format: damaged or hostile.
    Corrupt,
    /// Somebody has written to the image since an interrupted change.
    Foreign,
    /// An interrupted change lies beside the image and must be finished first.
    Pending,
    /// The system failed: I/O error, no space, no memory within the limit.
    Io,
    /// The operator interrupted.
    Cancelled,
}

/// An error that knows its [`Class`]: what the errors of all crates have in common.
pub trait Classified: std::error::Error + Send + Sync + 'static {
    /// The kind of failure.
    fn class(&self) -> Class;
    /// What the operator can do about it, a sentence without a full stop, where there is something.
    fn help(&self) -> Option<String> {
        None
    }
}

/// A stored checksum that differs from the computed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// As found on disk.
    pub stored: u64,
    /// As computed over the bytes.
    pub computed: u64,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "checksum is {:#x}, computed {:#x}", self.stored, self.computed)
    }
}

/// A record with a checksum: it leaves memory only sealed, and enters only verified.
pub trait Sealed {
    /// What the checksum depends on besides the record's own bytes.
    type Key: ?Sized;
    /// Computes and stores the checksum.
    fn seal(&mut self, key: &Self::Key);
    /// Compares the stored checksum with the computed one.
    ///
    /// # Errors
    /// Both values, where they differ.
    fn verify(&self, key: &Self::Key) -> Result<(), Mismatch>;
}
