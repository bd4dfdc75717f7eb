//! What `info` tells about formats that are only read.

use crate::exit::{Exit, Failure, show};
use crate::open::Opened;
use crate::output::Output;
use crate::render::Tree;
use container::Format;
use container::foreign::{Choice, Fact, Facts};
use disk::ReadAt;
use ondisk::Len;
use ondisk::size::Human;
use serde_json::{Map, Value, json};

/// The `format-specific` part, as `qemu-img info` has it.
pub fn specific(facts: &Facts, format: Format) -> Value {
    json!({"type": format.name(), "data": object(&facts.fields)})
}

fn object(fields: &[(&'static str, Fact)]) -> Value {
    let value = |fact: &Fact| match fact {
        Fact::Text(text) => text.clone().into(),
        Fact::Number(number) => (*number).into(),
        Fact::Flag(flag) => (*flag).into(),
        Fact::List(list) => list.iter().map(|one| object(one)).collect(),
    };
    Value::Object(fields.iter().map(|(name, fact)| ((*name).to_owned(), value(fact))).collect::<Map<_, _>>())
}

/// Lists the disks of an archive of which none is chosen.
///
/// # Errors
/// Where the answer cannot be written.
pub fn tell_choices(
    opened: &Opened<'_>,
    stored: Len,
    disks: &[Choice],
    out: &mut Output,
) -> Result<Exit, Failure> {
    let name = show(opened.path);
    let file = Human(opened.image.len());
    let mut tree = Tree::new();
    tree.push(0, format!("{name}: XVA, {} disks, file {file}, {} allocated", disks.len(), Human(stored)));
    for disk in disks {
        tree.push(1, format!("disk {disk}"));
    }
    out.warn("the archive holds several disks: say --disk NAME to look into one".to_owned());
    out.tree(&tree);
    let list = disks.iter().map(|disk| {
        json!({"name": disk.name, "uuid": disk.uuid, "device": disk.device, "virtual-size": disk.len.get()})
    });
    out.document(&json!({
        "filename": name,
        "format": Format::Xva.name(),
        "actual-size": stored.get(),
        "file-size": opened.image.len().get(),
        "format-specific": {"type": "xva", "data": {"disks": list.collect::<Vec<_>>()}},
    }))?;
    Ok(Exit::Done)
}
