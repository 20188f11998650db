//! Real reports, rewritten so that it is known who is to blame.
//!
//! Each report of the public set that a stock kernel prints and that came through whole is turned
//! into one case of each kind below, by moving the guilty function into a livepatch, out of it, or
//! beside it. The kinds say what must come out; the shares are printed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tuxtape_klog::assemble::{Item, Limits};
use tuxtape_klog::blame::{Blamer, Finding, Recommend, Verdict};
use tuxtape_klog::parser::{Parser, parse_any};
use tuxtape_klog::patches::{Baseline, Function, Patch, Patches};
use tuxtape_klog::report::{Report, Severity};

const OURS: &str = "tt_2f4c1d0a_7";
const OLDER: &str = "tt_1b2c3d4e_6";
const THEIRS: &str = "nvidia_uvm";

/// A report of the set as printk records, to be rewritten.
#[derive(Clone)]
struct Base {
    id: String,
    title: String,
    /// Time in microseconds, caller, text.
    lines: Vec<(u64, Option<String>, String)>,
    /// First and last line of the report.
    span: (usize, usize),
    guilty: String,
    object: String,
    callers: Vec<String>,
}

fn reports(items: &[Item]) -> Vec<&Report> {
    let mut reports: Vec<&Report> = items
        .iter()
        .filter_map(|item| match item {
            Item::Report(report) => Some(&**report),
            Item::Event(_) | Item::Incident(_) | Item::Gap(_) => None,
        })
        .collect();
    reports.sort_by_key(|report| report.bytes.0);
    reports
}

/// printk's own lines of a console log.
fn printk(log: &str) -> Vec<(u64, Option<String>, String)> {
    let mut lines = Vec::new();
    let mut bare = Vec::new();
    for line in log.lines() {
        bare.push((0, None, line.to_owned()));
        let Some(rest) = line.strip_prefix('[') else {
            continue;
        };
        let Some((time, rest)) = rest.split_once(']') else {
            continue;
        };
        let Some((seconds, micros)) = time.trim().split_once('.') else {
            continue;
        };
        let (Ok(seconds), Ok(micros)) = (seconds.parse::<u64>(), micros.parse::<u64>()) else {
            continue;
        };
        let (caller, rest) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((caller, rest)) if caller.trim().starts_with(['T', 'C']) => {
                (Some(caller.trim().to_owned()), rest)
            }
            _ => (None, rest),
        };
        let text = rest.strip_prefix(' ').unwrap_or(rest).to_owned();
        lines.push((seconds * 1_000_000 + micros, caller, text));
    }
    if lines.is_empty() { bare } else { lines }
}

const START_US: u64 = 1_000_000_000;

fn kmsg(lines: &[(u64, Option<String>, String)]) -> String {
    let mut log = String::new();
    for (index, (time, caller, text)) in lines.iter().enumerate() {
        let caller = caller
            .as_ref()
            .map(|caller| format!(",caller={caller}"))
            .unwrap_or_default();
        write!(log, "4,{},{time},-{caller};", 5000 + index).unwrap();
        for byte in text.bytes() {
            match byte {
                0x20..=0x7e if byte != b'\\' => log.push(char::from(byte)),
                _ => write!(log, "\\x{byte:02x}").unwrap(),
            }
        }
        log.push('\n');
    }
    log
}

fn bases() -> Option<(Vec<Base>, u32)> {
    let cases = crate::set::cases()?;
    let mut bases = Vec::new();
    let mut whole = 0;
    for case in cases
        .iter()
        .filter(|case| case.scope == "prod" && !case.corrupted)
    {
        whole += 1;
        let mut lines = printk(&case.log);
        for line in &mut lines {
            line.0 += START_US;
        }
        let log = kmsg(&lines);
        let items = parse_any(log.as_bytes(), Limits::default()).0;
        let all = reports(&items);
        let Some(report) = all.first() else { continue };
        if report.title != case.title {
            continue;
        }
        let Some(guilty) = report
            .guilty
            .as_ref()
            .and_then(|frame| frame.function.clone())
        else {
            continue;
        };
        let Some((first, last)) = report.sequence else {
            continue;
        };
        let callers = report
            .body
            .frames
            .iter()
            .filter(|frame| frame.reliable)
            .filter_map(|frame| frame.function.clone())
            .skip_while(|name| *name != guilty)
            // `f.part.0` in `f` is one function to a reader of names.
            .filter(|name| plain(name) != plain(&guilty))
            .collect();
        let place = |sequence: u64| usize::try_from(sequence - 5000).unwrap();
        bases.push(Base {
            id: case.id.clone(),
            title: case.title.clone(),
            span: (place(first), place(last)),
            guilty,
            object: report
                .guilty
                .as_ref()
                .and_then(|frame| frame.module.clone())
                .unwrap_or_else(|| "vmlinux".to_owned()),
            callers,
            lines,
        });
    }
    Some((bases, whole))
}

impl Base {
    /// Puts `module` behind `function` in the report, in lines where the unwinder is sure.
    fn put(&mut self, function: &str, module: &str) -> bool {
        let mut done = false;
        let (first, last) = self.span;
        for (_, _, text) in &mut self.lines[first..=last] {
            if text.contains(" ? ") && !text.contains("<EOI>") {
                continue;
            }
            if let Some(new) = with_module(text, function, module) {
                *text = new;
                done = true;
            }
        }
        done
    }

    fn mark(&mut self, letters: &str) {
        for (_, _, text) in &mut self.lines {
            for start in ["Not tainted ", "Tainted: "] {
                let told = text.contains(" Comm: ") || text.trim_start().starts_with(start);
                if told && text.contains(start) {
                    *text = text.replacen(start, &format!("Tainted: {letters} "), 1);
                    break;
                }
            }
        }
    }

    fn put_before(&mut self, texts: &[&str], seconds: u64) {
        let time = self
            .lines
            .iter()
            .map(|line| line.0)
            .min()
            .unwrap_or(START_US)
            .saturating_sub(seconds * 1_000_000);
        let new: Vec<_> = texts
            .iter()
            .map(|text| (time, None, (*text).to_owned()))
            .collect();
        self.span.0 += new.len();
        self.span.1 += new.len();
        self.lines.splice(0..0, new);
    }

    fn load(&mut self, module: &str, seconds: u64) {
        let lines = [
            format!("livepatch: enabling patch '{module}'"),
            format!("livepatch: '{module}': starting patching transition"),
            format!("livepatch: '{module}': patching complete"),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        self.put_before(&lines, seconds);
    }

    /// The report alone, as it was.
    fn report(&self) -> Vec<(u64, Option<String>, String)> {
        self.lines[self.span.0..=self.span.1].to_vec()
    }
}

/// `f+0x1/0x2` to `f+0x1/0x2 [m]`, also where the compiler added to the name.
fn with_module(text: &str, function: &str, module: &str) -> Option<String> {
    let mut from = 0;
    while let Some(at) = text[from..].find(function) {
        let start = from + at;
        let before = text[..start].chars().last();
        let rest = &text[start + function.len()..];
        let suffix = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_')))
            .unwrap_or(rest.len());
        let starts = before.is_none_or(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.')));
        let named = suffix == 0 || rest.starts_with('.');
        if starts && named && rest[suffix..].starts_with("+0x") {
            let tail = &rest[suffix..];
            let end = tail
                .find(|c: char| !(c.is_ascii_hexdigit() || matches!(c, '+' | 'x' | '/')))
                .unwrap_or(tail.len());
            if tail[..end].contains("/0x") {
                let cut = start + function.len() + suffix + end;
                return Some(format!("{} [{module}]{}", &text[..cut], &text[cut..]));
            }
        }
        from = start + function.len();
    }
    None
}

fn patch(name: &str) -> Patch {
    Patch {
        name: name.to_owned(),
        level: Some(7),
        ours: true,
        ..Patch::default()
    }
}

/// What is found of the report of that title, and what is recommended at the end.
fn judge(
    base: &Base,
    lines: &[(u64, Option<String>, String)],
    patches: Vec<Patch>,
) -> (Vec<Finding>, Vec<(String, Recommend)>) {
    let log = kmsg(lines);
    judge_log(base, log.as_bytes(), patches)
}

fn judge_log(
    base: &Base,
    log: &[u8],
    modules: Vec<Patch>,
) -> (Vec<Finding>, Vec<(String, Recommend)>) {
    let mut blamer = Blamer::new(
        Patches {
            modules,
            ..Patches::default()
        },
        Baseline::default(),
    );
    let mut parser = Parser::detecting(Limits::default());
    let mut items = Vec::new();
    parser.push(log, &mut items);
    parser.finish(&mut items);
    let mut found = Vec::new();
    for item in &items {
        let findings = blamer.take(item);
        if let Item::Report(report) = item
            && report.title == base.title
            && found.is_empty()
        {
            found = findings;
        }
    }
    let verdicts = blamer.verdicts(None);
    let recommended = verdicts
        .into_iter()
        .map(|verdict| (verdict.module, verdict.recommend))
        .collect();
    (found, recommended)
}

fn of(findings: &[Finding], module: &str) -> Option<Verdict> {
    findings
        .iter()
        .find(|finding| finding.module == module)
        .map(|finding| finding.verdict)
}

fn plain(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// What a kind of case must come out as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Must {
    Guilty,
    Suspect,
    /// Neither guilty nor suspect.
    Spared,
    /// Anything but guilty.
    NotGuilty,
    /// No report at all.
    Nothing,
}

#[derive(Default)]
struct Tally {
    kinds: BTreeMap<&'static str, (u32, u32)>,
    guilty_right: u32,
    guilty_wrong: u32,
    guilty_missed: u32,
    misses: Vec<String>,
    /// What the last judgement rests on.
    why: String,
}

impl Tally {
    fn note(&mut self, findings: &[Finding]) {
        self.why = findings
            .iter()
            .flat_map(|finding| finding.evidence.iter().chain(&finding.against))
            .map(|evidence| format!("{} ({})", evidence.rule, evidence.found))
            .collect::<Vec<_>>()
            .join("; ");
    }

    fn add(&mut self, kind: &'static str, base: &Base, must: Must, got: Option<Verdict>) {
        let right = match (must, got) {
            (Must::Guilty, Some(Verdict::Guilty))
            | (Must::Suspect, Some(Verdict::Suspect))
            | (Must::Spared, Some(Verdict::Unknown | Verdict::Innocent))
            | (
                Must::NotGuilty,
                Some(Verdict::Unknown | Verdict::Innocent | Verdict::Suspect) | None,
            )
            | (Must::Nothing | Must::Spared, None) => true,
            (Must::Guilty | Must::Suspect | Must::Spared | Must::NotGuilty | Must::Nothing, _) => {
                false
            }
        };
        match (must == Must::Guilty, got == Some(Verdict::Guilty)) {
            (true, true) => self.guilty_right += 1,
            (true, false) => self.guilty_missed += 1,
            (false, true) => self.guilty_wrong += 1,
            (false, false) => {}
        }
        let (good, all) = self.kinds.entry(kind).or_default();
        *good += u32::from(right);
        *all += 1;
        if !right {
            self.misses.push(format!(
                "{kind}: {} ({}): {got:?}: {}",
                base.id, base.title, self.why
            ));
        }
    }
}

#[test]
fn corpus_reports_are_blamed_on_whom_they_were_written_for() {
    let Some((bases, whole)) = bases() else {
        return;
    };
    eprintln!(
        "{} of {whole} whole reports of stock kernels name a function",
        bases.len()
    );
    assert!(bases.len() >= 140, "{}", bases.len());
    let mut tally = Tally::default();
    let mut urged = Vec::new();
    for base in &bases {
        one(base, &mut tally, &mut urged);
    }
    for (kind, (good, all)) in &tally.kinds {
        eprintln!("{kind:32} {good:3} of {all:3}");
    }
    for miss in &tally.misses {
        eprintln!("miss: {miss}");
    }
    let rate =
        |right: u32, other: u32| f64::from(right) * 100.0 / f64::from((right + other).max(1));
    let precision = rate(tally.guilty_right, tally.guilty_wrong);
    let recall = rate(tally.guilty_right, tally.guilty_missed);
    eprintln!(
        "guilty: {} right, {} wrong, {} missed: precision {precision:.2} %, recall {recall:.2} %",
        tally.guilty_right, tally.guilty_wrong, tally.guilty_missed
    );
    assert!(tally.kinds.len() >= 10);
    assert!(precision >= 99.5, "{precision}");
    assert!(recall >= 98.0, "{recall}");
    assert_eq!(
        urged,
        Vec::<String>::new(),
        "forged lines that led to advice"
    );
}

fn one(base: &Base, tally: &mut Tally, urged: &mut Vec<String>) {
    const DAYS: u64 = 500;
    let lines_of = |base: &Base| base.lines.clone();

    let mut top = base.clone();
    if !top.put(&base.guilty, OURS) {
        // Rust's names stand mangled in the log.
        assert!(base.guilty.contains("::"), "{}: {}", base.id, base.guilty);
        return;
    }
    top.mark("G           OE K   ");
    top.load(OURS, 60);
    let (found, advice) = judge(base, &lines_of(&top), vec![patch(OURS)]);
    tally.note(&found);
    tally.add(
        "guilty function in the livepatch",
        base,
        Must::Guilty,
        of(&found, OURS),
    );
    let hold = found
        .iter()
        .any(|finding| finding.verdict == Verdict::Guilty)
        && base.title.starts_with("WARNING in")
        && advice.iter().any(|(_, advice)| *advice > Recommend::Hold);
    assert!(!hold, "{}: a warning only holds: {advice:?}", base.id);

    let two = [patch(OLDER), patch(OURS)];
    let mut both = top.clone();
    both.load(OLDER, 120);
    let (found, _) = judge(base, &lines_of(&both), two.to_vec());
    tally.note(&found);
    tally.add(
        "two livepatches, the one",
        base,
        Must::Guilty,
        of(&found, OURS),
    );
    tally.note(&found);
    tally.add(
        "two livepatches, the other",
        base,
        Must::Spared,
        of(&found, OLDER),
    );

    let mut replacing = two.to_vec();
    replacing[1].replace = Some(true);
    let (found, _) = judge(base, &lines_of(&both), replacing);
    tally.note(&found);
    tally.add(
        "replaced, the new one",
        base,
        Must::Guilty,
        of(&found, OURS),
    );
    tally.note(&found);
    tally.add(
        "replaced, the old one",
        base,
        Must::Spared,
        of(&found, OLDER),
    );

    if let Some(caller) = base.callers.first() {
        let mut deep = base.clone();
        if deep.put(caller, OURS) {
            deep.load(OURS, DAYS);
            let (found, _) = judge(base, &lines_of(&deep), vec![patch(OURS)]);
            tally.note(&found);
            tally.add(
                "a caller in the livepatch",
                base,
                Must::Suspect,
                of(&found, OURS),
            );
        }
    }

    let mut patched = base.clone();
    patched.load(OURS, DAYS);
    let mut listed = patch(OURS);
    listed.functions.push(Function {
        object: base.object.clone(),
        name: base.guilty.clone(),
        sympos: 0,
    });
    let (found, _) = judge(base, &lines_of(&patched), vec![listed]);
    tally.note(&found);
    tally.add(
        "guilty function is patched",
        base,
        Must::Suspect,
        of(&found, OURS),
    );

    let mut bystander = base.clone();
    bystander.mark("G           OE K   ");
    let (first, _) = bystander.span;
    for (_, _, text) in &mut bystander.lines[first..] {
        if let Some(rest) = text.strip_prefix("Modules linked in:") {
            *text = format!("Modules linked in: {OURS}(OEK){rest}");
        }
    }
    bystander.load(OURS, DAYS);
    let (found, _) = judge(base, &lines_of(&bystander), vec![patch(OURS)]);
    tally.note(&found);
    tally.add(
        "bystander with its taint",
        base,
        Must::Spared,
        of(&found, OURS),
    );

    let mut again = top.clone();
    let before: Vec<_> = base
        .report()
        .into_iter()
        .map(|(time, caller, text)| (time - 300_000_000, caller, text))
        .collect();
    again.lines.splice(0..0, before);
    let (found, _) = judge(base, &lines_of(&again), vec![patch(OURS)]);
    tally.note(&found);
    tally.add(
        "the same came before the load",
        base,
        Must::NotGuilty,
        of(&found, OURS),
    );

    let mut other = base.clone();
    other.put(&base.guilty, THEIRS);
    other.mark("P           OE K   ");
    other.load(OURS, 60);
    let (found, _) = judge(base, &lines_of(&other), vec![patch(OURS)]);
    tally.note(&found);
    tally.add(
        "guilty function in a driver",
        base,
        Must::Spared,
        of(&found, OURS),
    );

    let mut guess = base.clone();
    let (first, last) = guess.span;
    let frame = guess.lines[first..=last]
        .iter()
        .position(|(_, _, text)| text.contains("+0x"))
        .map_or(last, |place| first + place);
    let (time, caller, _) = guess.lines[frame].clone();
    guess.lines.insert(
        frame + 1,
        (
            time,
            caller,
            format!(" ? patched_function+0x12/0x40 [{OURS}]"),
        ),
    );
    guess.load(OURS, DAYS);
    let (found, _) = judge(base, &lines_of(&guess), vec![patch(OURS)]);
    tally.note(&found);
    tally.add(
        "a guess of the unwinder",
        base,
        Must::Spared,
        of(&found, OURS),
    );

    unloaded(base, tally);

    let mut broken = top.clone();
    let error = "mce: [Hardware Error]: Machine check events logged".to_owned();
    let time = broken.lines[broken.span.0].0;
    broken.lines.insert(broken.span.0, (time, None, error));
    let (found, _) = judge(base, &lines_of(&broken), vec![patch(OURS)]);
    tally.note(&found);
    tally.add(
        "a machine check before",
        base,
        Must::NotGuilty,
        of(&found, OURS),
    );

    let mut fallout = top.clone();
    fallout.mark("G      D    OE K   ");
    let marked = fallout.lines[fallout.span.0..=fallout.span.1]
        .iter()
        .any(|(_, _, text)| text.contains("Tainted: G      D"));
    if marked {
        let (found, _) = judge(base, &lines_of(&fallout), vec![patch(OURS)]);
        tally.note(&found);
        tally.add(
            "fallout of an earlier oops",
            base,
            Must::NotGuilty,
            of(&found, OURS),
        );
    }

    let hole = kmsg(&top.lines)
        .lines()
        .enumerate()
        .filter(|(index, _)| *index != top.span.0 + 1)
        .fold(String::new(), |log, (_, line)| log + line + "\n");
    let (found, _) = judge_log(base, hole.as_bytes(), vec![patch(OURS)]);
    tally.note(&found);
    tally.add(
        "a record is missing inside",
        base,
        Must::NotGuilty,
        of(&found, OURS),
    );

    let plain = top
        .lines
        .iter()
        .fold(String::new(), |log, (time, caller, text)| {
            let caller = caller
                .as_ref()
                .map(|caller| format!("[{caller:>6}]"))
                .unwrap_or_default();
            log + &format!(
                "[{:5}.{:06}]{caller} {text}\n",
                time / 1_000_000,
                time % 1_000_000
            )
        });
    let (found, advice) = judge_log(base, plain.as_bytes(), vec![patch(OURS)]);
    tally.note(&found);
    tally.add(
        "text that anybody may have written",
        base,
        Must::NotGuilty,
        of(&found, OURS),
    );
    urged.extend(
        advice
            .iter()
            .filter(|(_, advice)| *advice > Recommend::None)
            .map(|_| base.id.clone()),
    );

    forged(base, &top, tally, urged);

    let mut foreign = base.clone();
    foreign.put(&base.guilty, "tmhook");
    foreign.load("tmhook", 60);
    foreign.load(OURS, 120);
    let (found, _) = judge(base, &lines_of(&foreign), vec![patch(OURS)]);
    let named = found.iter().find(|finding| finding.module == "tmhook");
    assert!(named.is_some_and(|finding| !finding.ours), "{}", base.id);
    tally.note(&found);
    tally.add(
        "a livepatch of somebody else's",
        base,
        Must::Guilty,
        of(&found, "tmhook"),
    );
    tally.note(&found);
    tally.add(
        "ours beside somebody else's",
        base,
        Must::Spared,
        of(&found, OURS),
    );

    let mut marks = base.clone();
    let (first, last) = marks.span;
    for (_, _, text) in &mut marks.lines[first..=last] {
        if text.starts_with(' ') && text.contains("+0x") {
            text.push_str(" (K)");
        }
    }
    marks.load(OURS, DAYS);
    let (found, _) = judge(base, &lines_of(&marks), vec![patch(OURS)]);
    tally.note(&found);
    tally.add("kretprobe marks", base, Must::Spared, of(&found, OURS));
}

/// The instruction pointer is where a module was: nothing names it any more.
fn unloaded(base: &Base, tally: &mut Tally) {
    let mut gone = base.clone();
    let (first, last) = gone.span;
    let mut pointed = false;
    for (_, _, text) in &mut gone.lines[first..=last] {
        for start in ["RIP: 0010:", "IP: "] {
            if text.starts_with(start) && text.contains("+0x") {
                *text = format!("{start}0xffffffffc0123456");
                pointed = true;
            }
        }
    }
    if !pointed {
        return;
    }
    let (time, caller, _) = gone.lines[last].clone();
    gone.lines.insert(
        first + 1,
        (
            time,
            caller,
            format!("Modules linked in: ext4 [last unloaded: {OURS}(OEK)]"),
        ),
    );
    gone.load(OURS, 120);
    let lines = gone.lines.clone();
    // The title is another now: the function has no name.
    let log = kmsg(&lines);
    let items = parse_any(log.as_bytes(), Limits::default()).0;
    let all = reports(&items);
    let Some(report) = all.first() else { return };
    let hang = report.severity == Severity::Hang;
    if report.corrupted.is_some() || hang || report.body.ip.is_none() {
        return;
    }
    let renamed = Base {
        title: report.title.clone(),
        ..base.clone()
    };
    let (found, _) = judge(&renamed, &lines, vec![patch(OURS)]);
    tally.note(&found);
    tally.add("it was unloaded", base, Must::Guilty, of(&found, OURS));
}

/// What a user can write: nothing may come of it.
fn forged(base: &Base, top: &Base, tally: &mut Tally, urged: &mut Vec<String>) {
    let mut check = |kind, log: String| {
        let (found, advice) = judge_log(base, log.as_bytes(), vec![patch(OURS)]);
        tally.note(&found);
        tally.add(kind, base, Must::Nothing, of(&found, OURS));
        urged.extend(
            advice
                .iter()
                .filter(|(_, advice)| *advice > Recommend::None)
                .map(|(_, advice)| format!("{} {kind} {}", base.id, advice.as_str())),
        );
    };
    let loaded = {
        let mut loaded = base.clone();
        loaded.load(OURS, 60);
        kmsg(&loaded.lines[..3])
    };
    let report = kmsg(&top.report());
    check(
        "written to /dev/kmsg",
        loaded.clone() + &report.replace("\n4,", "\n12,").replacen("4,", "12,", 1),
    );
    let inside = top
        .report()
        .iter()
        .map(|(_, _, text)| text.as_str())
        .collect::<Vec<_>>()
        .join("\n");
    let time = START_US + 1_000_000;
    check(
        "behind a newline in a record",
        loaded.clone()
            + &kmsg(&[(time, None, format!("EXT4-fs: bad option '\n{inside}'"))])
                .replace("5000", "5003"),
    );
    let quoted: Vec<_> = top
        .report()
        .into_iter()
        .map(|(time, caller, text)| {
            (
                time,
                caller,
                format!("cgroup: Unknown subsys name '{text}'"),
            )
        })
        .collect();
    check("quoted in a mount option", loaded.clone() + &kmsg(&quoted));
    let journal = top
        .report()
        .iter()
        .fold(String::new(), |log, (time, _, text)| {
            log + &serde_json::json!({
                "_TRANSPORT": "kernel",
                "SYSLOG_FACILITY": "1",
                "_SOURCE_MONOTONIC_TIMESTAMP": time.to_string(),
                "MESSAGE": text,
            })
            .to_string()
                + "\n"
        });
    check("journald, of a user's facility", journal);
}
