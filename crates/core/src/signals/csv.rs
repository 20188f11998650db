//! Tables of comma-separated cells.

use std::borrow::Cow;

use super::error::{SignalError, quote};

/// Most cells of one row.
const MOST_CELLS: usize = 64;

/// One row and the line it begins on, from 1.
pub(super) struct Row<'a> {
    pub(super) line: usize,
    pub(super) cells: Vec<Cow<'a, str>>,
}

/// Takes the bytes as text, without the mark some programs put before it.
pub(super) fn text(bytes: &[u8]) -> Result<&str, SignalError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
        SignalError::Text {
            row: good.split(|&byte| byte == b'\n').count(),
        }
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Splits quoted rows, which may span lines, as RFC 4180 has them.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Rows<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            rest: text,
            line: 1,
        }
    }

    /// Takes the next row that holds anything.
    pub(super) fn next_row(&mut self) -> Result<Option<Row<'a>>, SignalError> {
        loop {
            if self.rest.is_empty() {
                return Ok(None);
            }
            let line = self.line;
            let cells = self.cells(line)?;
            if !cells.iter().all(|cell| cell.is_empty()) {
                return Ok(Some(Row { line, cells }));
            }
        }
    }

    /// Takes the cells up to the end of the row. Each turn takes at least one byte or ends.
    fn cells(&mut self, line: usize) -> Result<Vec<Cow<'a, str>>, SignalError> {
        let mut cells = Vec::new();
        loop {
            if cells.len() == MOST_CELLS {
                return Err(SignalError::Row {
                    row: line,
                    found: format!("more than {MOST_CELLS} cells"),
                    want: "fewer".to_owned(),
                });
            }
            let cell = match self.rest.strip_prefix('"') {
                Some(inside) => self.quoted(inside, line)?,
                None => self.plain(),
            };
            cells.push(cell);
            if let Some(rest) = self.rest.strip_prefix(',') {
                self.rest = rest;
                continue;
            }
            let after = self.rest.strip_prefix('\r').unwrap_or(self.rest);
            match after.strip_prefix('\n') {
                Some(rest) => {
                    self.rest = rest;
                    self.line += 1;
                }
                None if after.is_empty() => self.rest = after,
                None => {
                    return Err(SignalError::Row {
                        row: self.line,
                        found: format!("{} after a closing quote", quote(after)),
                        want: "a comma or the end of the row".to_owned(),
                    });
                }
            }
            return Ok(cells);
        }
    }

    fn plain(&mut self) -> Cow<'a, str> {
        let end = self.rest.find([',', '\n']).unwrap_or(self.rest.len());
        let (cell, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        Cow::Borrowed(if rest.starts_with(',') {
            cell
        } else {
            cell.strip_suffix('\r').unwrap_or(cell)
        })
    }

    /// Takes a cell whose opening quote was taken; a doubled quote stands for one.
    fn quoted(&mut self, inside: &'a str, line: usize) -> Result<Cow<'a, str>, SignalError> {
        let mut whole = Cow::Borrowed("");
        let mut rest = inside;
        loop {
            let Some((part, after)) = rest.split_once('"') else {
                return Err(SignalError::Row {
                    row: line,
                    found: "a quote that is never closed".to_owned(),
                    want: "the rest of the row".to_owned(),
                });
            };
            self.line += part.bytes().filter(|&byte| byte == b'\n').count();
            whole += part;
            let Some(after_both) = after.strip_prefix('"') else {
                self.rest = after;
                return Ok(whole);
            };
            whole += "\"";
            rest = after_both;
        }
    }
}

/// Refuses a text whose last row does not end its line: it was cut within that row.
pub(super) fn ends_a_row(text: &str) -> Result<(), SignalError> {
    if text.ends_with('\n') {
        return Ok(());
    }
    Err(SignalError::Row {
        row: text.lines().count(),
        found: "the end of the file".to_owned(),
        want: "the end of the row".to_owned(),
    })
}

/// Finds a column by the name in the header.
pub(super) fn column(header: &Row<'_>, name: &str) -> Result<usize, SignalError> {
    let found = header.cells.iter().position(|cell| cell.trim() == name);
    found.ok_or_else(|| SignalError::Row {
        row: header.line,
        found: format!("no column {name}"),
        want: "a header that names it".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Result<Vec<(usize, Vec<String>)>, SignalError> {
        let mut rows = Rows::new(text);
        let mut all = Vec::new();
        while let Some(row) = rows.next_row()? {
            let cells = row.cells.into_iter().map(Cow::into_owned).collect();
            all.push((row.line, cells));
        }
        Ok(all)
    }

    #[test]
    fn quoted_cells_may_hold_anything() {
        let text = "a,b\r\n\"1,\n2\",\"say \"\"x\"\"\"\r\n\r\n,last";
        let expected = [
            (1, vec!["a", "b"]),
            (2, vec!["1,\n2", "say \"x\""]),
            (5, vec!["", "last"]),
        ];
        let expected: Vec<(usize, Vec<String>)> = expected
            .into_iter()
            .map(|(line, cells)| (line, cells.into_iter().map(str::to_owned).collect()))
            .collect();
        assert_eq!(rows(text).unwrap(), expected);
    }

    #[test]
    fn an_open_quote_is_an_error_that_names_its_row() {
        let error = rows("a\n\"b\nc").unwrap_err().to_string();
        assert_eq!(
            error,
            "row 2: a quote that is never closed, want the rest of the row"
        );
        let error = rows("a\n\"b\"c").unwrap_err().to_string();
        assert!(error.starts_with("row 2: \"c\" after a closing"), "{error}");
    }
}
