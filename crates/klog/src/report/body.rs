//! What a report says beside its title: who, where, with which modules, and the stack.

use super::frame::{self, Frame, Stack};
use super::marks;

/// Frames kept of one report.
pub const FRAME_LIMIT: usize = 128;
/// Modules kept of one report.
const MODULE_LIMIT: usize = 1024;
/// Lines of registers kept of one report.
const REGISTER_LIMIT: usize = 32;

/// A module of `Modules linked in:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Its taint letters.
    pub flags: String,
    /// Whether it was being loaded or unloaded.
    pub state: ModuleState,
}

/// Where a module stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleState {
    /// Loaded.
    Live,
    /// Being loaded: `+`.
    Coming,
    /// Being unloaded: `-`.
    Going,
}

impl ModuleState {
    /// Returns the word used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Coming => "coming",
            Self::Going => "going",
        }
    }
}

/// All but the name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// The CPU it happened on.
    pub cpu: Option<u32>,
    /// The task it happened in.
    pub pid: Option<u32>,
    /// The user the task ran as.
    pub uid: Option<u32>,
    /// The task's name.
    pub comm: Option<String>,
    /// The kernel's release.
    pub release: Option<String>,
    /// The machine's architecture, as far as the words of its traps tell.
    pub arch: Option<&'static str>,
    /// The machine, as its firmware calls it.
    pub hardware: Option<String>,
    /// The taint letters as printed.
    pub taint: Option<String>,
    /// Modules linked in.
    pub modules: Vec<Module>,
    /// The module unloaded last, and its taint letters.
    pub last_unloaded: Option<(String, String)>,
    /// What the instruction pointer's line says.
    pub ip: Option<Frame>,
    /// Line of the report that says it.
    pub ip_line: Option<usize>,
    /// Functions of the call trace, innermost first.
    pub frames: Vec<Frame>,
    /// Lines of the report they stand on.
    pub frame_lines: Vec<usize>,
    /// Lines of registers, as printed; [`Body::registers`] takes them apart.
    pub register_lines: Vec<String>,
    /// The bytes around the instruction.
    pub code: Option<String>,
    /// The kernel could not read the code the instruction pointer points to.
    pub code_unreadable: bool,
    reading: Reading,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reading {
    #[default]
    Nothing,
    /// Frames of the task at fault.
    Trace(Stack),
    /// Frames of somebody else: who allocated, who holds a lock, another CPU.
    Other,
    /// Modules go on in lines that start with a blank.
    Modules,
}

impl Body {
    /// Takes in line `index` of the report.
    pub(crate) fn read(&mut self, index: usize, line: &[u8], words: u16) {
        if self.reading == Reading::Modules {
            if line.first() == Some(&b' ') && frame::parse(line).is_none() {
                self.read_modules(line);
                return;
            }
            self.reading = Reading::Nothing;
        }
        match line.first() {
            Some(b' ' | b'\t') => self.read_indented(index, line, words),
            Some(b'[' | b'(') => self.read_frame(index, line),
            Some(_) => self.read_words(index, line, words),
            None => {}
        }
    }

    fn read_words(&mut self, index: usize, line: &[u8], words: u16) {
        if words & marks::MODULES != 0
            && let Some(rest) = after(line, b"Modules linked in:")
        {
            if self.modules.is_empty() {
                self.reading = Reading::Modules;
                self.read_modules(rest);
            }
            return;
        }
        if words & marks::CPU != 0
            && let Some(rest) = after(line, b"CPU: ")
        {
            if line.starts_with(b"CPU: ") && marks::has(line, b" Comm: ") {
                self.read_task(rest);
            }
            return;
        }
        if let Some(rest) = line.strip_prefix(b"Hardware name: ") {
            self.hardware.get_or_insert_with(|| text(rest));
            return;
        }
        if let Some(rest) = line.strip_prefix(b"Code: ") {
            if marks::has(rest, b"Unable to access opcode bytes")
                || marks::has(rest, b"Bad RIP value")
            {
                self.code_unreadable = true;
            } else {
                self.code.get_or_insert_with(|| text(rest));
            }
            return;
        }
        if marks::may_start_stack(words) && marks::is_trace(line) {
            // The first trace is the task's; a second one is a panic's or another CPU's.
            self.reading = if self.frames.is_empty() {
                Reading::Trace(Stack::Task)
            } else {
                Reading::Other
            };
            return;
        }
        if marks::starts_stack(line, words) || line.ends_with(b":") && !line.starts_with(b"RIP") {
            self.reading = Reading::Other;
        }
        if words & marks::POINTER != 0
            && let Some(found) = frame::pointer(line)
        {
            self.note_arch(line);
            // After a trace it is a user's, or a second report of the first fault.
            if self.ip.is_none() && self.frames.is_empty() {
                self.ip = Some(found);
                self.ip_line = Some(index);
            }
            return;
        }
        if self.register_lines.len() < REGISTER_LIMIT {
            self.read_registers(line);
        }
        self.read_frame(index, line);
    }

    fn read_indented(&mut self, index: usize, line: &[u8], words: u16) {
        const BRACKETS: [(&[u8], Stack); 6] = [
            (b"<TASK>", Stack::Task),
            (b"<IRQ>", Stack::Interrupt),
            (b"<SOFTIRQ>", Stack::Interrupt),
            (b"<NMI>", Stack::NonMaskable),
            (b"<#DF>", Stack::Exception),
            (b"<#DB>", Stack::Exception),
        ];
        let inside = line.trim_ascii();
        let bracketed = inside.first() == Some(&b'<');
        if bracketed && let Some((_, stack)) = BRACKETS.iter().find(|(mark, _)| *mark == inside) {
            if let Reading::Trace(_) = self.reading {
                self.reading = Reading::Trace(*stack);
            }
            return;
        }
        if inside.starts_with(b"</") {
            if let Reading::Trace(_) = self.reading {
                self.reading = Reading::Trace(Stack::Task);
            }
            return;
        }
        // The second line of a hung task's report.
        if self.comm.is_none() && self.taint.is_none() {
            for start in [&b"Tainted: "[..], b"Not tainted "] {
                if inside.starts_with(start) {
                    self.read_taint(&text(inside));
                    return;
                }
            }
        }
        if marks::may_start_stack(words) && marks::is_trace(line) {
            if self.frames.is_empty() {
                self.reading = Reading::Trace(Stack::Task);
            }
            return;
        }
        if marks::starts_stack(line, words) {
            self.reading = Reading::Other;
            return;
        }
        if words & marks::POINTER != 0
            && let Some(found) = frame::pointer(line)
        {
            self.note_arch(inside);
            if self.ip.is_none() && self.frames.is_empty() {
                self.ip = Some(found);
                self.ip_line = Some(index);
            }
            return;
        }
        self.read_frame(index, line);
        if self.register_lines.len() < REGISTER_LIMIT && self.frames.is_empty() {
            self.read_registers(inside);
        }
    }

    /// A line of a trace.
    pub(crate) fn read_frame(&mut self, index: usize, line: &[u8]) {
        let stack = match self.reading {
            Reading::Trace(stack) => stack,
            // The line above the trace was lost.
            Reading::Nothing if self.frames.is_empty() && line.first() == Some(&b' ') => {
                Stack::Task
            }
            Reading::Nothing | Reading::Other | Reading::Modules => return,
        };
        if self.frames.len() >= FRAME_LIMIT {
            return;
        }
        let unmarked = without_mark(line);
        if let Some(mut found) = frame::parse(unmarked) {
            self.reading = Reading::Trace(stack);
            if self.frames.is_empty() {
                // Most stacks.
                self.frames.reserve(24);
                self.frame_lines.reserve(24);
            }
            found.stack = stack;
            self.frames.push(found);
            self.frame_lines.push(index);
        }
    }

    /// `CPU: 0 UID: 0 PID: 88 Comm: curl Tainted: G OE K 6.12 #1 build`.
    fn read_task(&mut self, rest: &[u8]) {
        if self.comm.is_some() {
            return;
        }
        self.cpu = number(rest).or(self.cpu);
        self.uid = after(rest, b"UID: ").and_then(number);
        self.pid = after(rest, b"PID: ").and_then(number).or(self.pid);
        let Some(rest) = after(rest, b"Comm: ") else {
            return;
        };
        let rest = text(rest);
        let (comm, after_comm) = match rest
            .find(" Tainted: ")
            .or_else(|| rest.find(" Not tainted "))
        {
            Some(at) => rest.split_at(at),
            None => (rest.as_str(), ""),
        };
        self.comm = Some(comm.trim_end().to_owned());
        self.read_taint(after_comm.trim_start());
    }

    /// `Tainted: G      D    OE K 6.1.0-47 #1`, `Not tainted 6.1.0-47 #1`.
    fn read_taint(&mut self, said: &str) {
        let tainted = said.strip_prefix("Tainted: ");
        let words = tainted
            .or_else(|| said.strip_prefix("Not tainted "))
            .unwrap_or_default();
        // The letters stand in columns of their own; the release is the first word of another kind.
        let release = words
            .split(' ')
            .find(|word| word.bytes().any(|byte| !byte.is_ascii_uppercase()));
        let Some(release) = release else { return };
        self.release = Some(release.to_owned());
        if tainted.is_some() {
            let end = words.find(release).unwrap_or_default();
            let letters = words.get(..end).unwrap_or_default().trim_end();
            self.taint = Some(letters.to_owned());
        }
    }

    fn read_modules(&mut self, line: &[u8]) {
        let line = text(line);
        let (list, unloaded) = match line.split_once("[last unloaded: ") {
            Some((list, rest)) => (list, rest.split(']').next()),
            None => (line.as_str(), None),
        };
        for word in list.split_ascii_whitespace() {
            if self.modules.len() >= MODULE_LIMIT {
                break;
            }
            if let Some((name, flags, state)) = module(word) {
                self.modules.push(Module { name, flags, state });
            }
        }
        if let Some(word) = unloaded.and_then(|rest| rest.split_ascii_whitespace().next())
            && let Some((name, flags, _)) = module(word)
        {
            self.last_unloaded = Some((name, flags));
        }
    }

    /// `RAX: 0000000000000000 RBX: …`, `x29: …`, `ra : … sp : …`, `r10: …`, `GPR00: …`: a short word,
    /// a colon, and many hexadecimal digits.
    fn read_registers(&mut self, line: &[u8]) {
        let head = line.get(..8).unwrap_or(line);
        let Some(colon) = memchr::memchr(b':', head) else {
            return;
        };
        let rest = line.get(colon + 1..).unwrap_or_default().trim_ascii_start();
        let digits = rest.strip_prefix(b"0x").unwrap_or(rest);
        let length = digits
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit() || **byte == b':')
            .count();
        if colon > 0 && length >= 8 && line.is_ascii() {
            if self.register_lines.is_empty() {
                // As many as x86 prints.
                self.register_lines.reserve(12);
            }
            self.register_lines.push(text(line));
        }
    }

    /// Returns the registers, in the order printed.
    pub fn registers(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for line in &self.register_lines {
            registers(line, &mut all);
        }
        all
    }

    fn note_arch(&mut self, line: &[u8]) {
        let marks: [(&[u8], &'static str); 8] = [
            (b"RIP: ", "x86_64"),
            (b"EIP: ", "x86"),
            (b"IP: ", "x86_64"),
            (b"pc : ", "arm64"),
            (b"PC is at ", "arm"),
            (b"epc : ", "riscv64"),
            (b"NIP ", "ppc64"),
            (b"Krnl PSW", "s390x"),
        ];
        let mark = marks.iter().find(|(mark, _)| line.starts_with(mark));
        if let Some((_, arch)) = mark {
            self.arch.get_or_insert(arch);
        }
    }
}

/// arm64 marks how it found a frame: ` (P)`. A `K` there is a kretprobe.
fn without_mark(line: &[u8]) -> &[u8] {
    const LONGEST: usize = 6;
    if !line.ends_with(b")") {
        return line;
    }
    let from = line.len().saturating_sub(LONGEST);
    let tail = line.get(from..).unwrap_or_default();
    let mark = tail.windows(2).rposition(|pair| pair == b" (");
    mark.and_then(|at| line.get(..from + at)).unwrap_or(line)
}

fn registers(line: &str, all: &mut Vec<(String, String)>) {
    let mut name: Option<&str> = None;
    for word in line.split_ascii_whitespace() {
        if word == ":" {
            continue;
        }
        if let Some(new) = word.strip_suffix(':') {
            name = Some(new);
        } else if is_register_value(word) {
            if let Some(name) = name.take() {
                all.push((name.to_owned(), word.to_owned()));
            }
        } else if let Some((new, value)) = word.split_once(':') {
            if is_register_value(value) && !is_register_value(new) {
                all.push((new.to_owned(), value.to_owned()));
            } else if let Some(name) = name.take() {
                // `RSP: 0018:ffff…`: segment and offset.
                all.push((name.to_owned(), word.to_owned()));
            }
        } else {
            name = (word.len() <= 4).then_some(word);
        }
    }
}

fn is_register_value(word: &str) -> bool {
    let digits = word.strip_prefix("0x").unwrap_or(word);
    digits.len() >= 4 && digits.len() <= 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `name(OEK+)`.
fn module(word: &str) -> Option<(String, String, ModuleState)> {
    let (name, flags) = match word.split_once('(') {
        Some((name, flags)) => (name, flags.strip_suffix(')').unwrap_or(flags)),
        None => (word, ""),
    };
    let is_name = !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let state = if flags.contains('+') {
        ModuleState::Coming
    } else if flags.contains('-') {
        ModuleState::Going
    } else {
        ModuleState::Live
    };
    let letters = flags.chars().filter(char::is_ascii_alphabetic).collect();
    is_name.then(|| (name.to_owned(), letters, state))
}

fn after<'a>(line: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    let at = memchr::memmem::find(line, start)?;
    line.get(at + start.len()..)
}

fn number(text: &[u8]) -> Option<u32> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(text.get(..digits)?).ok()?.parse().ok()
}

fn text(bytes: &[u8]) -> String {
    let trimmed = |text: &str| {
        text.trim_matches(|c: char| c.is_whitespace() || c.is_control())
            .to_owned()
    };
    match std::str::from_utf8(bytes) {
        Ok(text) => trimmed(text),
        Err(_) => trimmed(&String::from_utf8_lossy(bytes)),
    }
}
