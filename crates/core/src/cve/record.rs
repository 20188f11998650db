//! Reader of the CVE record format, as far as the kernel's authority uses it.

use std::borrow::Cow;

use serde::Deserialize;

use super::rows::{Product, Row, RowStatus, Until};
use super::{CveId, Cvss, Score, beside};
use crate::git_id::GitId;
use crate::version::KernelVersion;

/// Largest file that is read, in bytes. The feed's records have about 8 KB.
pub const LARGEST: usize = 4 << 20;
/// Most files, products or rows that are kept of one record.
const MOST_ITEMS: usize = 10_000;
/// Longest path the kernel could hold, in bytes.
const LONGEST_PATH: usize = 4096;

/// What one JSON record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The id inside, where there is one.
    pub id: Option<CveId>,
    /// Subject of the mainline fix, without control characters; may be empty.
    pub title: String,
    /// English description, without control characters but for line ends and tabs.
    pub description: String,
    /// Files named, sorted, each once.
    pub files: Vec<String>,
    /// Severity.
    pub cvss: Option<Cvss>,
    /// Web pages besides the commits.
    pub references: Vec<String>,
    /// Version rows.
    pub products: Vec<Product>,
}

/// Why a record was not read; nothing of it is used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Too many bytes.
    #[error("{bytes} bytes, more than the limit of {LARGEST}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Too many items.
    #[error("more than {MOST_ITEMS} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
    },
    /// Not the JSON of a CVE record.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Some other kind of document.
    #[error("dataType is {found:?} instead of CVE_RECORD")]
    OtherDocument {
        /// What it says it is.
        found: String,
    },
    /// Another edition of the format.
    #[error("dataVersion is {found:?}, and only 5 is known")]
    OtherEdition {
        /// What it says it is.
        found: String,
    },
    /// The id inside has another form.
    #[error(transparent)]
    Id(#[from] super::NotACveId),
    /// A file name that leads out of the kernel tree, or is none.
    #[error("programFiles holds {path:?}, which is no path in the kernel tree")]
    Path {
        /// The name.
        path: String,
    },
}

// Unknown keys are ignored: the format is others', and grows.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(borrow)]
    data_type: Cow<'a, str>,
    #[serde(borrow)]
    data_version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    cve_metadata: Metadata<'a>,
    #[serde(borrow)]
    containers: Containers<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    // Rejected records write a capital D.
    #[serde(borrow, rename = "cveId", alias = "cveID")]
    id: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Containers<'a> {
    #[serde(borrow)]
    cna: Cna<'a>,
}

#[derive(Deserialize)]
struct Cna<'a> {
    #[serde(borrow, default)]
    title: Cow<'a, str>,
    #[serde(borrow, default)]
    descriptions: Vec<Description<'a>>,
    #[serde(borrow, default)]
    affected: Vec<AffectedProduct<'a>>,
    #[serde(borrow, default)]
    metrics: Vec<Metric<'a>>,
    #[serde(borrow, default)]
    references: Vec<Reference<'a>>,
}

#[derive(Deserialize)]
struct Reference<'a> {
    #[serde(borrow)]
    url: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Description<'a> {
    #[serde(borrow, default)]
    lang: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AffectedProduct<'a> {
    #[serde(borrow, default)]
    default_status: Cow<'a, str>,
    #[serde(borrow, default)]
    program_files: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    versions: Vec<VersionRow<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionRow<'a> {
    #[serde(borrow)]
    version: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow)]
    version_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    less_than: Option<Cow<'a, str>>,
    #[serde(borrow)]
    less_than_or_equal: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Metric<'a> {
    #[serde(borrow, rename = "cvssV3_1")]
    cvss: Option<CvssText<'a>>,
    #[serde(borrow, default)]
    scenarios: Vec<Description<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CvssText<'a> {
    #[serde(borrow)]
    vector_string: Cow<'a, str>,
    base_score: f64,
}

impl Description<'_> {
    fn is_english(&self) -> bool {
        self.lang.starts_with("en") || self.lang.is_empty()
    }
}

/// Reads one record. Depth is bounded by the JSON reader (128 levels), size by [`LARGEST`].
pub fn parse(bytes: &[u8]) -> Result<Record, RecordError> {
    if bytes.len() > LARGEST {
        return Err(RecordError::TooLarge { bytes: bytes.len() });
    }
    let document: Document<'_> = serde_json::from_slice(bytes)?;
    if document.data_type != "CVE_RECORD" {
        return Err(RecordError::OtherDocument {
            found: document.data_type.chars().take(40).collect(),
        });
    }
    if let Some(version) = &document.data_version
        && version.split('.').next() != Some("5")
    {
        return Err(RecordError::OtherEdition {
            found: version.chars().take(40).collect(),
        });
    }
    let id = document.cve_metadata.id.map(|id| id.parse()).transpose()?;
    let cna = document.containers.cna;
    let description = cna.descriptions.iter().find(|text| text.is_english());
    Ok(Record {
        id,
        title: one_line(&cna.title),
        description: description.map_or_else(String::new, |text| lines(&text.value)),
        files: files(&cna.affected)?,
        cvss: cna
            .metrics
            .iter()
            .find_map(|metric| cvss(metric.cvss.as_ref()?, &metric.scenarios)),
        references: beside::web_pages(cna.references.iter().map(|reference| &*reference.url)),
        products: products(&cna.affected)?,
    })
}

/// Strips control characters: the text goes to terminals.
pub(super) fn one_line(text: &str) -> String {
    strip(text, |c| !c.is_control())
}

/// Like [`one_line`], but keeps line ends and tabs.
pub(super) fn lines(text: &str) -> String {
    strip(text, |c| !c.is_control() || matches!(c, '\n' | '\t'))
}

fn strip(text: &str, keep: impl Fn(&char) -> bool) -> String {
    // Nearly every text is whole, and copying it whole is quicker.
    if text.chars().all(|c| keep(&c)) {
        text.to_owned()
    } else {
        text.chars().filter(keep).collect()
    }
}

fn files(products: &[AffectedProduct<'_>]) -> Result<Vec<String>, RecordError> {
    let mut files = Vec::new();
    for path in products.iter().flat_map(|product| &product.program_files) {
        let plain = !path.is_empty()
            && path.len() <= LONGEST_PATH
            && !path.chars().any(char::is_control)
            && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !plain {
            return Err(RecordError::Path {
                path: path.chars().take(80).collect(),
            });
        }
        if files.len() == MOST_ITEMS {
            return Err(RecordError::TooMany { what: "files" });
        }
        files.push(path.clone().into_owned());
    }
    files.sort();
    files.dedup();
    Ok(files)
}

fn cvss(text: &CvssText<'_>, scenarios: &[Description<'_>]) -> Option<Cvss> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to lie within 0 and 100"
    )]
    let tenths = (0.0..=10.0)
        .contains(&text.base_score)
        .then(|| (text.base_score * 10.0).round() as u8)?;
    Some(Cvss {
        vector: one_line(&text.vector_string),
        score: Score::from_tenths(tenths)?,
        reasons: beside::reasons(
            scenarios
                .iter()
                .filter(|text| text.is_english())
                .map(|text| &*text.value),
        ),
    })
}

fn products(products: &[AffectedProduct<'_>]) -> Result<Vec<Product>, RecordError> {
    let rows: usize = products.iter().map(|product| product.versions.len()).sum();
    if products.len() > MOST_ITEMS || rows > MOST_ITEMS {
        return Err(RecordError::TooMany {
            what: "version rows",
        });
    }
    Ok(products.iter().map(product).collect())
}

fn product(text: &AffectedProduct<'_>) -> Product {
    let mut rows: Vec<Row> = text
        .versions
        .iter()
        .map(|text| row(text).unwrap_or_else(|why| Row::Foreign { why }))
        .collect();
    let default = status(&text.default_status).unwrap_or_else(|why| {
        rows.push(Row::Foreign { why });
        RowStatus::Affected
    });
    Product { default, rows }
}

fn status(text: &str) -> Result<RowStatus, String> {
    match text {
        "affected" => Ok(RowStatus::Affected),
        "unaffected" => Ok(RowStatus::Unaffected),
        other => Err(format!("status {:?}", short(other))),
    }
}

fn row(text: &VersionRow<'_>) -> Result<Row, String> {
    let status = status(&text.status)?;
    match text.version_type.as_deref() {
        Some("git") => commits(text, status),
        None | Some("semver" | "original_commit_for_fix") => versions(text, status),
        Some(other) => Err(format!("versionType {:?}", short(other))),
    }
}

fn commits(text: &VersionRow<'_>, status: RowStatus) -> Result<Row, String> {
    let commit = |text: &str| {
        text.parse::<GitId>()
            .map_err(|_| format!("commit {:?}", short(text)))
    };
    match (status, &text.less_than_or_equal) {
        (RowStatus::Affected, None) => Ok(Row::Commits {
            from: commit(&text.version)?,
            until: text.less_than.as_deref().map(commit).transpose()?,
        }),
        (RowStatus::Unaffected, _) | (_, Some(_)) => Err("commit range of another form".to_owned()),
    }
}

fn versions(text: &VersionRow<'_>, status: RowStatus) -> Result<Row, String> {
    let version = |text: &str| {
        text.parse::<KernelVersion>()
            .map_err(|_| format!("version {:?}", short(text)))
    };
    let until = match (
        text.less_than.as_deref(),
        text.less_than_or_equal.as_deref(),
    ) {
        (None, None) => Until::Itself,
        (Some(end), None) => Until::Before(version(end)?),
        (None, Some("*")) => Until::Ever,
        (None, Some(end)) => match end.strip_suffix(".*") {
            Some(branch) => Until::Branch(
                branch
                    .parse()
                    .map_err(|_| format!("version {:?}", short(end)))?,
            ),
            None => Until::With(version(end)?),
        },
        (Some(_), Some(_)) => return Err("row with two ends".to_owned()),
    };
    let from = match &*text.version {
        "0" => None,
        text => Some(version(text)?),
    };
    Ok(Row::Versions {
        status,
        from,
        until,
    })
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = include_str!("../../../../fuzz/seeds/cve_record/plain.json");

    #[test]
    fn a_record_is_read_as_far_as_it_is_used() {
        let record = parse(PLAIN.as_bytes()).unwrap();
        assert_eq!(record.id.unwrap().to_string(), "CVE-2024-0001");
        assert_eq!(record.title, "net: foo: fix use after free");
        assert_eq!(record.files, ["include/net/foo.h", "net/foo/main.c"]);
        assert_eq!(record.cvss.unwrap().score.to_string(), "7.8");
        assert_eq!(record.products.len(), 2);
        assert_eq!(record.products[1].default, RowStatus::Affected);
        let foreign = |row: &&Row| matches!(row, Row::Foreign { .. });
        assert!(
            record
                .products
                .iter()
                .flat_map(|product| &product.rows)
                .find(foreign)
                .is_none()
        );
    }

    #[test]
    fn another_edition_of_the_format_is_refused() {
        for (version, known) in [
            ("5.0", true),
            ("5.1.1", true),
            ("4.0", false),
            ("6.0", false),
        ] {
            let text = PLAIN.replace(r#""5.1.1""#, &format!("{version:?}"));
            let refused = matches!(
                parse(text.as_bytes()),
                Err(RecordError::OtherEdition { .. })
            );
            assert_eq!(refused, !known, "{version}");
        }
    }

    #[test]
    fn reasons_and_web_pages_are_kept() {
        let metrics = r#""metrics": [{"scenarios": [{"lang": "en", "value": "AV:L local\nAC:L easy"},
            {"lang": "fr", "value": "non"}], "#;
        let text = PLAIN.replacen(r#""metrics": [{"#, metrics, 1).replacen(
            r#""title""#,
            r#""references": [{"url": "https://git.kernel.org/stable/c/1"},
                {"url": "https://example.org/1"}, {"url": "javascript:x"}], "title""#,
            1,
        );
        let record = parse(text.as_bytes()).unwrap();
        assert_eq!(record.cvss.unwrap().reasons, ["AV:L local", "AC:L easy"]);
        assert_eq!(record.references, ["https://example.org/1"]);
    }

    #[test]
    fn shown_text_holds_no_control_characters() {
        let text = PLAIN.replace("net: foo:", r"\u001b]0;own\u0007\u009b net: foo:");
        assert_eq!(
            parse(text.as_bytes()).unwrap().title,
            "]0;own net: foo: fix use after free"
        );
    }

    #[test]
    fn a_path_out_of_the_tree_is_refused() {
        for path in [
            "../etc/passwd",
            "/etc/passwd",
            "net/../../x",
            "net//x",
            "",
            "a\\u0000b",
        ] {
            let text = PLAIN.replace("net/foo/main.c", path);
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(
                matches!(error, RecordError::Path { .. }),
                "{path:?}: {error}"
            );
        }
    }

    #[test]
    fn an_unknown_row_is_kept_as_foreign() {
        let text = PLAIN.replace("semver", "rpm");
        let record = parse(text.as_bytes()).unwrap();
        let why: Vec<&Row> = record.products[1]
            .rows
            .iter()
            .filter(|row| matches!(row, Row::Foreign { .. }))
            .collect();
        assert!(!why.is_empty());
    }

    #[test]
    fn garbled_and_truncated_records_are_errors() {
        for end in 0..PLAIN.trim_end().len() {
            let cut = PLAIN.as_bytes().get(..end).unwrap();
            assert!(parse(cut).is_err(), "cut at {end}");
        }
        assert!(parse(&[0xff; 64]).is_err());
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
        assert!(parse(&vec![b' '; LARGEST + 1]).is_err());
        assert!(parse(PLAIN.replace("CVE_RECORD", "CVE_LIST").as_bytes()).is_err());
    }
}
