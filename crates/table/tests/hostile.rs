//! Tables that lie, with checksums that fit: nothing panics or hangs, and what is planned all the same leaves a sound
//! table that differs from the old one in what was planned and nothing else.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

#[allow(dead_code, reason = "shared with the other test binaries")]
mod support;

use disk::{Disk, ExtentKind, ExtentMap, Limits, Overlay, ReadAt};
use ondisk::{Len, Offset, Span, SpanSet, sum::crc32};
use support::Image;
use table::{Plan, Role, Severity, Table, To, plan_grow_disk, plan_grow_partition};

const LEN: usize = 4 << 20;
const SECTOR: usize = 512;

struct Memory(Vec<u8>);

impl ReadAt for Memory {
    fn len(&self) -> Len {
        Len::of(&self.0)
    }
    fn read_at(&self, at: Offset, buf: &mut [u8]) -> disk::Result<()> {
        let at = usize::try_from(at.get()).unwrap();
        buf.copy_from_slice(&self.0[at..at + buf.len()]);
        Ok(())
    }
    fn extents(&self, within: Span) -> disk::Result<ExtentMap> {
        Ok(ExtentMap::single(within, ExtentKind::Data))
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    /// A number that a parser may stumble over.
    fn number(&mut self) -> u64 {
        let sectors = u64::try_from(LEN / SECTOR).unwrap();
        match self.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << self.below(64),
            3 => (1_u64 << self.below(64)).wrapping_sub(1),
            4 => sectors - u64::try_from(self.below(40)).unwrap(),
            5 => u64::from(u32::MAX) - u64::try_from(self.below(3)).unwrap(),
            _ => u64::try_from(self.below(LEN / SECTOR + 40)).unwrap(),
        }
    }

    fn mutate(&mut self, bytes: &mut [u8], places: &[(usize, usize)]) {
        for _ in 0..=self.below(3) {
            let (start, len) = places[self.below(places.len())];
            let at = start + self.below(len);
            let width = [1, 2, 4, 8][self.below(4)].min(bytes.len() - at);
            let number =
                if self.below(3) == 0 { u64::from(bytes[at] ^ 1 << self.below(8)) } else { self.number() };
            bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
        }
    }
}

fn seal(bytes: &mut [u8], at: usize) {
    let field = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let array_at = u64::from_le_bytes(bytes[at + 72..at + 80].try_into().unwrap()).saturating_mul(512);
    let array_len = u64::from(field(bytes, at + 80)) * u64::from(field(bytes, at + 84));
    if let (Ok(from), Ok(len)) = (usize::try_from(array_at), usize::try_from(array_len))
        && let Some(array) = bytes.get(from..from.saturating_add(len))
    {
        let sum = crc32(array);
        bytes[at + 88..at + 92].copy_from_slice(&sum.to_le_bytes());
    }
    bytes[at + 16..at + 20].fill(0);
    let size = usize::try_from(field(bytes, at + 12)).unwrap().min(SECTOR);
    let sum = crc32(&bytes[at..at + size]);
    bytes[at + 16..at + 20].copy_from_slice(&sum.to_le_bytes());
}

/// Plans everything there is to plan; gives the number of plans that were made.
fn exercise(disk: &Memory) -> usize {
    let limits = Limits { memory: Len::mib(8), partitions: 256, ..Limits::default() };
    let Ok(Some(before)) = table::read(disk, &limits) else { return 0 };
    assert!(before.partitions().len() <= limits.partitions);
    let mut plans = 0;
    for len in [LEN, LEN + SECTOR, LEN + 100 * SECTOR, 2 * LEN + 3 * SECTOR] {
        let len = Len::new(u64::try_from(len).unwrap());
        let numbers = before.partitions().iter().map(|part| Some(part.number)).take(8);
        for number in numbers.chain([None]) {
            let plan = match number {
                Some(number) => plan_grow_partition(&before, number, To::Max, len),
                None => plan_grow_disk(&before, len),
            };
            let Ok(plan) = plan else { continue };
            plans += 1;
            assert_eq!(plan.is_empty(), plan.sentences().is_empty() && plan.growth().is_empty());
            assert_stays_out(&before, &plan);
            let growth = plan.growth().to_vec();
            let mut overlay = Overlay::new(disk, &limits);
            overlay.resize(len).unwrap();
            plan.apply(&mut overlay).unwrap();
            let after = table::read(&overlay, &limits).unwrap().expect("still a table");
            assert_follows(&before, &after, &growth);
            let again = match number {
                Some(number) => plan_grow_partition(&after, number, To::Max, len),
                None => plan_grow_disk(&after, len),
            };
            assert!(again.unwrap().is_empty(), "nothing is left to do");
        }
    }
    plans
}

/// Fresh writes touch nothing that the table refers to, and no write touches a partition.
fn assert_stays_out(table: &Table, plan: &Plan) {
    let data = table.partitions().iter().filter(|part| part.role != Role::Extended).map(|part| part.span);
    let mut taken: SpanSet = data.collect();
    let (fresh, home) = plan.writes();
    assert!(home.iter().all(|write| !taken.overlaps(write.span())), "{home:?}");
    taken.extend(table.metadata().iter());
    assert!(fresh.iter().all(|write| !taken.overlaps(write.span())), "{fresh:?}");
}

fn assert_follows(before: &Table, after: &Table, growth: &[table::Growth]) {
    let damage: Vec<_> = after.findings().iter().filter(|one| one.severity == Severity::Damage).collect();
    assert!(damage.is_empty(), "{damage:?}");
    assert_eq!(before.id(), after.id());
    let mut expect = before.partitions().to_vec();
    for part in &mut expect {
        for grown in growth.iter().filter(|grown| grown.number == part.number) {
            assert_eq!(part.span, grown.before);
            part.span = grown.after;
        }
    }
    assert_eq!(after.partitions(), expect);
}

fn template(script: &str, gpt: bool) -> Vec<u8> {
    let image = Image::new(u64::try_from(LEN).unwrap());
    if gpt {
        image.sgdisk(&script.split(' ').collect::<Vec<_>>());
    } else {
        image.sfdisk(script);
    }
    image.bytes(0, LEN)
}

#[test]
fn gpt() {
    let clean = template("-a 1 -n 1:34:100 -n 2:2048:4000 -n 3:4096:5000", true);
    let places =
        [(446, 66), (512, 92), (512, 92), (1024, 384), (1024, 384), (LEN - 512, 92), (LEN - 33 * 512, 384)];
    let mut random = Random(1);
    let mut plans = exercise(&Memory(clean.clone()));
    assert_eq!(plans, 16);
    for round in 0..10_000 {
        let mut bytes = clean.clone();
        random.mutate(&mut bytes, &places);
        if round % 2 == 0 {
            // Entries that agree between the copies get further than such that do not.
            bytes.copy_within(1024..1024 + 384, LEN - 33 * 512);
        }
        seal(&mut bytes, 512);
        seal(&mut bytes, LEN - 512);
        plans += exercise(&Memory(bytes));
    }
    assert!(plans > 5_000, "{plans}: the mutations must leave something to plan");
}

#[test]
fn mbr() {
    let clean = template(
        "label: dos\nstart=64,size=64,type=83\nstart=1024,size=4096,type=5\nstart=6000,size=100,type=83\n\
         start=1100,size=100\nstart=2000,size=100\nstart=3000,size=100\n",
        false,
    );
    let ebrs: Vec<usize> =
        (1..LEN / SECTOR).filter(|&n| clean[n * SECTOR + 510..][..2] == [0x55, 0xaa]).collect();
    assert_eq!(ebrs.len(), 3);
    let mut places = vec![(446, 66), (446, 64)];
    places.extend(ebrs.iter().map(|&n| (n * SECTOR + 446, 32)));
    let mut random = Random(2);
    let mut plans = exercise(&Memory(clean.clone()));
    assert_eq!(plans, 28);
    for _ in 0..10_000 {
        let mut bytes = clean.clone();
        random.mutate(&mut bytes, &places);
        plans += exercise(&Memory(bytes));
    }
    assert!(plans > 5_000, "{plans}: the mutations must leave something to plan");
}
