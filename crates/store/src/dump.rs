//! The records as text, for comparing stores.

use std::fmt::Write as _;

use tuxtape_core::span::Landing;

use crate::{Store, StoreError, Stored, rows};

impl Store {
    /// Writes everything the store holds of the feed's records as text, one fact a line, by id: the
    /// same however the store came to it and on whichever engine it lies. Left out is what differs by
    /// nature: history, dates, and which scan brought a record.
    pub fn dump(&self) -> Result<String, StoreError> {
        let editions = rows::editions(self.engine())?;
        let mut dump = String::new();
        for stored in self.records()? {
            record(&mut dump, &stored);
            if let Some(edition) = editions.get(&stored.cve.id) {
                line(&mut dump, "edition", &format!("{edition:?}"));
            }
        }
        for (id, why) in self.skipped()? {
            line(&mut dump, "skipped", &format!("{id} {why:?}"));
        }
        Ok(dump)
    }
}

fn line(dump: &mut String, name: &str, value: &str) {
    writeln!(dump, "{name} {value}").expect("a String takes everything");
}

fn record(dump: &mut String, stored: &Stored) {
    let cve = &stored.cve;
    line(dump, "record", &format!("{} {}", cve.id, cve.state));
    line(dump, "title", &format!("{:?}", cve.title));
    line(dump, "description", &format!("{:?}", cve.description));
    for file in &cve.files {
        line(dump, "file", file);
    }
    for span in &cve.spans {
        let text = |landing: Option<Landing>| {
            landing.map_or_else(
                || "0 0".to_owned(),
                |landing| format!("{} {}", landing.version, landing.commit),
            )
        };
        let (introduced, fixed) = (text(span.introduced), text(span.fixed));
        line(dump, "span", &format!("{introduced} {fixed}"));
    }
    if let Some(cvss) = &cve.cvss {
        line(dump, "cvss", &format!("{} {}", cvss.score, cvss.vector));
        for reason in &cvss.reasons {
            line(dump, "reason", reason);
        }
    }
    for page in &cve.references {
        line(dump, "reference", page);
    }
    for commit in &cve.mainline_fixes {
        line(dump, "fix", &commit.to_string());
    }
    for doubt in &cve.doubts {
        line(dump, "doubt", &format!("{doubt:?}"));
    }
    for version in &cve.disputes {
        line(dump, "dispute", &version.to_string());
    }
    if let Some(rejection) = &cve.rejection {
        line(dump, "rejection", &format!("{rejection:?}"));
    }
    if let Some(why) = &stored.stale {
        line(dump, "stale", &format!("{why:?}"));
    }
}
