//! Times and durations, as people read them.

use jiff::Timestamp;

/// A moment: `2026-01-02 03:04:05 UTC`.
pub(super) fn when(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The time of a day, to the millisecond.
pub(super) fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%S%.3f").to_string()
}

/// A day.
pub(super) fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

/// A duration: to the millisecond below a minute, to the second below an hour.
pub(super) fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0..60 => format!("{seconds}.{:03} s", milliseconds % 1000),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A difference of two durations.
pub(super) fn signed_duration(milliseconds: i64) -> String {
    let sign = if milliseconds < 0 { "-" } else { "+" };
    format!("{sign}{}", duration(milliseconds.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_as_people_say_them() {
        for (milliseconds, text) in
            [(0, "0.000 s"), (59_999, "59.999 s"), (61_000, "1 min 01 s"), (7_380_000, "2 h 03 min")]
        {
            assert_eq!(duration(milliseconds), text);
        }
        assert_eq!(signed_duration(-1500), "-1.500 s");
    }
}
