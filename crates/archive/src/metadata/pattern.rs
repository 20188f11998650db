//! Path patterns of delegations (specification 4.5).

/// Matches `*` and `?` within one part of a path; a `*` never crosses a `/`.
pub(super) fn fits(pattern: &str, path: &str) -> bool {
    let mut patterns = pattern.split('/');
    let mut parts = path.split('/');
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if fits_part(pattern.as_bytes(), part.as_bytes()) => {}
            (Some(_) | None, _) => return false,
        }
    }
}

/// Greedy matching with one point to go back to, so hostile patterns cost at most n × m.
fn fits_part(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || Some(&byte) == text.get(t) => {
                p += 1;
                t += 1;
            }
            Some(_) | None => match retry {
                Some((after, from)) => {
                    p = after;
                    t = from + 1;
                    retry = Some((after, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern
        .get(p..)
        .unwrap_or_default()
        .iter()
        .all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_in_its_part_of_the_path() {
        for (pattern, path, fit) in [
            ("tt__a__*", "tt__a__1.ko", true),
            ("tt__a__*", "tt__b__1.ko", false),
            ("*", "a/b", false),
            ("a/*", "a/b", true),
            ("a?c*", "abcd", true),
            ("*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaac", false),
            ("", "", true),
        ] {
            assert_eq!(fits(pattern, path), fit, "{pattern} {path}");
        }
    }
}
