//! Boot loaders.

use super::blames_the_image;
use crate::{Case, cx};
use disk::{Cancel, ReadAt};
use grub::{Loader, Resolution};
use ondisk::Span;
use stack::VolumeId;

/// Reads and follows whatever loader there is.
pub fn read(case: Case<'_>) {
    let cancel = Cancel::new();
    let cx = cx(&cancel);
    let layout = match stack::discover(&case.disk, &cx) {
        Ok(layout) => layout,
        Err(error) => return blames_the_image(&error),
    };
    let boot = match grub::look(&case.disk, &layout, &cx) {
        Ok(boot) => boot,
        Err(error) => return blames_the_image(&error),
    };
    for sector in &boot.sectors {
        match &sector.loader {
            Loader::Grub2(grub) => match &grub.core {
                Ok((core, resolution)) => {
                    core.modules.iter().for_each(|name| printable(name));
                    told(resolution);
                }
                Err(error) => blames_the_image(error),
            },
            Loader::GrubLegacy(grub) => match &grub.stages {
                Ok((_, resolution)) => told(resolution),
                Err(error) => blames_the_image(error),
            },
            _ => {}
        }
    }
    let whole = Span::whole(case.disk.len());
    for (id, span) in boot.needs(&layout).pinned {
        let volume = layout.volume(&id).expect("a pin lies in a volume");
        assert!(Span::whole(volume.region.len()).contains(span), "{id}: {span} of {whole}");
    }
}

fn told(resolution: &Resolution) {
    resolution.problems.iter().chain(&resolution.unknown).for_each(|text| printable(text));
    let _ = resolution.volume.as_ref().map(VolumeId::to_string);
}

fn printable(text: &str) {
    assert!(!text.chars().any(char::is_control), "control characters: {text:?}");
}
