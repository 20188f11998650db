//! Dates as the various sources write them.

use crate::instant::UtcSeconds;

/// Reads `2024-08-26`, or with a time of day: seconds, fractions (dropped), and `Z` or an offset such
/// as `+0000` or `-05:00`. Without an offset it is taken as UTC, which is what the sources mean.
pub(super) fn parse(text: &str) -> Option<UtcSeconds> {
    let (date, rest) = text.split_at_checked(10)?;
    let midnight: UtcSeconds = format!("{date}T00:00:00Z").parse().ok()?;
    if rest.is_empty() {
        return Some(midnight);
    }
    let (time, rest) = rest.split_at_checked(9)?;
    let local: UtcSeconds = format!("{date}{time}Z").parse().ok()?;
    let offset = match rest.strip_prefix('.') {
        Some(fraction) => {
            let after = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if after.len() == fraction.len() {
                return None;
            }
            after
        }
        None => rest,
    };
    if matches!(offset, "" | "Z") {
        return Some(local);
    }
    let (sign, offset) = offset.split_at_checked(1)?;
    let digits = match offset.as_bytes() {
        [a, b, b':', c, d] | [a, b, c, d] => [*a, *b, *c, *d],
        _ => return None,
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let [tens, ones, minute_tens, minute_ones] = digits.map(|digit| u64::from(digit - b'0'));
    let (hours, minutes) = (tens * 10 + ones, minute_tens * 10 + minute_ones);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = hours * 3600 + minutes * 60;
    match sign {
        "+" => Some(UtcSeconds::from_unix(local.unix().checked_sub(seconds)?)),
        "-" => Some(local.plus(seconds)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_the_sources_write_a_date_is_read() {
        for (text, expected) in [
            ("2024-08-26", "2024-08-26T00:00:00Z"),
            ("2024-08-26T14:03:01Z", "2024-08-26T14:03:01Z"),
            ("2024-08-26T14:03:01.8712Z", "2024-08-26T14:03:01Z"),
            ("2024-08-26T14:03:01.000", "2024-08-26T14:03:01Z"),
            ("2024-08-26T00:00:00+0000", "2024-08-26T00:00:00Z"),
            ("2024-08-26T01:30:00+02:00", "2024-08-25T23:30:00Z"),
            ("2024-08-26T23:30:00-0130", "2024-08-27T01:00:00Z"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_date() {
        for text in [
            "",
            "2024",
            "2024-8-26",
            "2024-02-30",
            "26.08.2024",
            "2024-08-26T",
            "2024-08-26T14:03",
            "2024-08-26 14:03:01",
            "2024-08-26T14:03:01.",
            "2024-08-26T14:03:01+",
            "2024-08-26T14:03:01+24:00",
            "2024-08-26T14:03:01+ab:cd",
            "2024-08-26T14:03:01*0000",
            "1970-01-01T00:00:00+01:00",
            "2024-08-2\u{665}",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
