//! Reader of CISA's catalogue of known exploited vulnerabilities, as JSON or as its CSV twin.
//!
//! Rows are joined by CVE id alone: the kernel's hide under several vendors and products.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::error::{SignalError, quote};
use super::json::{self, Leaf, List};
use super::{Batch, Kev, LARGEST, Signal, Source, csv, date, finish};
use crate::cve::CveId;
use crate::instant::UtcSeconds;

/// Most rows; the catalogue has under 2,000.
const MOST_ROWS: usize = 100_000;
const ID: &str = "a CVE id such as CVE-2024-14027";
const DATE: &str = "a date such as 2024-08-26";

// Unknown keys are ignored: the format is others', and grows.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Catalogue<'a> {
    #[serde(borrow)]
    date_released: Leaf<'a>,
    #[serde(borrow, default)]
    count: Leaf<'a>,
    #[serde(borrow)]
    vulnerabilities: List<Row<'a>, MOST_ROWS>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    #[serde(borrow, default, rename = "cveID")]
    id: Leaf<'a>,
    #[serde(borrow, default)]
    vendor_project: Leaf<'a>,
    #[serde(borrow, default)]
    product: Leaf<'a>,
    #[serde(borrow, default)]
    date_added: Leaf<'a>,
    #[serde(borrow, default)]
    known_ransomware_campaign_use: Leaf<'a>,
}

/// Reads the whole catalogue, JSON or CSV.
///
/// The JSON is dated by its `dateReleased`. The CSV says no date of its own: its newest `dateAdded` is
/// often days before its release, and would make it older than the JSON of that release. Its last row
/// must end its line, so that a row cut short is seen; a table cut exactly after a row is not.
pub fn parse(bytes: &[u8]) -> Result<Batch, SignalError> {
    if bytes.len() > LARGEST {
        return Err(SignalError::TooLarge { limit: LARGEST });
    }
    let start = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match start.trim_ascii_start().first() {
        None => Err(SignalError::Empty),
        Some(b'{') => catalogue(bytes),
        Some(_) => table(bytes),
    }
}

fn catalogue(bytes: &[u8]) -> Result<Batch, SignalError> {
    let catalogue: Catalogue<'_> = json::document(bytes)?;
    let released = catalogue.date_released.date(|| "dateReleased".to_owned())?;
    let mut rows = Vec::with_capacity(catalogue.vulnerabilities.0.len());
    for (index, row) in catalogue.vulnerabilities.0.iter().enumerate() {
        rows.push(read(index, row)?);
    }
    let said = match &catalogue.count {
        Leaf::Absent => None,
        Leaf::Text(text) => Some(quote(text)),
        Leaf::Number(number) => Some(number.clone()),
        Leaf::Other(kind) => Some((*kind).to_owned()),
    };
    match said {
        Some(said) if said != rows.len().to_string() => Err(SignalError::Count {
            said,
            found: rows.len(),
        }),
        Some(_) | None => finish_catalogue(Some(released), rows),
    }
}

fn read(index: usize, row: &Row<'_>) -> Result<(CveId, Signal), SignalError> {
    let path = |key: &'static str| move || format!("vulnerabilities[{index}].{key}");
    let vendor = row
        .vendor_project
        .optional(path("vendorProject"), "a text")?;
    let product = row.product.optional(path("product"), "a text")?;
    let ransomware = row
        .known_ransomware_campaign_use
        .optional(path("knownRansomwareCampaignUse"), "a text")?;
    Ok((
        row.id.cve(path("cveID"))?,
        Signal::Kev(Kev {
            added: row.date_added.date(path("dateAdded"))?,
            product: named(vendor, product),
            ransomware: is_known(ransomware),
        }),
    ))
}

fn table(bytes: &[u8]) -> Result<Batch, SignalError> {
    let text = csv::text(bytes)?;
    let mut table = csv::Rows::new(text);
    let header = table.next_row()?.ok_or(SignalError::Empty)?;
    let id = csv::column(&header, "cveID")?;
    let added = csv::column(&header, "dateAdded")?;
    let vendor = csv::column(&header, "vendorProject")?;
    let product = csv::column(&header, "product")?;
    let ransomware = csv::column(&header, "knownRansomwareCampaignUse")?;
    let mut rows = Vec::new();
    while let Some(row) = table.next_row()? {
        if row.cells.len() != header.cells.len() {
            return Err(SignalError::Row {
                row: row.line,
                found: format!("{} cells", row.cells.len()),
                want: format!("{} as in the header", header.cells.len()),
            });
        }
        if rows.len() == MOST_ROWS {
            return Err(SignalError::TooMany { limit: MOST_ROWS });
        }
        let text = |column: usize| row.cells.get(column).map_or("", |cell| cell.trim());
        let wrong = |column, found, want| SignalError::Cell {
            row: row.line,
            column,
            found: quote(found),
            want,
        };
        let cve = text(id).parse().map_err(|_| wrong("cveID", text(id), ID))?;
        let day = date::parse(text(added)).ok_or_else(|| wrong("dateAdded", text(added), DATE))?;
        rows.push((
            cve,
            Signal::Kev(Kev {
                added: day,
                product: named(Some(text(vendor)), Some(text(product))),
                ransomware: is_known(Some(text(ransomware))),
            }),
        ));
    }
    csv::ends_a_row(text)?;
    finish_catalogue(None, rows)
}

fn finish_catalogue(
    dated: Option<UtcSeconds>,
    rows: Vec<(CveId, Signal)>,
) -> Result<Batch, SignalError> {
    let named = rows.iter().map(|(cve, _)| *cve).collect();
    finish(Batch {
        source: Source::Kev,
        dated,
        complete: true,
        rows,
        named,
        updated: BTreeMap::new(),
    })
}

fn named(vendor: Option<&str>, product: Option<&str>) -> String {
    let both = format!("{} {}", vendor.unwrap_or(""), product.unwrap_or(""));
    json::words(&both)
}

/// The catalogue says `Known` or `Unknown`.
fn is_known(ransomware: Option<&str>) -> bool {
    ransomware.is_some_and(|text| text.trim().eq_ignore_ascii_case("known"))
}
