//! One verdict as a story: what each step found, and the command that checks it.

mod checks;

use std::fmt::Write as _;

use tuxtape_core::applicability::content::Content;
use tuxtape_core::applicability::{Evidence, Judgement, Step};
use tuxtape_core::cve::Cve;
use tuxtape_core::decision::Decision;
use tuxtape_core::profile::KernelProfile;
use tuxtape_kernel::files::KernelFiles;
use tuxtape_store::Feed;

use crate::remembered;
use crate::screen::{Screen, Style, wrap};

/// Columns of a step's name, with what stands around it.
const INDENT: usize = 12;

/// All that a story is told from.
pub(super) struct Story<'a> {
    pub judgement: &'a Judgement,
    /// `None` where it could never be read.
    pub cve: Option<&'a Cve>,
    pub profile: &'a KernelProfile,
    pub files: &'a KernelFiles,
    pub feed: &'a Feed,
    pub content: Option<&'a Content>,
    pub decision: Option<&'a Decision>,
}

impl Story<'_> {
    /// Writes it within the screen. Reads Makefiles and lists folders of the kernel to name places.
    pub(super) fn tell(&self, screen: &Screen) -> String {
        let Judgement { cve, verdict, .. } = self.judgement;
        let verdict = screen.paint(Style::Verdict(*verdict), &verdict.to_string());
        let mut text = format!("{cve}  {verdict}\n");
        let mut line = |line: String| {
            writeln!(text, "{}", line.trim_end()).expect("a String takes everything");
        };
        if let Some(cve) = self.cve {
            line(screen.paint(Style::Heading, &cve.title));
        }
        line(format!(
            "kernel {} on base {}, feed of {}",
            self.profile.id.release,
            self.profile.base_version,
            remembered::utc(self.feed.time)
        ));
        line(String::new());
        let mut evidence = self.judgement.evidence.iter().peekable();
        while let Some(Evidence { step, found }) = evidence.next() {
            line(step_line(step.as_str(), found, screen));
            // What checks a step stands below all that it found.
            if evidence.peek().is_some_and(|next| next.step == *step) {
                continue;
            }
            for check in self.checks(*step) {
                for note in &check.notes {
                    line(format!("{}{note}", " ".repeat(INDENT)));
                }
                if let Some(command) = &check.command {
                    let command = format!("{}$ {command}", " ".repeat(INDENT));
                    line(screen.paint(Style::Faint, &command));
                }
            }
        }
        if let Some(decision) = self.decision {
            line(step_line("decision", &remembered::said(decision), screen));
        }
        if !self.files.vmlinux.is_file() {
            line(String::new());
            line(format!(
                "hint: `tuxtape kernel add debian:{}` unpacks its source and objects\n\
                 for the commands that look into them",
                self.profile.id.release
            ));
        }
        text
    }

    fn checks(&self, step: Step) -> Vec<checks::Check> {
        let Some(cve) = self.cve else {
            return Vec::new();
        };
        match step {
            Step::Record => checks::record(cve, self.feed),
            Step::Horizon => Vec::new(),
            Step::Span => checks::span(cve, self.profile, self.feed),
            Step::Carried => checks::carried(self.content, self.files),
            Step::Built => checks::built(cve, self.profile, self.files, self.content),
            Step::Object => checks::object(self.judgement, self.files),
            Step::Function => checks::function(self.judgement, self.files, self.content),
            Step::Loaded => checks::loaded(self.judgement, self.files),
        }
    }
}

/// Puts a step's name before what it found, broken into lines.
fn step_line(step: &str, found: &str, screen: &Screen) -> String {
    let width = screen.columns.unwrap_or(100).max(40);
    let found = wrap(found, width, INDENT);
    let found = found.trim_start().trim_end();
    format!("  {step:9} {found}")
}
