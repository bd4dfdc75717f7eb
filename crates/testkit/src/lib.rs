//! Test equipment: simulator, oracles, image builders.
//!
//! Oracles are programs of others. One that is missing fails the test and names its Debian package: `cargo xtask test`
//! installs all of them.

pub mod files;
pub mod guest;
pub mod images;
pub mod kernel;
pub mod later;
pub mod loader;
pub mod lvm;
pub mod oracle;
pub mod sim;
pub mod small;
pub mod tool;
pub mod vhd;
pub mod vhdx;
pub mod vmdk;
pub mod xva;
