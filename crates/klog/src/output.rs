//! The same as JSON, one object a line. Absent values are `null`, never left out.

use serde_json::{Value, json};

use crate::assemble::{Counts, Event, Gap};
use crate::blame::{Evidence, Finding, ModuleVerdict};
use crate::record::Provenance;
use crate::report::{Body, Frame, Report};
use crate::transport::Source;

/// The format's number.
pub const FORMAT: u32 = 1;

/// Where the items come from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The file, where it is one.
    pub file: Option<&'a str>,
    /// The kind of source.
    pub source: Source,
}

/// A report, with what it says about each livepatch.
pub fn report(report: &Report, findings: &[Finding], count: u64, origin: Origin<'_>) -> Value {
    let body = &report.body;
    let id = identity(report, origin);
    let verdicts: Vec<Value> = findings.iter().map(finding).collect();
    let mut value = json!({
        "format": FORMAT,
        "kind": "report",
        "id": id,
        "source": origin.source.as_str(),
        "provenance": provenance(report.provenance),
        "file": origin.file,
        "bytes": [report.bytes.0, report.bytes.1],
        "seq": report.sequence.map(|(first, last)| [first, last]),
        "boot_id": report.boot.map(boot),
        "time_us": report.time_us,
        "wall": report.wall_us.map(wall),
        "class": report.class.as_str(),
        "severity": report.severity.as_str(),
        "title": report.title,
        "alt": report.alt,
        "type": report.kind,
        "frame": report.frame,
        "detail": report.detail,
        "header": report.header,
        "fatal": report.fatal,
        "panicked": report.panicked,
        "first_in_boot": report.first_in_boot,
        "suppressed": report.suppressed,
        "truncated": report.truncated,
        "corrupted": corrupted(report),
        "dropped_records": report.dropped,
        "count": count,
        "caller": report.context.caller(),
        "fingerprint": report.fingerprint,
        "fingerprint_coarse": report.fingerprint_coarse,
        "verdicts": verdicts,
        "text": (!report.text.is_empty()).then_some(&report.text),
    });
    if let (Value::Object(all), Value::Object(more)) = (&mut value, said(body)) {
        all.extend(more);
    }
    value
}

/// Returns why a report is not to be trusted beyond its title.
pub fn corrupted(report: &Report) -> Option<&'static str> {
    let mixed = "another report stands between its lines";
    report
        .corrupted
        .or_else(|| report.interleaved.then_some(mixed))
}

fn said(body: &Body) -> Value {
    json!({
        "cpu": body.cpu,
        "pid": body.pid,
        "uid": body.uid,
        "comm": body.comm,
        "release": body.release,
        "arch": body.arch,
        "hardware": body.hardware,
        "taint": body.taint.as_ref().map(|text| json!({
            "text": text,
            "flags": text.chars().filter(char::is_ascii_uppercase).map(String::from).collect::<Vec<_>>(),
        })),
        "modules": (!body.modules.is_empty()).then(|| body.modules.iter().map(|module| json!({
            "name": module.name,
            "flags": module.flags,
            "state": module.state.as_str(),
        })).collect::<Vec<_>>()),
        "last_unloaded": body.last_unloaded.as_ref().map(|(name, flags)| json!({
            "name": name,
            "flags": flags,
        })),
        "ip": body.ip.as_ref().map(frame),
        "frames": body.frames.iter().map(frame).collect::<Vec<_>>(),
        "registers": body.registers().iter().map(|(name, value)| json!([name, value])).collect::<Vec<_>>(),
        "code": body.code,
    })
}

/// `BOOT_ID:SEQ` where both are known, else `FILE:OFFSET`.
pub fn identity(report: &Report, origin: Origin<'_>) -> String {
    match (report.boot, report.sequence) {
        (Some(id), Some((first, _))) => format!("{}:{first}", boot(id)),
        _ => format!("{}:{}", origin.file.unwrap_or("-"), report.bytes.0),
    }
}

fn frame(frame: &Frame) -> Value {
    json!({
        "func": frame.function,
        "addr": frame.address.map(|address| format!("{address:#x}")),
        "offset": frame.offset,
        "size": frame.size,
        "module": frame.module,
        "build_id": frame.build_id,
        "reliable": frame.reliable,
        "context": frame.stack.as_str(),
    })
}

fn finding(finding: &Finding) -> Value {
    let list = |all: &[Evidence]| -> Vec<Value> {
        all.iter()
            .map(|evidence| {
                json!({
                    "rule": evidence.rule,
                    "strength": evidence.strength.as_str(),
                    "found": evidence.found,
                    "seq": evidence.sequence,
                })
            })
            .collect()
    };
    json!({
        "module": finding.module,
        "level": finding.level,
        "ours": finding.ours,
        "verdict": finding.verdict.as_str(),
        "for": list(&finding.evidence),
        "against": list(&finding.against),
    })
}

/// A step in the life of a livepatch.
pub fn event(event: &Event) -> Value {
    json!({
        "format": FORMAT,
        "kind": "event",
        "seq": event.sequence,
        "time_us": event.time_us,
        "module": event.module,
        "object": event.object,
        "event": event.kind.as_str(),
        "direction": event.kind.direction(),
        "errno": event.errno,
        "text": event.text,
    })
}

/// Something missing.
pub fn gap(gap: &Gap, origin: Origin<'_>) -> Value {
    json!({
        "format": FORMAT,
        "kind": "gap",
        "reason": gap.reason.as_str(),
        "records": gap.records,
        "bytes": [gap.bytes.0, gap.bytes.1],
        "seq": gap.sequence,
        "file": origin.file,
    })
}

/// What is held of one livepatch.
pub fn verdict(verdict: &ModuleVerdict, reports: &[String]) -> Value {
    json!({
        "format": FORMAT,
        "kind": "verdict",
        "module": verdict.module,
        "level": verdict.level,
        "ours": verdict.ours,
        "state": verdict.state.as_str(),
        "enabled_us": verdict.enabled_us,
        "completed_us": verdict.completed_us,
        "verdict": verdict.verdict.as_str(),
        "recommend": verdict.recommend.as_str(),
        "revert_possible": verdict.revert_possible.as_str(),
        "why": verdict.why,
        "reports": reports,
    })
}

/// What was counted.
pub fn end(counts: Counts, bytes: u64, exit: u8) -> Value {
    json!({
        "format": FORMAT,
        "kind": "end",
        "records": counts.records,
        "bytes": bytes,
        "reports": counts.reports,
        "gaps": counts.gaps,
        "untrusted_headers": counts.untrusted_headers,
        "exit": exit,
    })
}

/// Returns the word for how far a record can be believed.
pub fn provenance(provenance: Provenance) -> &'static str {
    match provenance {
        Provenance::None => "none",
        Provenance::Line => "line",
        Provenance::Record => "record",
    }
}

fn boot(id: [u8; 16]) -> String {
    use std::fmt::Write as _;
    id.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all that is written");
        text
    })
}

/// RFC 3339, UTC, by the proleptic Gregorian calendar.
fn wall(micros: i64) -> String {
    let seconds = micros.div_euclid(1_000_000);
    let fraction = micros.rem_euclid(1_000_000);
    let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Eras of 400 years that start in March.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{fraction:06}Z",
        time / 3600,
        time / 60 % 60,
        time % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_reads_back() {
        for text in [
            "2026-11-23T16:44:00.123456Z",
            "1970-01-01T00:00:00.000000Z",
            "2024-02-29T23:59:59.000001Z",
            "2000-12-31T00:00:00.000000Z",
        ] {
            let micros = crate::transport::clock(text.as_bytes()).unwrap();
            assert_eq!(wall(micros), text);
        }
    }
}
