//! Recovery of crashed filesystems, held against the kernel's.

mod crashed;
mod judge;
mod orphans;
