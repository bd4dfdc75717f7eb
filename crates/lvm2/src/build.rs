//! From text to volume group.

use crate::model::{Area, Lv, Mapping, Policy, Pv, Segment, Vg, connect, run};
use crate::text::{Scalar, Section, Text, Value};
use crate::unit::{EXTENTS_MAX, ExtentCount, ExtentRange, ExtentSize};
use crate::{Uuid, check};
use ondisk::text::Printable;
use ondisk::{Len, Offset};
use std::collections::BTreeMap;

/// What is missing or wrong, and where.
type Bad = String;
type Made<T> = Result<T, Bad>;

/// What tells one text from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) name: String,
    pub(crate) uuid: Uuid,
    pub(crate) seqno: u32,
}

/// The volume group's section, and what tells it from others.
pub(crate) fn head(text: &Text) -> Made<(Head, Section<'_>)> {
    let root = text.root();
    let contents = root.value("contents").and_then(Value::scalar);
    if contents != Some(Scalar::Text("Text Format Volume Group")) {
        return Err("the text says nothing of a volume group".to_owned());
    }
    let version = number(root, "version")?;
    if version != 1 {
        return Err(format!("the text is of version {version}, expected 1"));
    }
    let mut sections = root.sections();
    let (Some(vg), None) = (sections.next(), sections.next()) else {
        return Err("the text has not one section".to_owned());
    };
    let name = checked_name(vg.name())?;
    let format = text_of(vg, "format").unwrap_or("lvm2");
    if format != "lvm2" {
        return Err(format!(
            "volume group {name} is of format {}, expected lvm2",
            Printable(format.as_bytes())
        ));
    }
    let seqno = u32::try_from(number(vg, "seqno")?).map_err(|_| "seqno has more than 32 bits")?;
    Ok((Head { name, uuid: uuid(vg)?, seqno }, vg))
}

/// The volume group that a text describes, with what is wrong in the text itself.
pub(crate) fn vg(text: Text) -> Made<Vg> {
    let (head, section) = head(&text)?;
    let sectors = number(section, "extent_size")?;
    let extent_size = ExtentSize::from_sectors(sectors)
        .ok_or_else(|| format!("extent_size is {sectors} sectors, which no volume group has"))?;
    let mut pvs = Vec::new();
    let mut names = BTreeMap::new();
    for one in inner(section, "physical_volumes") {
        let pv = pv(one).map_err(|why| format!("{}: {why}", Printable(one.name().as_bytes())))?;
        names.insert(one.name(), pvs.len());
        pvs.push(pv);
    }
    let mut lvs = Vec::new();
    for one in inner(section, "logical_volumes") {
        lvs.push(lv(one, &names).map_err(|why| format!("{}: {why}", Printable(one.name().as_bytes())))?);
    }
    connect(&mut lvs);
    let mut vg = Vg {
        name: head.name,
        uuid: head.uuid,
        seqno: head.seqno,
        extent_size,
        status: status(section)?,
        lock_type: text_of(section, "lock_type").map(str::to_owned),
        policy: policy(section, Policy::Normal)?,
        pvs,
        lvs,
        findings: Vec::new(),
        text,
    };
    require_bytes(&vg)?;
    vg.findings = check::model(&vg);
    Ok(vg)
}

/// Every extent has a place in bytes.
fn require_bytes(vg: &Vg) -> Made<()> {
    for pv in &vg.pvs {
        let all = ExtentRange { count: pv.pe_count, ..ExtentRange::default() };
        if vg.extent_size.span_of(pv.pe_start, all).is_none() {
            return Err(format!(
                "{}: {} extents of {} end beyond all numbers",
                pv.name, pv.pe_count, vg.extent_size
            ));
        }
    }
    Ok(())
}

fn pv(section: Section<'_>) -> Made<Pv> {
    let bytes = |name| {
        let sectors = number(section, name)?;
        sectors.checked_mul(512).ok_or_else(|| format!("{name} is {sectors} sectors, beyond all numbers"))
    };
    let device_len = section.value("dev_size").map(|_| bytes("dev_size").map(Len::new)).transpose()?;
    Ok(Pv {
        name: checked_name(section.name())?,
        uuid: uuid(section)?,
        device_len,
        pe_start: Offset::new(bytes("pe_start")?),
        pe_count: ExtentCount(count(section, "pe_count")?),
        status: status(section)?,
        device: None,
    })
}

fn lv(section: Section<'_>, pvs: &BTreeMap<&str, usize>) -> Made<Lv> {
    let mut segments = Vec::new();
    for one in section.sections() {
        let segment = segment(one, pvs);
        segments.push(segment.map_err(|why| format!("{}: {why}", Printable(one.name().as_bytes())))?);
    }
    segments.sort_by_key(|segment| segment.extents.first);
    Ok(Lv {
        name: checked_name(section.name())?,
        uuid: uuid(section)?,
        status: status(section)?,
        tags: words(section, "tags")?,
        policy: policy(section, Policy::Inherit)?,
        segment_count: number(section, "segment_count")?,
        segments,
        user: None,
    })
}

fn segment(section: Section<'_>, pvs: &BTreeMap<&str, usize>) -> Made<Segment> {
    let extents = run(count(section, "start_extent")?, count(section, "extent_count")?);
    if extents.end().0 > EXTENTS_MAX {
        return Err(format!("extents {extents} have more than 32 bits"));
    }
    let kind = text_of(section, "type").ok_or("type is missing")?;
    // Flags of the segment follow the type's name.
    let name = kind.split('+').next().unwrap_or_default();
    let mapping = if matches!(kind, "striped" | "linear") { striped(section, extents, pvs)? } else { None };
    let mapping = mapping.unwrap_or_else(|| other(section, name, extents, pvs));
    Ok(Segment { extents, mapping })
}

/// `None` where it is striped over other logical volumes.
fn striped(section: Section<'_>, extents: ExtentRange, pvs: &BTreeMap<&str, usize>) -> Made<Option<Mapping>> {
    let stripes = number(section, "stripe_count")?;
    let list = section.value("stripes").ok_or("stripes is missing")?;
    let pairs = pairs(list).ok_or("stripes is no list of names and extents")?;
    if ondisk::num::to_u64(pairs.len()) != stripes || pairs.is_empty() {
        return Err(format!("stripe_count is {stripes}, and there are {} stripes", pairs.len()));
    }
    let each = extents.count.split(pairs.len());
    let each = each.ok_or_else(|| format!("{} extents do not divide by {stripes} stripes", extents.count))?;
    let stripe = if pairs.len() == 1 {
        Len::ZERO
    } else {
        let sectors = number(section, "stripe_size")?;
        let bytes = sectors.checked_mul(512).filter(|_| sectors.is_power_of_two());
        Len::new(bytes.ok_or_else(|| format!("stripe_size is {sectors} sectors, expected a power of two"))?)
    };
    let area = |(name, first): &(&str, u64)| {
        let pv = *pvs.get(name)?;
        Some(Area { pv, extents: run(*first, each.0) })
    };
    let areas: Option<Vec<Area>> = pairs.iter().map(area).collect();
    Ok(areas.map(|areas| Mapping::Striped { stripe, areas }))
}

/// What a segment of a type that we do not know uses: extents where a list names physical volumes, and volumes by name.
fn other(section: Section<'_>, kind: &str, extents: ExtentRange, pvs: &BTreeMap<&str, usize>) -> Mapping {
    let mut areas = Vec::new();
    let mut parts = Vec::new();
    for (name, value) in section.values().filter(|(name, _)| !matches!(*name, "type" | "tags")) {
        let area =
            |(pv, first): (&str, u64)| Some(Area { pv: *pvs.get(pv)?, extents: run(first, extents.count.0) });
        if matches!(name, "stripes" | "mirrors" | "raids") {
            areas.extend(pairs(value).into_iter().flatten().filter_map(area));
        }
        parts.extend(value.scalars().filter_map(|scalar| match scalar {
            Scalar::Text(text) if !pvs.contains_key(text) => Some((name.to_owned(), text.to_owned())),
            _ => None,
        }));
    }
    let merging = parts.iter().any(|(role, _)| role == "merging_store");
    let kind = if merging { "merging snapshot".to_owned() } else { Printable(kind.as_bytes()).to_string() };
    Mapping::Other { kind, areas, parts }
}

/// A list of names, each with a number behind it.
fn pairs(value: Value<'_>) -> Option<Vec<(&str, u64)>> {
    let mut pairs = Vec::new();
    let mut scalars = value.scalars();
    while let Some(name) = scalars.next() {
        match (name, scalars.next()?) {
            (Scalar::Text(name), Scalar::Number(first)) => {
                pairs.push((name, u64::try_from(first).ok().filter(|first| *first <= EXTENTS_MAX)?));
            }
            _ => return None,
        }
    }
    Some(pairs)
}

fn inner<'a>(section: Section<'a>, name: &str) -> impl Iterator<Item = Section<'a>> + use<'a> {
    section.section(name).into_iter().flat_map(Section::sections)
}

fn number(section: Section<'_>, name: &str) -> Made<u64> {
    match section.value(name).map(Value::scalar) {
        Some(Some(Scalar::Number(number))) => {
            u64::try_from(number).map_err(|_| format!("{name} is {number}, below zero"))
        }
        Some(_) => Err(format!("{name} is no number")),
        None => Err(format!("{name} is missing")),
    }
}

/// A number or count of extents.
fn count(section: Section<'_>, name: &str) -> Made<u64> {
    let number = number(section, name)?;
    if number > EXTENTS_MAX {
        Err(format!("{name} is {number}, which has more than 32 bits"))
    } else {
        Ok(number)
    }
}

fn text_of<'a>(section: Section<'a>, name: &str) -> Option<&'a str> {
    match section.value(name)?.scalar()? {
        Scalar::Text(text) => Some(text),
        _ => None,
    }
}

fn uuid(section: Section<'_>) -> Made<Uuid> {
    let text = text_of(section, "id").ok_or("id is missing")?;
    Uuid::parse(text.as_bytes()).ok_or_else(|| format!("id {} is no identifier", Printable(text.as_bytes())))
}

/// Both lists of flags: those that every version must know, and those that it need not.
fn status(section: Section<'_>) -> Made<Vec<String>> {
    let mut all = words(section, "status")?;
    all.append(&mut words(section, "flags")?);
    Ok(all)
}

/// A list of words, safe to print; nothing where there is no such list.
fn words(section: Section<'_>, name: &str) -> Made<Vec<String>> {
    let word = |scalar| match scalar {
        Scalar::Text(text) => Ok(Printable(text.as_bytes()).to_string()),
        _ => Err(format!("{name} has something that is no word")),
    };
    section.value(name).into_iter().flat_map(Value::scalars).map(word).collect()
}

fn policy(section: Section<'_>, default: Policy) -> Made<Policy> {
    match text_of(section, "allocation_policy") {
        None => Ok(default),
        Some("contiguous") => Ok(Policy::Contiguous),
        Some("cling" | "cling_by_tags") => Ok(Policy::Cling),
        Some("normal" | "anywhere") => Ok(Policy::Normal),
        Some("inherit") => Ok(default),
        Some(other) => Err(format!("allocation_policy is {}", Printable(other.as_bytes()))),
    }
}

/// Names of volumes and volume groups: nothing that could steer a terminal, or be a path.
fn checked_name(name: &str) -> Made<String> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'_' | b'.' | b'-');
    if name.is_empty() || name.len() > 127 || matches!(name, "." | "..") || !name.bytes().all(known) {
        return Err(format!("{} is no name", Printable(name.as_bytes())));
    }
    Ok(name.to_owned())
}
