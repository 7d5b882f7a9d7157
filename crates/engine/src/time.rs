//! RFC 3339 in UTC with nanoseconds: the one form in which times are kept and logged.

/// Now.
pub(crate) fn now() -> String {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    rfc3339(t.tv_sec, t.tv_nsec as u32)
}

/// Seconds and nanoseconds since 1970 as `2026-01-02T03:04:05.000000006Z`.
///
/// Written out rather than left to a library: the supervisor calls it for each chunk of output and must stay small.
pub(crate) fn rfc3339(seconds: i64, nanos: u32) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{nanos:09}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar: counted from a
/// 1 March, so that the leap day comes last.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_a_library() {
        for seconds in [0, 951_782_399, 951_782_400, 1_709_164_800, 4_102_444_799, 1_795_506_543, -1] {
            let expected = jiff::Timestamp::new(seconds, 0).unwrap().to_string().replace('Z', ".000000007Z");
            assert_eq!(rfc3339(seconds, 7), expected);
        }
    }
}
