//! Decimal fractions as exact whole numbers of a smaller unit; no floating point.

/// Longest text that is read as a number, in bytes.
const LONGEST: usize = 64;

/// Reads an unsigned decimal such as `0.00043`, `1` or `9.3e-05` in units of ten to the minus
/// `places`, rounding what is finer to the nearest unit. `None` for anything else, and above `most`.
pub(super) fn units(text: &str, places: i32, most: u32) -> Option<u32> {
    if text.len() > LONGEST {
        return None;
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, signed(exponent)?),
        None => (text, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (mantissa, ""),
    };
    let digits = || whole.bytes().chain(fraction.bytes());
    if whole.is_empty() || !digits().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    // How many of the digits stand before the point once it is moved to the unit.
    let before = i32::try_from(whole.len()).ok()? + exponent + places;
    let mut value: u64 = 0;
    let mut taken = 0;
    for digit in digits().map(|digit| u64::from(digit - b'0')) {
        if taken < before {
            value = value * 10 + digit;
        } else if taken == before {
            value += u64::from(digit >= 5);
        }
        if value > u64::from(most) {
            return None;
        }
        taken += 1;
    }
    while taken < before && value > 0 {
        value *= 10;
        if value > u64::from(most) {
            return None;
        }
        taken += 1;
    }
    u32::try_from(value).ok()
}

/// Reads an exponent of at most three digits.
fn signed(text: &str) -> Option<i32> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("-", digits) => (-1, digits),
        ("+", digits) => (1, digits),
        _ => (1, text),
    };
    let plain = (1..=3).contains(&digits.len()) && digits.bytes().all(|c| c.is_ascii_digit());
    plain.then(|| digits.parse::<i32>().ok().map(|value| sign * value))?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str) -> Option<u32> {
        units(text, 6, 1_000_000)
    }

    #[test]
    fn decimals_become_parts_per_million_exactly() {
        for (text, expected) in [
            ("0", 0),
            ("1", 1_000_000),
            ("1.0", 1_000_000),
            ("0.00043", 430),
            ("0.001230000", 1230),
            ("9.3e-05", 93),
            ("9.3E-5", 93),
            ("1e-6", 1),
            ("5e-07", 1),
            ("4.9e-07", 0),
            ("0.9999995", 1_000_000),
            ("0.9999994", 999_999),
            ("0.00001e5", 1_000_000),
            ("1e-999", 0),
            ("0e999", 0),
        ] {
            assert_eq!(parts(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_share() {
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-0.1",
            "+0.1",
            "1.000001",
            "2",
            "1e1",
            "1e999",
            "0.1e",
            "0.1e-",
            "0.1e-1000",
            "0.1f",
            "0,1",
            "nan",
            "inf",
            " 0.1",
            "0.1 ",
            "٠.١",
            "1e+-1",
            "0x1",
        ] {
            assert_eq!(parts(text), None, "{text:?}");
        }
        assert_eq!(parts(&"0".repeat(65)), None);
    }

    proptest! {
        #[test]
        fn every_share_reads_back(value in 0..=1_000_000u32, zeros in 0usize..8) {
            let text = format!("{}.{:06}{}", value / 1_000_000, value % 1_000_000, "0".repeat(zeros));
            prop_assert_eq!(parts(&text), Some(value));
            prop_assert_eq!(parts(&format!("{value}e-6")), Some(value));
        }

        #[test]
        fn no_text_panics(text in ".{0,70}") {
            parts(&text);
        }
    }
}
