//! How text looks where people read it: width, colours, bars.

use std::env;
use std::io::{self, IsTerminal as _};

use clap::ValueEnum;
use tuxtape_core::applicability::Applicability;
use tuxtape_core::priority::Band;
use tuxtape_sys::terminal;

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What the reader's screen can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Columns to keep within; `None` for lines as long as they are.
    pub columns: Option<usize>,
    /// Whether colours are wanted.
    pub colour: bool,
    /// Whether more than ASCII can be shown.
    pub unicode: bool,
}

/// A way to stand out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A heading.
    Heading,
    /// In the colour of a band.
    Band(Band),
    /// In the colour of a verdict.
    Verdict(Applicability),
    /// Of less weight.
    Faint,
}

impl Screen {
    /// Asks the environment and the terminal.
    pub fn detect(colour: Colour) -> Self {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        let is_terminal = io::stdout().is_terminal();
        let columns = set("COLUMNS").and_then(|text| text.parse().ok());
        Self {
            columns: columns.or_else(terminal::columns),
            colour: match colour {
                Colour::Always => true,
                Colour::Never => false,
                Colour::Auto => {
                    let dumb = env::var("TERM").is_ok_and(|term| term == "dumb");
                    is_terminal && set("NO_COLOR").is_none() && !dumb
                }
            },
            unicode: locale.is_some_and(|locale| {
                let locale = locale.to_ascii_lowercase();
                locale.contains("utf-8") || locale.contains("utf8")
            }),
        }
    }

    /// Colours `text`.
    pub fn paint(&self, style: Style, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match style {
            Style::Heading => "1",
            Style::Band(Band::Act) => "1;31",
            Style::Verdict(Applicability::Affected) => "31",
            Style::Band(Band::Attend) | Style::Verdict(Applicability::Unknown(_)) => "33",
            Style::Verdict(Applicability::NotAffected(_)) => "32",
            Style::Band(Band::Track) | Style::Faint => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// Draws `part` of `whole` as a bar of `width` columns.
    pub fn bar(&self, part: u32, whole: u32, width: usize) -> String {
        const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
        let whole = u64::from(whole.max(1));
        let width_in_eighths = 8 * u64::try_from(width).unwrap_or(0);
        let part = u64::from(part).min(whole) * width_in_eighths / whole;
        let full = usize::try_from(part / 8).unwrap_or(width);
        let bar = if self.unicode {
            let rest = usize::try_from(part % 8).unwrap_or(0);
            let rest = EIGHTHS.get(rest).copied().unwrap_or_default();
            format!("{}{rest}", "█".repeat(full))
        } else {
            "#".repeat(full)
        };
        pad(&bar, width)
    }

    /// Cuts `text` to `width` columns, with a mark where something is missing.
    pub fn cut(&self, text: &str, width: usize) -> String {
        if text.chars().count() <= width {
            return text.to_owned();
        }
        let mark = if self.unicode { "…" } else { "..." };
        let kept = width.saturating_sub(mark.chars().count());
        let cut: String = text.chars().take(kept).collect();
        let cut = format!("{}{mark}", cut.trim_end());
        // Narrower than the mark itself.
        cut.chars().take(width).collect()
    }
}

/// Fills `text` with blanks up to `width` columns.
pub fn pad(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(text.chars().count());
    format!("{text}{}", " ".repeat(missing))
}

/// Breaks `text` into lines of at most `width` columns, each behind `indent` blanks. Lines that begin
/// with a blank are tables or code and stay as they are, as do words longer than a line; items of a
/// list start lines of their own.
pub fn wrap(text: &str, width: usize, indent: usize) -> String {
    let width = width.saturating_sub(indent).max(20);
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for source in text.lines() {
        let blank = source.trim().is_empty();
        if (blank || stands_alone(source)) && !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        if blank {
            if lines.last().is_some_and(|last| !last.is_empty()) {
                lines.push(String::new());
            }
            continue;
        }
        if source.starts_with([' ', '\t']) {
            lines.push(source.trim_end().replace('\t', "    "));
            continue;
        }
        for word in source.split_whitespace() {
            let used = line.chars().count();
            if used > 0 && used + 1 + word.chars().count() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.push(line);
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    let blanks = " ".repeat(indent);
    let mut text = String::new();
    for line in lines {
        let line = format!("{blanks}{line}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Tells whether a line starts something of its own: a table, code, or an item of a list.
fn stands_alone(line: &str) -> bool {
    let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
    line.starts_with([' ', '\t'])
        || line.starts_with("- ")
        || line.starts_with("* ")
        || (number.len() < line.len() && number.starts_with([')', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Screen = Screen {
        columns: None,
        colour: false,
        unicode: false,
    };
    const RICH: Screen = Screen {
        columns: None,
        colour: true,
        unicode: true,
    };

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        for (screen, part, bar) in [
            (RICH, 0, "    "),
            (RICH, 100, "████"),
            (RICH, 999, "████"),
            (RICH, 50, "██  "),
            (RICH, 60, "██▍ "),
            (PLAIN, 60, "##  "),
        ] {
            assert_eq!(screen.bar(part, 100, 4), bar);
        }
        assert_eq!(RICH.bar(5, 0, 2), "██");
    }

    #[test]
    fn colours_are_only_where_wanted() {
        let style = Style::Band(Band::Act);
        assert_eq!(PLAIN.paint(style, "act"), "act");
        assert_eq!(RICH.paint(style, "act"), "\u{1b}[1;31mact\u{1b}[0m");
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(RICH.cut("net: fix it", 11), "net: fix it");
        assert_eq!(RICH.cut("net: fix it", 10), "net: fix…");
        assert_eq!(PLAIN.cut("net: fix it", 10), "net: fi...");
        assert_eq!(PLAIN.cut("net: fix it", 2), "..");
    }

    #[test]
    fn text_is_wrapped_and_tables_are_not() {
        let text = "one two three four five six\nseven\n\n\n  a  table of more than twenty columns\nend\n\n";
        assert_eq!(
            wrap(text, 24, 2),
            "  one two three four\n  five six seven\n\n    a  table of more than twenty columns\n  end\n"
        );
        assert_eq!(
            wrap("so:\n- one\n- two\n1. three", 24, 0),
            "so:\n- one\n- two\n1. three\n"
        );
        assert_eq!(wrap("", 24, 2), "");
    }
}
