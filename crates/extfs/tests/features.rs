//! Feature names and versions as dumpe2fs and blkid tell them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a mistake here must stop the test")]

use disk::FileDev;
use extfs::Superblock;
use ondisk::Offset;
use testkit::images::{FLAVORS, Fill, make};
use testkit::oracle::dumpe2fs;
use testkit::tool::run;

#[test]
fn names_and_versions_are_those_of_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    for flavor in FLAVORS {
        make(flavor, flavor.usual_len(), Fill::Empty, &image);
        let sb = Superblock::read(&FileDev::new(std::fs::File::open(&image).unwrap()).unwrap()).unwrap();
        let theirs = dumpe2fs(&image, Offset::ZERO)["Filesystem features"].replace("(none)", "");
        assert_eq!(sb.feature_names().join(" "), theirs.trim(), "{}", flavor.name);
        let kind = run("blkid", ["-p", "-o", "value", "-s", "TYPE", image.to_str().unwrap()]);
        assert_eq!(sb.version(), kind.trim(), "{}", flavor.name);
    }
}
