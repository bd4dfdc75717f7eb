//! An image as the layers above its file need it.

use crate::Result;
use container::{Container, Format, Mapped, OpenWith};
use disk::{Cx, ReadAt};
use ondisk::guid::Uuid;
use std::sync::Arc;

/// An image: its file, what it is, and the parent that it stands on.
#[derive(Clone)]
pub struct Source<'a> {
    /// The bytes of the file.
    pub file: &'a dyn ReadAt,
    /// The container.
    pub format: Format,
    /// What its container is opened with besides its file.
    pub with: OpenWith,
    /// What a differencing image or an overlay stands on.
    pub parent: Option<Parent>,
    /// Whether the file is a device, whose length is not ours to change.
    pub fixed_len: bool,
}

/// The parent of an image.
#[derive(Clone)]
pub struct Parent {
    /// Its virtual disk.
    pub disk: Arc<dyn Mapped + Send>,
    /// Its own identity, where its format has one.
    pub id: Option<Uuid>,
}

impl Source<'_> {
    /// Opens the container over `file`, which is this source's file or an overlay over it.
    ///
    /// # Errors
    /// Where it is not such a container, or is damaged.
    pub fn open<D: ReadAt>(&self, file: D, cx: &Cx<'_>) -> Result<Container<D>> {
        let mut container = Container::open_with(file, self.format, &self.with, &cx.limits)?;
        if self.fixed_len {
            container.set_fixed_len();
        }
        if let Some(parent) = &self.parent {
            container.set_parent(Box::new(Arc::clone(&parent.disk)), parent.id)?;
        }
        Ok(container)
    }
}
