//! Reader of FIRST's exploit prediction scores, one table a day.

use std::collections::BTreeMap;

use super::error::{SignalError, quote};
use super::{Batch, Epss, LARGEST, PartsPerMillion, Signal, Source, csv, date, decimal, finish};
use crate::cve::CveId;
use crate::instant::UtcSeconds;

/// Most rows; a day has about 300,000.
const MOST_ROWS: usize = 2_000_000;
const SHARE: &str = "a share from 0 to 1 such as 0.00043";

/// Reads a day's table: `#model_version:…,score_date:…`, then the header `cve,epss,percentile`, then
/// rows.
///
/// Shares finer than a millionth are rounded. The last row must end its line, so that a row cut in
/// the middle of a number is seen; a table cut exactly after a row is not.
pub fn parse(bytes: &[u8]) -> Result<Batch, SignalError> {
    if bytes.len() > LARGEST {
        return Err(SignalError::TooLarge { limit: LARGEST });
    }
    let text = csv::text(bytes)?;
    if text.trim().is_empty() {
        return Err(SignalError::Empty);
    }
    let mut lines = text.lines().enumerate();
    let first = lines.next().map_or("", |(_, line)| line);
    let dated = score_date(first)?;
    let columns = Columns::find(lines.next().map_or("", |(_, line)| line))?;
    // A row has at least some 20 bytes, so this is bounded by the file's size.
    let mut rows = Vec::with_capacity((text.len() / 32).min(MOST_ROWS));
    for (index, line) in lines {
        if rows.len() == MOST_ROWS {
            return Err(SignalError::TooMany { limit: MOST_ROWS });
        }
        rows.push(columns.read(index + 1, line)?);
    }
    csv::ends_a_row(text)?;
    let named = rows.iter().map(|(cve, _)| *cve).collect();
    finish(Batch {
        source: Source::Epss,
        dated: Some(dated),
        complete: true,
        rows,
        named,
        updated: BTreeMap::new(),
    })
}

fn score_date(line: &str) -> Result<UtcSeconds, SignalError> {
    let cells = line.strip_prefix('#').map(|line| line.split(','));
    let mut cells = cells.into_iter().flatten().map(str::trim);
    let found = cells.find_map(|cell| cell.strip_prefix("score_date:"));
    let found = found.ok_or_else(|| SignalError::Row {
        row: 1,
        found: quote(line),
        want: "#model_version:…,score_date:…".to_owned(),
    })?;
    date::parse(found).ok_or_else(|| SignalError::Cell {
        row: 1,
        column: "score_date",
        found: quote(found),
        want: "a date such as 2026-11-24",
    })
}

/// Where each column stands.
struct Columns {
    count: usize,
    cve: usize,
    epss: usize,
    percentile: usize,
}

impl Columns {
    fn find(header: &str) -> Result<Self, SignalError> {
        let names = || header.split(',').map(str::trim);
        let column = |name: &str| {
            names()
                .position(|column| column == name)
                .ok_or_else(|| SignalError::Row {
                    row: 2,
                    found: quote(header),
                    want: "the header cve,epss,percentile".to_owned(),
                })
        };
        Ok(Self {
            count: names().count(),
            cve: column("cve")?,
            epss: column("epss")?,
            percentile: column("percentile")?,
        })
    }

    fn read(&self, row: usize, line: &str) -> Result<(CveId, Signal), SignalError> {
        let [mut cve, mut epss, mut percentile] = ["", "", ""];
        let mut count = 0;
        for cell in line.split(',') {
            if count == self.cve {
                cve = cell;
            } else if count == self.epss {
                epss = cell;
            } else if count == self.percentile {
                percentile = cell;
            }
            count += 1;
        }
        if count != self.count {
            return Err(SignalError::Row {
                row,
                found: format!("{count} cells"),
                want: format!("{} as in the header", self.count),
            });
        }
        let wrong = |column, found, want| SignalError::Cell {
            row,
            column,
            found: quote(found),
            want,
        };
        let share = |column, text| {
            PartsPerMillion::from_decimal(text).ok_or_else(|| wrong(column, text, SHARE))
        };
        let id = cve
            .parse()
            .map_err(|_| wrong("cve", cve, "a CVE id such as CVE-2024-14027"))?;
        let signal = Signal::Epss(Epss {
            probability: share("epss", epss)?,
            percentile: share("percentile", percentile)?,
        });
        Ok((id, signal))
    }
}

impl PartsPerMillion {
    /// Reads a share of one such as `0.00043` or `9.3e-05`, rounding what is finer than a millionth;
    /// `None` for anything else, and above one.
    pub fn from_decimal(text: &str) -> Option<Self> {
        Self::new(decimal::units(text, 6, 1_000_000)?)
    }
}
