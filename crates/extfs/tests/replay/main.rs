//! Recovery of crashed filesystems, held against the kernel's.

mod crashed;
mod formats;
mod judge;
mod orphans;
