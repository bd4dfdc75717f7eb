//! ext2, ext3 and ext4: read, check, replay, grow.
