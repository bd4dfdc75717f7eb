//! Makes the raw image of the demo guest: `demo-guest KERNEL BUSYBOX OUT`. Called by its recipe in `fixtures/`.

use std::path::Path;

use testkit::guest::{layout, skeleton};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [kernel, busybox, out] = args.as_slice() else { panic!("demo-guest KERNEL BUSYBOX OUT") };
    let root = tempfile::tempdir().expect("a temporary folder");
    skeleton(root.path(), Path::new(kernel), Path::new(busybox));
    layout("debian12-cloud").install(root.path(), Path::new(out));
}
