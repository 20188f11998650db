//! Triage: a history to which rows are only ever added.

use tuxtape_core::cve::CveId;
use tuxtape_core::decision::{Choice, Decision};
use tuxtape_core::identity::KernelRelease;

use crate::engine::{Transaction, plain};
use crate::rows::{damaged, id, key};
use crate::{Store, StoreError};

impl Store {
    /// Adds one decision to the history; which one holds is for
    /// [`standing`](tuxtape_core::decision::standing) to say.
    pub fn decide(&self, decision: &Decision) -> Result<(), StoreError> {
        let transaction = Transaction::begin(self.engine())?;
        transaction.execute(
            "INSERT INTO decision (cve, kernel, choice, who, why, at, until)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            &[
                key(decision.cve).into(),
                decision.kernel.as_ref().map(KernelRelease::as_str).into(),
                decision.choice.as_str().into(),
                plain(&decision.who).into_owned().into(),
                plain(&decision.why).into_owned().into(),
                decision.at.into(),
                decision.until.into(),
            ],
        )?;
        transaction.commit()
    }

    /// Returns every decision ever made, in the order in which they were made.
    pub fn decisions(&self) -> Result<Vec<Decision>, StoreError> {
        self.decisions_between(i64::MIN, i64::MAX)
    }

    /// Returns the decisions about one CVE, in the order in which they were made.
    pub fn decisions_of(&self, cve: CveId) -> Result<Vec<Decision>, StoreError> {
        self.decisions_between(key(cve), key(cve))
    }

    fn decisions_between(&self, from: i64, to: i64) -> Result<Vec<Decision>, StoreError> {
        let mut decisions = Vec::new();
        self.engine().query(
            "SELECT cve, kernel, choice, who, why, at, until FROM decision
             WHERE cve BETWEEN ?1 AND ?2 ORDER BY sequence",
            &[from.into(), to.into()],
            &mut |row| {
                let key = row.integer(0)?;
                let kernel = row.some_text(1)?.map(str::parse).transpose();
                decisions.push(Decision {
                    cve: id(key)?,
                    kernel: kernel.map_err(|_| damaged(key, "no kernel release"))?,
                    choice: row.word(2, &Choice::ALL, Choice::as_str)?,
                    who: row.text(3)?.to_owned(),
                    why: row.text(4)?.to_owned(),
                    at: row.instant(5)?,
                    until: row.some_instant(6)?,
                });
                Ok(())
            },
        )?;
        Ok(decisions)
    }
}
