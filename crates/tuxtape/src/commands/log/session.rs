//! One run of `log parse`: bytes in, reports and verdicts out.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::mem;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tuxtape_klog::assemble::{Counts, GapReason, Item, Limits};
use tuxtape_klog::blame::{Blamer, Recommend, RevertPossible, Verdict};
use tuxtape_klog::event::Kind;
use tuxtape_klog::fold::{Fold, Told};
use tuxtape_klog::output::{self as json, Origin};
use tuxtape_klog::parser::{self, Parser};
use tuxtape_klog::patches::{Baseline, Patches};
use tuxtape_klog::report::{Class, Report};
use tuxtape_klog::timeline::State;
use tuxtape_klog::transport::{Source, pstore};

use super::input::{Input, Piece};
use super::people::People;
use super::{FailOn, Parse};
use crate::context::Context;
use crate::output::{self, Hint, NO};
use crate::screen::Screen;

/// Quiet this long, a report is over.
const QUIET: Duration = Duration::from_millis(500);
/// A snapshot or a baseline is no longer than this.
const FILE_LIMIT: u64 = 64 << 20;
/// What pstore keeps is no longer than this.
const PSTORE_LIMIT: u64 = 16 << 20;

pub(super) fn run(arguments: &Parse, context: &Context) -> anyhow::Result<ExitCode> {
    let inputs = inputs(arguments)?;
    let patches = match &arguments.patches {
        Some(path) => Patches::read(&read(path, FILE_LIMIT)?)
            .with_context(|| format!("could not take {}", path.display()))?,
        None => Patches::default(),
    };
    let baseline = match &arguments.baseline {
        Some(path) => {
            let bytes = read(path, FILE_LIMIT)?;
            let text = String::from_utf8_lossy(&bytes);
            Baseline::read(&text).with_context(|| format!("could not take {}", path.display()))?
        }
        None => Baseline::default(),
    };
    let mut session = Session {
        release: patches.release.clone(),
        boot: patches.boot_id.as_deref().and_then(boot_id),
        blamer: Blamer::new(patches, baseline),
        fold: Fold::default(),
        people: (!context.json).then(|| People::new(Screen::detect(arguments.color))),
        arguments,
        known: HashMap::new(),
        foreseen: false,
        news: true,
        said: Vec::new(),
        now_us: None,
        counts: Counts::default(),
        bytes: 0,
        reached: false,
    };
    for input in inputs {
        session.read(input)?;
    }
    session.end()
}

fn inputs(arguments: &Parse) -> anyhow::Result<Vec<Input>> {
    let follow = arguments.follow;
    if follow && arguments.files.len() > 1 {
        bail!(
            anyhow::anyhow!("--follow reads one log, not {}", arguments.files.len())
                .context(Hint::new("run one command for each"))
        );
    }
    let input = |path: Option<PathBuf>| Input { path, follow };
    if arguments.files.is_empty() {
        return Ok(vec![input(None)]);
    }
    let one = |path: &PathBuf| input((path != Path::new("-")).then(|| path.clone()));
    Ok(arguments.files.iter().map(one).collect())
}

fn read(path: &Path, limit: u64) -> anyhow::Result<Vec<u8>> {
    let what = || format!("could not read {}", path.display());
    tuxtape_sys::regular::read_linked(path, limit)
        .with_context(what)?
        .with_context(|| format!("{} is longer than {limit} bytes", path.display()))
}

fn boot_id(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    hex::decode(digits).ok()?.try_into().ok()
}

/// What was last said of a livepatch; any change of it is said anew.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    module: String,
    verdict: Verdict,
    state: State,
    recommend: Recommend,
    revert: RevertPossible,
}

struct Session<'a> {
    arguments: &'a Parse,
    /// The release the snapshot was taken on.
    release: Option<String>,
    /// The boot it was taken in.
    boot: Option<[u8; 16]>,
    blamer: Blamer,
    fold: Fold,
    people: Option<People>,
    /// Names of reports by where they begin.
    known: HashMap<u64, String>,
    /// A verdict was told ahead of its report, which is still open.
    foreseen: bool,
    /// Something was taken in since verdicts were last looked at.
    news: bool,
    /// What was last said of each livepatch.
    said: Vec<Said>,
    now_us: Option<u64>,
    counts: Counts,
    bytes: u64,
    reached: bool,
}

impl Session<'_> {
    fn read(&mut self, input: Input) -> anyhow::Result<()> {
        let name = input.name();
        let limits = Limits {
            text: self.arguments.text,
            ..Limits::default()
        };
        let asked = if input.is_kmsg() {
            Some(Source::Kmsg)
        } else if input.is_folder() {
            Some(Source::Pstore)
        } else {
            self.arguments.source.source()
        };
        let mut parser = match asked {
            Some(source) => Parser::of(source, limits),
            None => Parser::detecting(limits),
        };
        let mut first = Vec::new();
        let mut items = Vec::new();
        // Parts of a crash's log come newest first and are put in order before anything is read.
        let mut whole: Option<Vec<Vec<u8>>> = (asked == Some(Source::Pstore)).then(Vec::new);
        if self.arguments.follow {
            parser::prepare();
        }
        let pieces = input.start();
        loop {
            let piece = match pieces.recv_timeout(QUIET) {
                Ok(piece) => piece,
                Err(RecvTimeoutError::Timeout) => {
                    parser.idle(&mut items);
                    self.tell(&mut items, &parser, name.as_deref(), &first)?;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => Piece::End,
            };
            match piece {
                Piece::Bytes(bytes) => {
                    if first.len() < 80 {
                        first.extend(bytes.iter().take(80));
                    }
                    if first.len() == bytes.len().min(80)
                        && asked.is_none()
                        && !self.arguments.follow
                    {
                        let detected = tuxtape_klog::transport::detect(&bytes);
                        if detected.is_some_and(|(source, _)| source == Source::Pstore) {
                            whole = Some(Vec::new());
                            parser = Parser::of(Source::Pstore, limits);
                        }
                    }
                    if let Some(whole) = &mut whole {
                        let length = whole.iter().map(Vec::len).sum::<usize>() + bytes.len();
                        if length as u64 > PSTORE_LIMIT {
                            bail!("more than {PSTORE_LIMIT} bytes for a log kept by pstore");
                        }
                        match whole.last_mut() {
                            Some(file) => file.extend_from_slice(&bytes),
                            None => whole.push(bytes),
                        }
                    } else {
                        parser.push(&bytes, &mut items);
                    }
                }
                Piece::NextFile => {
                    if let Some(whole) = &mut whole {
                        whole.push(Vec::new());
                    }
                }
                Piece::Left(told) => {
                    output::talk(&told);
                    parser.note_gap(GapReason::Unparsed, 0, &mut items);
                }
                Piece::Overrun => parser.note_gap(GapReason::Overwritten, 0, &mut items),
                Piece::Rotated(told) => {
                    output::talk(&told);
                    parser.idle(&mut items);
                    parser.note_gap(GapReason::Cut, 0, &mut items);
                }
                Piece::End => break,
                Piece::Failed(error) => return Err(error),
            }
            self.tell(&mut items, &parser, name.as_deref(), &first)?;
            if self.arguments.follow {
                for report in parser.foresee() {
                    self.foresee(&report, &parser, name.as_deref())?;
                }
            }
        }
        if let Some(whole) = whole {
            let files: Vec<&[u8]> = whole.iter().map(Vec::as_slice).collect();
            for crash in pstore::crashes(&files) {
                // What the crash before was cut off in does not go on.
                parser.idle(&mut items);
                parser.push(&crash, &mut items);
            }
        }
        parser.finish(&mut items);
        if parser.source().is_none() && parser.offset() > 0 {
            let shown = name.as_deref().unwrap_or("standard input");
            let line = first
                .split(|byte| *byte == b'\n')
                .next()
                .unwrap_or_default();
            bail!(
                anyhow::anyhow!(
                    "{shown} is no kernel log of a known kind; it begins with \"{}\"",
                    line.escape_ascii()
                )
                .context(Hint::new("say what it is with --source"))
            );
        }
        if let Some(source) = asked
            && parser.counts().records == 0
            && parser.offset() > 0
        {
            bail!(
                "no record in {}; of {} this is expected: {}",
                name.as_deref().unwrap_or("standard input"),
                source.as_str(),
                source.example()
            );
        }
        self.tell(&mut items, &parser, name.as_deref(), &first)?;
        let counts = parser.counts();
        self.counts.records += counts.records;
        self.counts.reports += counts.reports;
        self.counts.gaps += counts.gaps;
        self.counts.untrusted_headers += counts.untrusted_headers;
        self.bytes += parser.offset();
        Ok(())
    }

    /// Says what is new.
    fn tell(
        &mut self,
        items: &mut Vec<Item>,
        parser: &Parser,
        file: Option<&str>,
        _first: &[u8],
    ) -> anyhow::Result<()> {
        let origin = Origin {
            file,
            source: parser.source().unwrap_or(Source::Serial),
        };
        self.news |= !items.is_empty();
        for item in items.drain(..) {
            let findings = self.blamer.take(&item);
            match &item {
                Item::Report(report) => {
                    self.foreseen = false;
                    self.check(report)?;
                    self.now_us = report.time_us.or(self.now_us);
                    self.known
                        .insert(report.bytes.0, json::identity(report, origin));
                    if self.known.len() > 4096 {
                        self.known.clear();
                    }
                    self.reached |=
                        self.arguments.fail_on == FailOn::Report && report.class != Class::Reboot;
                    let Told::Now(count) = self.fold.add(&report.fingerprint, report.time_us)
                    else {
                        continue;
                    };
                    match &self.people {
                        Some(people) => {
                            output::text(&people.report(report, &findings, count, file))?;
                        }
                        None => print(&json::report(report, &findings, count, origin))?,
                    }
                }
                Item::Event(event) => {
                    self.now_us = event.time_us.or(self.now_us);
                    if self.arguments.events {
                        match &self.people {
                            Some(people) => output::text(&people.event(event))?,
                            None => print(&json::event(event))?,
                        }
                    } else if event.kind == Kind::Forced {
                        output::talk(&event.text);
                    }
                }
                Item::Gap(gap) => match &self.people {
                    Some(people) => output::text(&people.gap(gap))?,
                    None => print(&json::gap(gap, origin))?,
                },
                Item::Incident(_) => {}
            }
        }
        // Until the report is closed, what was told ahead stands. Most records change nothing, and to
        // judge 64 livepatches after each takes longer than to read it.
        if self.arguments.follow && !self.foreseen && mem::take(&mut self.news) {
            self.verdicts(false)?;
        }
        Ok(())
    }

    /// Says at once whom a report that is over by its own words makes guilty: its last line may be
    /// the last that this machine writes.
    fn foresee(
        &mut self,
        report: &Report,
        parser: &Parser,
        file: Option<&str>,
    ) -> anyhow::Result<()> {
        let Some(ahead) = self.blamer.foresee(report) else {
            return Ok(());
        };
        self.check(report)?;
        let origin = Origin {
            file,
            source: parser.source().unwrap_or(Source::Serial),
        };
        let name = json::identity(report, origin);
        self.known.insert(report.bytes.0, name);
        self.now_us = report.time_us.or(self.now_us);
        let now = mem::replace(&mut self.blamer, ahead);
        let said = self.verdicts(false);
        self.blamer = now;
        self.foreseen = true;
        said
    }

    /// A snapshot of another boot or kernel judges nothing.
    fn check(&self, report: &Report) -> anyhow::Result<()> {
        if let (Some(ours), Some(theirs)) = (self.boot, report.boot)
            && ours != theirs
        {
            bail!(
                "--patches is of boot {}, the log of boot {}",
                hex::encode(ours),
                hex::encode(theirs)
            );
        }
        if let (Some(ours), Some(theirs)) = (&self.release, &report.body.release)
            && ours != theirs
        {
            bail!("--patches is of kernel {ours}, the log of {theirs}");
        }
        Ok(())
    }

    /// Says what is held of each livepatch: at the end of all, before of those that changed.
    fn verdicts(&mut self, all: bool) -> anyhow::Result<()> {
        for verdict in self.blamer.verdicts(self.now_us) {
            let told = self
                .said
                .iter()
                .position(|said| said.module == verdict.module);
            let new = Said {
                module: verdict.module.clone(),
                verdict: verdict.verdict,
                state: verdict.state,
                recommend: verdict.recommend,
                revert: verdict.revert_possible,
            };
            let changed = match told {
                Some(place) => self.said.get(place).is_some_and(|old| *old != new),
                None => true,
            };
            match told.and_then(|place| self.said.get_mut(place)) {
                Some(old) => *old = new,
                None => self.said.push(new),
            }
            let limit = match self.arguments.fail_on {
                FailOn::Guilty | FailOn::Report => Verdict::Guilty,
                FailOn::Suspect => Verdict::Suspect,
            };
            self.reached |=
                verdict.verdict >= limit && (verdict.ours || self.arguments.patches.is_none());
            if !all && !changed {
                continue;
            }
            let reports: Vec<String> = verdict
                .reports
                .iter()
                .filter_map(|offset| self.known.get(offset).cloned())
                .collect();
            match &self.people {
                Some(people) => output::text(&people.verdict(&verdict))?,
                None => print(&json::verdict(&verdict, &reports))?,
            }
        }
        Ok(())
    }

    fn end(mut self) -> anyhow::Result<ExitCode> {
        self.verdicts(!self.arguments.follow)?;
        let exit = if self.reached { NO } else { 0 };
        match &self.people {
            Some(people) => {
                output::text(&people.end(self.counts, self.bytes, &self.fold.untold()))?;
            }
            None => print(&json::end(self.counts, self.bytes, exit))?,
        }
        Ok(ExitCode::from(exit))
    }
}

fn print(value: &Value) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()?;
    Ok(())
}

/// Reads a text for `log decode`.
pub(super) fn text_of(path: Option<&Path>) -> anyhow::Result<String> {
    let bytes = match path {
        Some(path) if path != Path::new("-") => {
            fs::read(path).with_context(|| format!("could not read {}", path.display()))?
        }
        _ => {
            let mut bytes = Vec::new();
            io::Read::read_to_end(
                &mut io::Read::take(io::stdin().lock(), FILE_LIMIT),
                &mut bytes,
            )
            .context("could not read standard input")?;
            bytes
        }
    };
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
