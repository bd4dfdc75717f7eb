//! Files as people and scripts see them.

use super::tar::decimal;
use crate::json::put_bytes;
use extfs::read::inode::Time;
use extfs::{Inode, Kind};
use serde_json::{Map, Value};

/// A kind by name, as `find` and `stat` of other systems have it in JSON.
pub(super) const fn kind_name(kind: Option<Kind>) -> &'static str {
    match kind {
        Some(Kind::File) => "file",
        Some(Kind::Dir) => "directory",
        Some(Kind::Symlink) => "symlink",
        Some(Kind::Char) => "char-device",
        Some(Kind::Block) => "block-device",
        Some(Kind::Fifo) => "fifo",
        Some(Kind::Socket) => "socket",
        None => "unknown",
    }
}

/// `drwxr-xr-x`.
pub(super) fn mode_text(mode: u16) -> String {
    let kind = match Kind::of_mode(mode) {
        Some(Kind::File) => '-',
        Some(Kind::Dir) => 'd',
        Some(Kind::Symlink) => 'l',
        Some(Kind::Char) => 'c',
        Some(Kind::Block) => 'b',
        Some(Kind::Fifo) => 'p',
        Some(Kind::Socket) => 's',
        None => '?',
    };
    let mut text = String::from(kind);
    for (shift, special, set, alone) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')]
    {
        let bits = mode >> shift & 7;
        text.push(if bits & 4 == 0 { '-' } else { 'r' });
        text.push(if bits & 2 == 0 { '-' } else { 'w' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, false) => alone,
            (true, true) => set,
        });
    }
    text
}

/// `2023-11-14 22:13:20.000000000`, in UTC, which is all that a filesystem knows.
pub(super) fn time_text(time: Time) -> String {
    let (days, second) = (time.seconds.div_euclid(86_400), time.seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) =
        (second.div_euclid(3600), second.div_euclid(60).rem_euclid(60), second.rem_euclid(60));
    let nanoseconds = time.nanoseconds;
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{nanoseconds:09}")
}

/// The same, to the minute.
pub(super) fn minute_text(time: Time) -> String {
    time_text(time).get(..16).unwrap_or_default().to_owned()
}

/// The day of the Gregorian calendar, so many days since 1970-01-01. A year begins in March here, so that the odd
/// day of a leap year is its last.
fn date(days: i64) -> (i64, i64, i64) {
    let from_march_0 = days.saturating_add(719_468);
    let (era, day) = (from_march_0.div_euclid(146_097), from_march_0.rem_euclid(146_097));
    let leap_days = |day: i64| {
        day.div_euclid(1460).saturating_sub(day.div_euclid(36_524)).saturating_add(day.div_euclid(146_096))
    };
    let year = day.saturating_sub(leap_days(day)).div_euclid(365);
    let before =
        year.saturating_mul(365).saturating_add(year.div_euclid(4)).saturating_sub(year.div_euclid(100));
    let day = day.saturating_sub(before);
    let month = day.saturating_mul(5).saturating_add(2).div_euclid(153);
    let first = month.saturating_mul(153).saturating_add(2).div_euclid(5);
    let (late, month) = if month < 10 { (0, month.saturating_add(3)) } else { (1, month.saturating_sub(9)) };
    let year = era.saturating_mul(400).saturating_add(year).saturating_add(late);
    (year, month, day.saturating_sub(first).saturating_add(1))
}

/// A time for scripts: seconds since 1970 with nine digits behind the point, as text, for no number holds them all.
pub(super) fn time_json(time: Time) -> Value {
    decimal(time.seconds, time.nanoseconds).into()
}

/// What everybody wants to know of a file.
pub(super) fn facts(name: (&str, &[u8]), inode: &Inode, target: Option<&[u8]>) -> Map<String, Value> {
    let mut object = Map::new();
    put_bytes(&mut object, name.0, name.1);
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("type", kind_name(inode.kind()).into());
    put("inode", inode.ino().0.into());
    put("mode", format!("{:04o}", inode.mode() & 0o7777).into());
    put("links", inode.links().into());
    put("uid", inode.uid().into());
    put("gid", inode.gid().into());
    put("size", inode.size().get().into());
    put("mtime", time_json(inode.mtime()));
    if let Some((major, minor)) = inode.device() {
        put("device", format!("{major}:{minor}").into());
    }
    if let Some(target) = target {
        put_bytes(&mut object, "target", target);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanoseconds: u32) -> Time {
        Time { seconds, nanoseconds }
    }

    #[test]
    fn modes() {
        for (mode, text) in [
            (0o100_644, "-rw-r--r--"),
            (0o040_755, "drwxr-xr-x"),
            (0o104_711, "-rws--x--x"),
            (0o102_640, "-rw-r-S---"),
            (0o041_777, "drwxrwxrwt"),
            (0o041_776, "drwxrwxrwT"),
            (0o120_777, "lrwxrwxrwx"),
        ] {
            assert_eq!(mode_text(mode), text);
        }
    }

    #[test]
    fn times_agree_with_date() {
        let seconds =
            [0, -1, 951_782_400, 951_868_799, 1_700_000_000, 4_107_542_400, 15_032_385_535, -2_147_483_648];
        for second in seconds {
            let said =
                testkit::tool::run("date", ["-u", "-d", &format!("@{second}"), "+%Y-%m-%d %H:%M:%S.%N"]);
            assert_eq!(time_text(at(second, 0)), said.trim_end());
        }
        let every_day: Vec<_> = (0..150_000).map(date).collect();
        for pair in every_day.windows(2) {
            let [(y, m, d), (ny, nm, nd)] = [pair[0], pair[1]];
            let next = (ny, nm, nd) == (y, m, d + 1)
                || (d >= 28 && nd == 1 && (ny, nm) == if m == 12 { (y + 1, 1) } else { (y, m + 1) });
            assert!(next, "{pair:?}");
        }
    }
}
