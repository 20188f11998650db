//! Why a file of outside evidence was not read.

/// Why a file of outside evidence was not read; nothing of it is used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// There is nothing in it.
    #[error("empty")]
    Empty,
    /// Well-formed, but without a single row; a source that lists nothing is a broken source.
    #[error("no rows")]
    NoRows,
    /// Too many bytes.
    #[error("more than the limit of {limit} bytes")]
    TooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    /// Too many rows.
    #[error("more than the limit of {limit} rows")]
    TooMany {
        /// Rows allowed.
        limit: usize,
    },
    /// Nothing of this form is known.
    #[error(
        "no known form (want KEV as JSON or CSV, EPSS as CSV, CVE records, a page of NVD 2.0 or an exploit list)"
    )]
    UnknownForm,
    /// A part of kernelCTF's tree, which says nothing of the rest.
    #[error("one entry of kernelCTF (want the folder that holds them all)")]
    OneEntry,
    /// Bytes that are no text.
    #[error("row {row}: not UTF-8")]
    Text {
        /// Line, from 1.
        row: usize,
    },
    /// A row of a table with another shape than its header.
    #[error("row {row}: {found}, want {want}")]
    Row {
        /// Line, from 1.
        row: usize,
        /// What is there.
        found: String,
        /// What was expected.
        want: String,
    },
    /// A cell that does not hold what its column should.
    #[error("row {row}, column {column}: {found}, want {want}")]
    Cell {
        /// Line, from 1.
        row: usize,
        /// Name of the column.
        column: &'static str,
        /// What is there.
        found: String,
        /// What was expected.
        want: &'static str,
    },
    /// Not JSON, or JSON of another structure; the text names line and column.
    #[error("{0}")]
    Json(String),
    /// A field that does not hold what it should.
    #[error("{path}: {found}, want {want}")]
    Field {
        /// Where in the document: `vulnerabilities[3].cveID`.
        path: String,
        /// What is there.
        found: String,
        /// What was expected.
        want: &'static str,
    },
    /// The document counts its own rows and has others: part of it is missing.
    #[error("count: {said}, but there are {found} rows")]
    Count {
        /// What the document says.
        said: String,
        /// Rows in it.
        found: usize,
    },
    /// One CVE has two rows where a source has one for each.
    #[error("{cve} is there twice")]
    Twice {
        /// The CVE.
        cve: super::CveId,
    },
}

/// Quotes a little of what was found, for a message.
pub(super) fn quote(text: &str) -> String {
    let mut head: String = text.chars().take(40).collect();
    if head.len() < text.len() {
        head.push('…');
    }
    format!("{head:?}")
}
