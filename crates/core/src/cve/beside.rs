//! Readers of the small files beside a record: `.cvss`, `.reference` and `.sha1`.
//!
//! They add to what a record says and never decide whether a kernel is affected. So what cannot be
//! read of them is left out, rather than holding up the record.

use crate::git_id::GitId;

use super::record::one_line;

/// Largest of these files that is read, in bytes. The feed's largest has a few hundred.
pub const LARGEST: usize = 64 << 10;
/// Most reasons, pages or commits that are kept.
const MOST: usize = 100;
/// Longest reason that is kept, in characters.
const LONGEST_REASON: usize = 1000;
/// Longest URL that is kept, in bytes.
const LONGEST_URL: usize = 2000;

/// What a `.cvss` file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Severity {
    /// `CVSS:3.1/…`.
    pub vector: String,
    /// Reasons, one line per metric; older files have none.
    pub reasons: Vec<String>,
}

/// Reads a `.cvss` file: an organisation's id and a vector in its first line, reasons in further ones.
pub fn severity(bytes: &[u8]) -> Option<Severity> {
    let text = text(bytes)?;
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let mut words = first.split_ascii_whitespace();
    let (Some(_), Some(vector), None) = (words.next(), words.next(), words.next()) else {
        return None;
    };
    vector.starts_with("CVSS:3.1/").then(|| Severity {
        vector: one_line(vector),
        reasons: reasons([rest]),
    })
}

/// Takes the lines of texts as reasons, without control characters and empty lines.
pub(super) fn reasons<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    texts
        .into_iter()
        .flat_map(str::lines)
        .map(|line| line.trim().chars().filter(|c| !c.is_control()))
        .map(|line| line.take(LONGEST_REASON).collect::<String>())
        .filter(|line| !line.is_empty())
        .take(MOST)
        .collect()
}

/// Reads a `.reference` file: web pages, one a line.
pub fn pages(bytes: &[u8]) -> Vec<String> {
    text(bytes).map_or_else(Vec::new, |text| web_pages(text.lines()))
}

/// Keeps what is the address of a web page and no commit, each once, in order.
pub(super) fn web_pages<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut pages: Vec<String> = Vec::new();
    for address in addresses {
        let address = address.trim();
        if pages.len() < MOST
            && is_web_page(address)
            && !pages.iter().any(|page| page.as_str() == address)
        {
            pages.push(address.to_owned());
        }
    }
    pages
}

fn is_web_page(address: &str) -> bool {
    let Some(rest) = ["https://", "http://"]
        .iter()
        .find_map(|scheme| address.strip_prefix(scheme))
    else {
        return false;
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // The feed names every fix as a page of kernel.org's git; the spans have them already.
    !host.is_empty()
        && host != "git.kernel.org"
        && address.len() <= LONGEST_URL
        && address
            .chars()
            .all(|c| !c.is_control() && !c.is_whitespace())
}

/// Reads a `.sha1` file: the mainline commits of the fix, separated by white space. One that is no
/// commit makes all of them unknown.
pub fn commits(bytes: &[u8]) -> Vec<GitId> {
    let Some(text) = text(bytes) else {
        return Vec::new();
    };
    let commits: Result<Vec<GitId>, _> = text
        .split_ascii_whitespace()
        .take(MOST + 1)
        .map(str::parse)
        .collect();
    commits
        .ok()
        .filter(|commits| commits.len() <= MOST)
        .unwrap_or_default()
}

fn text(bytes: &[u8]) -> Option<&str> {
    (bytes.len() <= LARGEST)
        .then(|| std::str::from_utf8(bytes).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8] = include_bytes!("../../../../fuzz/seeds/cve_beside/plain.cvss");
    const REASONED: &[u8] = include_bytes!("../../../../fuzz/seeds/cve_beside/reasoned.cvss");
    const PAGES: &[u8] = include_bytes!("../../../../fuzz/seeds/cve_beside/plain.reference");
    const COMMITS: &[u8] = include_bytes!("../../../../fuzz/seeds/cve_beside/two.sha1");

    #[test]
    fn a_severity_has_reasons_in_newer_files_only() {
        let vector = "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H";
        let found = severity(PLAIN).unwrap();
        assert_eq!((found.vector.as_str(), found.reasons.len()), (vector, 0));
        let found = severity(REASONED).unwrap();
        assert_eq!(
            found.reasons,
            [
                "AV:L a local program opens the socket",
                "AC:L no race is needed"
            ]
        );
        for bad in ["", "x", "x CVSS:2.0/AV:L", "x CVSS:3.1/AV:L y", "\u{feff}"] {
            assert_eq!(severity(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(severity(b"x CVSS:3.1/\xff"), None);
    }

    #[test]
    fn reasons_are_bounded_and_fit_for_a_terminal() {
        let text = format!("x CVSS:3.1/A\n{}\n\u{1b}[31mred\u{7}\n", "y".repeat(5000));
        let found = severity(text.as_bytes()).unwrap().reasons;
        assert_eq!(found[0].len(), LONGEST_REASON);
        assert_eq!(found[1], "[31mred");
        let many = format!("x CVSS:3.1/A\n{}", "reason\n".repeat(1000));
        assert_eq!(severity(many.as_bytes()).unwrap().reasons.len(), MOST);
        assert_eq!(severity(&vec![b'x'; LARGEST + 1]), None);
    }

    #[test]
    fn only_web_pages_are_references() {
        assert_eq!(
            pages(PAGES),
            [
                "https://project.example.org/issues/1",
                "http://list.example.org/2024/1"
            ]
        );
        for bad in [
            "javascript:alert(1)",
            "file:///etc/passwd",
            "https://",
            "https:///x",
            "ftp://example.org/",
            "https://git.kernel.org/stable/c/1111111111111111111111111111111111111111",
            "https://example.org/a b",
            "https://example.org/\u{1b}[31m",
            "https://example.org/\u{9b}31m",
            "see https://example.org/",
        ] {
            assert_eq!(pages(bad.as_bytes()), Vec::<String>::new(), "{bad:?}");
        }
        let long = format!("https://example.org/{}", "x".repeat(LONGEST_URL));
        assert_eq!(pages(long.as_bytes()), Vec::<String>::new());
        assert_eq!(pages(b"https://example.org/\xff\n"), Vec::<String>::new());
    }

    #[test]
    fn a_fix_may_be_several_commits() {
        let names: Vec<String> = commits(COMMITS).iter().map(GitId::short).collect();
        assert_eq!(names, ["111111111111", "222222222222"]);
        assert_eq!(commits(b""), []);
        // Half a list would look like a whole fix.
        let cut = &COMMITS[..COMMITS.len() - 5];
        assert_eq!(commits(cut), []);
        let many = "1111111111111111111111111111111111111111\n".repeat(MOST + 1);
        assert_eq!(commits(many.as_bytes()), []);
    }
}
