//! A differencing image over another parent, or over none.
//!
//! 1. Identity, timestamp, name and all locators change together, with the header, which is one record.
//! 2. A locator keeps its space where the new name fits. Else it gets new space behind the last block; tapdisk's images,
//!    whose tools expect all metadata before all blocks, refuse that.
//! 3. Locators of kinds that nobody writes any more are taken out: an old name would lead to the old parent.
//! 4. An image that stands alone is a dynamic one: under a clear bit there is zero then.

use super::footer::{self, FOOTER_LEN};
use super::layout::{DYNAMIC, DynamicHeader, FIXED, ParentLocator};
use super::step::{Step, run};
use super::{Sparse, Vhd, locator, not_a_child};
use crate::link::Link;
use crate::{Error, Format, Result};
use disk::{Disk, Limits, ReadAt, write_record};
use ondisk::guid::Uuid;
use ondisk::num::{low32, round_up, to_u64};
use ondisk::text::Printable;
use ondisk::{Len, Offset, Sealed};
use zerocopy::{FromZeros, IntoBytes};

/// Makes the image in `file` name that parent, or stand alone.
pub fn relink(file: &mut dyn Disk, link: Option<&Link>, limits: &Limits) -> Result<()> {
    let steps = Vhd::open(&*file, limits)?.relinking(link)?;
    Ok(run(steps, file)?)
}

/// Sets tapdisk's mark of a parent in both footers; whether it was set before.
pub fn set_hidden(file: &mut dyn Disk, hidden: bool) -> Result<bool> {
    let footers = footer::find(file)?;
    let before = footers.footer.hidden != 0;
    if before == hidden {
        return Ok(before);
    }
    let mut raw = footers.footer;
    raw.hidden = u8::from(hidden);
    raw.seal(&());
    let there = footers.end.len().to_usize();
    file.write_at(footers.end.start(), raw.as_bytes().get(..there).unwrap_or_default())?;
    if raw.disk_type.get() != FIXED {
        write_record(file, Offset::ZERO, &raw)?;
    }
    Ok(before)
}

impl<D: ReadAt> Vhd<D> {
    /// The places where the image names its parent.
    pub(crate) fn spellings(&self) -> Vec<String> {
        let Some(sparse) = self.sparse().filter(|sparse| sparse.parent_ref.is_some()) else {
            return Vec::new();
        };
        let header = &sparse.header.raw;
        let locators = header.parent_locators.iter().filter(|one| one.platform_code != [0; 4]);
        let mut list: Vec<String> = locators.map(|one| Printable(&one.platform_code).to_string()).collect();
        if header.parent_unicode_name != [0; 512] {
            list.push("name".to_owned());
        }
        list
    }

    fn relinking(&self, link: Option<&Link>) -> Result<Vec<Step>> {
        self.require_twins()?;
        let Some(sparse) = self.sparse().filter(|sparse| sparse.parent_ref.is_some()) else {
            return Err(not_a_child());
        };
        match link {
            Some(link) => self.named(sparse, link),
            None => Ok(self.alone(sparse)),
        }
    }

    fn named(&self, sparse: &Sparse, link: &Link) -> Result<Vec<Step>> {
        let tap = &self.footers.footer.creator_application == b"tap\0";
        let id = match link.id {
            Some(id) => id,
            // XenServer: an image over a raw volume names nobody.
            None if tap && link.format == Format::Raw => Uuid([0; 16]),
            None => {
                let why = format!("the parent of a VHD is a VHD, not {}", link.format.described());
                return Err(Error::refused(why, None));
            }
        };
        let mut header = sparse.header.raw;
        header.parent_unique_id = id.0;
        header.parent_timestamp = super::seconds(link.timestamp).into();
        header.parent_unicode_name = locator::name_field(&link.name)?;
        let mut steps = Vec::new();
        let mut homeless = Vec::new();
        let mut spellings: Vec<_> = locator::encode(&link.name).into_iter().map(Some).collect();
        for (slot, locator) in header.parent_locators.iter_mut().enumerate() {
            let same = |one: &&mut Option<([u8; 4], Vec<u8>)>| {
                one.as_ref().is_some_and(|(code, _)| *code == locator.platform_code)
            };
            let Some((_, bytes)) = spellings.iter_mut().find(same).and_then(Option::take) else {
                *locator = ParentLocator::new_zeroed();
                continue;
            };
            match locator::space(locator).filter(|space| space.len() >= Len::of(&bytes)) {
                Some(space) => {
                    locator.platform_data_length = low32(to_u64(bytes.len())).into();
                    steps.push(Step::Write(space.start(), padded(bytes, space.len())));
                }
                None => homeless.push((slot, bytes)),
            }
        }
        // The relative Windows path is the one that everybody reads.
        if let Some((code, bytes)) = spellings.pop().flatten()
            && let Some(slot) = header.parent_locators.iter().position(|one| one.platform_code == [0; 4])
        {
            if let Some(locator) = header.parent_locators.get_mut(slot) {
                locator.platform_code = code;
            }
            homeless.push((slot, bytes));
        }
        self.house(sparse, &mut header, homeless, &mut steps)?;
        header.seal(&());
        steps.push(Step::Write(sparse.header.at, header.as_bytes().to_vec()));
        Ok(steps)
    }

    /// New space for locators, between the last block and the end footer, which makes way.
    fn house(
        &self,
        sparse: &Sparse,
        header: &mut DynamicHeader,
        homeless: Vec<(usize, Vec<u8>)>,
        steps: &mut Vec<Step>,
    ) -> Result<()> {
        if homeless.is_empty() {
            return Ok(());
        }
        if &self.footers.footer.creator_application == b"tap\0" {
            let why = "the parent's name is longer than the space that the VHD has for it";
            return Err(Error::refused(why, Some("give the parent a shorter name")));
        }
        let too_long = || Error::unsupported("the VHD's file would be longer than any file can be");
        let mut at =
            round_up(self.survey_clean(sparse)?.end.get(), 512).map(Offset::new).ok_or_else(too_long)?;
        let mut writes = Vec::new();
        for (slot, bytes) in homeless {
            let space = Len::new(round_up(to_u64(bytes.len()), 512).ok_or_else(too_long)?);
            if let Some(locator) = header.parent_locators.get_mut(slot) {
                locator.platform_data_space = low32(space.get()).into();
                locator.platform_data_length = low32(to_u64(bytes.len())).into();
                locator.platform_data_offset = at.get().into();
            }
            writes.push(Step::Write(at, padded(bytes, space)));
            at = at.checked_add(space).ok_or_else(too_long)?;
        }
        if at > self.footers.end.start() {
            let len = at.checked_add(FOOTER_LEN).ok_or_else(too_long)?;
            steps.push(Step::Resize(Len::new(len.get())));
            steps.push(Step::Write(at, self.footers.footer.as_bytes().to_vec()));
        }
        steps.append(&mut writes);
        Ok(())
    }

    fn alone(&self, sparse: &Sparse) -> Vec<Step> {
        let mut header = DynamicHeader {
            parent_unique_id: [0; 16],
            parent_timestamp: 0.into(),
            parent_unicode_name: [0; 512],
            parent_locators: [ParentLocator::new_zeroed(); 8],
            ..sparse.header.raw
        };
        header.seal(&());
        let mut footer = self.footers.footer;
        footer.disk_type = DYNAMIC.into();
        footer.seal(&());
        let there = self.footers.end.len().to_usize();
        vec![
            Step::Write(sparse.header.at, header.as_bytes().to_vec()),
            Step::Write(Offset::ZERO, footer.as_bytes().to_vec()),
            Step::Write(
                self.footers.end.start(),
                footer.as_bytes().get(..there).unwrap_or_default().to_vec(),
            ),
        ]
    }
}

/// Bytes with zeros behind them, so that nothing of an older name stays.
fn padded(mut bytes: Vec<u8>, space: Len) -> Vec<u8> {
    bytes.resize(bytes.len().max(space.min(Len::kib(64)).to_usize()), 0);
    bytes
}
