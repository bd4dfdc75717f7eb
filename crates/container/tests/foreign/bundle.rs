//! Parallels bundles: a description and the image beside it.

use crate::kit::{Kit, assert_reads, complaint, open};
use container::Format;

fn description(images: &str, sectors: usize) -> String {
    format!(
        "<?xml version='1.0' encoding='UTF-8'?>\n<Parallels_disk_image Version=\"1.0\">\n  <Disk_Parameters>\n    \
         <Disk_size>{sectors}</Disk_size>\n    <Padding>0</Padding>\n  </Disk_Parameters>\n  <StorageData>\n    \
         <Storage>\n      <Start>0</Start>\n      <End>{sectors}</End>\n      <Blocksize>2048</Blocksize>\n      \
         {images}\n    </Storage>\n  </StorageData>\n</Parallels_disk_image>\n"
    )
}

fn image(kind: &str, file: &str) -> String {
    format!(
        "<Image><GUID>{{5fbaabe3-6958-40ff-92a7-860e329aab41}}</GUID><Type>{kind}</Type><File>{file}</File></Image>"
    )
}

#[test]
fn one_image_is_read_through_its_description() {
    let kit = Kit::new();
    kit.convert(Format::Parallels, "");
    let sectors = kit.bytes.len() / 512;
    let path = kit.path("DiskDescriptor.xml");
    for (kind, file) in [("Compressed", "image.parallels"), ("Plain", "disk.raw")] {
        std::fs::write(&path, description(&image(kind, file), sectors)).unwrap();
        let disk = open(&path, Format::Parallels).unwrap();
        assert_eq!(disk.parts(), [file]);
        assert_reads(&disk, &kit.bytes, kind);
    }
}

#[test]
fn what_is_not_one_image_is_refused_by_name() {
    let one = image("Compressed", "root.hds");
    for (images, part) in [
        (format!("{one}{one}"), "snapshots"),
        (format!("{one}</Storage><Storage>{one}"), "2 storages with 2 images"),
        (String::new(), "1 storages with 0 images"),
        (image("Weird", "root.hds"), "'Weird'"),
        (image("Plain", ""), "names no image"),
    ] {
        let told = complaint(description(&images, 2048).as_bytes(), Format::Parallels);
        assert!(told.contains(part), "{images}: {told}");
    }
    let told = complaint(description(&one, 2048).as_bytes(), Format::Parallels);
    assert!(told.contains("'root.hds'") && told.contains("not been opened"), "{told}");
    let told = complaint(b"<?xml version='1.0'?><other/>", Format::Parallels);
    assert!(told.contains("describes a other"), "{told}");
}

#[test]
fn xml_that_explodes_is_refused_soon() {
    let head = "<?xml version='1.0'?>";
    let entity = format!("{head}<!DOCTYPE x [<!ENTITY a \"{}\">]><x>&a;</x>", "b".repeat(100));
    let deep = format!("{head}{}", "<a>".repeat(200_000));
    let nodes = format!("{head}<a>{}</a>", "<b/>".repeat(200_000));
    let names = format!("{head}<a {}/>", (0..100_000).map(|i| format!("a{i}='' ")).collect::<String>());
    let spaces = format!("{head}{}", (0..20_000).map(|i| format!("<a xmlns:a{i}='u'>")).collect::<String>());
    let huge = format!("{head}<a>{}</a>", "x".repeat(2 << 20));
    for text in [entity, deep, nodes, names, spaces, huge] {
        let start = std::time::Instant::now();
        assert!(complaint(text.as_bytes(), Format::Parallels).contains("DiskDescriptor.xml"));
        assert!(start.elapsed().as_secs() < 5, "{}", &text[..60]);
    }
}
