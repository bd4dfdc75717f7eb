//! What a check of a structure has found.

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; nothing is lost by it.
    Note,
    /// Space that nothing refers to.
    Leak,
    /// The structure contradicts itself or what it lies on: data may be lost, and it is not changed before it is mended.
    Damage,
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is: lower case, no full stop, nothing from the image that is not printable.
    pub text: String,
}

impl Finding {
    /// Damage.
    pub fn damage(text: impl Into<String>) -> Self {
        Self { severity: Severity::Damage, text: text.into() }
    }

    /// Something worth knowing.
    pub fn note(text: impl Into<String>) -> Self {
        Self { severity: Severity::Note, text: text.into() }
    }

    /// Whether it is damage.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        self.severity == Severity::Damage
    }
}
