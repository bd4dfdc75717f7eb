//! Where a file lies that another image names.
//!
//! 1. A name in an image is judged without opening anything: it must be a plain relative one of something that really
//!    lies below the folder, links followed.
//! 2. It is opened from the folder on, by the name that it has without links. Whoever puts a link in its way meanwhile
//!    gets a refusal.

use disk::{Image, OpenOptions};
use std::path::{Component, Path, PathBuf};

/// A file that may be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The operator has named it.
    Told(PathBuf),
    /// An image has named it.
    Beneath {
        /// The folder, without links.
        root: PathBuf,
        /// Its name from there on, without links.
        name: PathBuf,
    },
}

impl Found {
    /// What `name` means from `folder` on.
    pub(super) fn beneath(folder: &Path, name: &str) -> Option<Self> {
        let relative = match Path::new(name).strip_prefix(folder) {
            Ok(inside) => inside.to_owned(),
            Err(_) => PathBuf::from(name),
        };
        let plain =
            relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !plain || name.contains("://") {
            return None;
        }
        let root = std::fs::canonicalize(folder).ok()?;
        let found = std::fs::canonicalize(root.join(relative)).ok()?;
        let name = found.strip_prefix(&root).ok().filter(|_| found.is_file())?.to_owned();
        Some(Self::Beneath { root, name })
    }

    /// What lies in `folder` by the last part of `name`.
    pub(super) fn in_folder(folder: &Path, name: &str) -> Option<Self> {
        Self::beneath(folder, name.rsplit(['/', '\\']).next().unwrap_or(name))
    }

    /// Its path, for messages.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Told(path) => path.clone(),
            Self::Beneath { root, name } => root.join(name),
        }
    }

    /// Opens it.
    ///
    /// # Errors
    /// As [`Image::open`], and where it is another one by now.
    pub fn open(&self, how: &OpenOptions) -> disk::Result<Image> {
        match self {
            Self::Told(path) => Image::open(path, how),
            Self::Beneath { root, name } => Image::open_beneath(root, name, how),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// What is put in the way between looking and opening is not followed.
    #[test]
    fn what_was_judged_is_what_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let (root, out) = (dir.path().join("root"), dir.path().join("out"));
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::create_dir(&out).unwrap();
        for file in [root.join("sub/base"), root.join("base"), out.join("base")] {
            fs::write(file, "bytes").unwrap();
        }
        symlink("sub/base", root.join("link")).unwrap();
        symlink(out.join("base"), root.join("leak")).unwrap();
        let open = |found: &Found| found.open(&OpenOptions::default()).map(drop);
        let [below, link, plain] =
            ["sub/base", "link", "base"].map(|name| Found::beneath(&root, name).unwrap());
        assert_eq!(Found::beneath(&root, "leak"), None);
        assert_eq!(link, below);
        open(&below).unwrap();
        open(&plain).unwrap();

        fs::rename(root.join("sub"), root.join("old")).unwrap();
        symlink(&out, root.join("sub")).unwrap();
        fs::remove_file(root.join("base")).unwrap();
        symlink(out.join("base"), root.join("base")).unwrap();
        open(&below).unwrap_err();
        open(&plain).unwrap_err();
    }
}
