//! Lines on the standard output.

use std::io::{self, Write};

use crate::channel::LineForm;
use crate::letter::Letter;
use crate::webhook;

/// Writes `letter` to `out` as one line and flushes it.
pub(crate) fn write(out: &mut dyn Write, form: LineForm, letter: &Letter) -> io::Result<()> {
    match form {
        LineForm::Json => {
            out.write_all(&webhook::body(letter))?;
            out.write_all(b"\n")?;
        }
        LineForm::Text => writeln!(out, "{} {} {}", letter.at, letter.kind, letter.subject)?,
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::letter::sample;

    #[test]
    fn a_notice_is_one_line() {
        let letter = Letter::of(&sample(1000));
        let written = |form| {
            let mut out = Vec::new();
            write(&mut out, form, &letter).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            written(LineForm::Text),
            "2026-11-24T18:16:40Z urgent act: CVE-2024-1000 in 6.1.0-47-cloud-amd64: net: foo: fix\n"
        );
        let json = written(LineForm::Json);
        assert_eq!(json.lines().count(), 1);
        assert!(
            json.starts_with("{\"format\":1,\"key\":\"urgent/CVE-2024-1000/"),
            "{json}"
        );
    }
}
