//! Lines of a stack, with all they say.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::pattern::{self, span};

/// One function of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Frame {
    /// The function's name; none where the kernel had only an address.
    pub function: Option<String>,
    /// The address, where no function is named.
    pub address: Option<u64>,
    /// Bytes from the function's start.
    pub offset: Option<u64>,
    /// The function's size in bytes.
    pub size: Option<u64>,
    /// The module it lies in; none for the kernel image.
    pub module: Option<String>,
    /// The module's build id, where the kernel prints it.
    pub build_id: Option<String>,
    /// Whether the unwinder stands by it.
    pub reliable: bool,
    /// What the CPU was at.
    pub stack: Stack,
}

/// What a CPU was at in a part of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Stack {
    /// A task's own code.
    #[default]
    Task,
    /// An interrupt.
    Interrupt,
    /// A non-maskable interrupt.
    NonMaskable,
    /// An exception's own stack.
    Exception,
}

impl Stack {
    /// Returns the word used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Interrupt => "irq",
            Self::NonMaskable => "nmi",
            Self::Exception => "exception",
        }
    }
}

/// Longest name of a function or module that is taken for one.
const NAME_LIMIT: usize = 511;

/// Reads a frame of a stack's line without its prefix.
pub fn read_frame(line: &[u8]) -> Option<Frame> {
    parse(line)
}

/// `f+0x1/0x2 [m]`, with a `?`, an address, or arm's `(f) from …` around it.
pub(super) fn parse(line: &[u8]) -> Option<Frame> {
    let text = line.trim_ascii();
    let (mut reliable, mut rest) = (true, text);
    for _ in 0..2 {
        if rest.first() == Some(&b'[')
            && let Some(length) = pattern::address(rest)
        {
            rest = rest.get(length..)?;
        }
    }
    if let Some(after) = rest.strip_prefix(b"? ") {
        reliable = false;
        rest = after.trim_ascii_start();
    }
    if text.ends_with(b"(unreliable)") {
        reliable = false;
    }
    let mut frame = located(rest)
        .or_else(|| from_arm(rest))
        .or_else(|| raw(rest))?;
    frame.reliable = reliable;
    Some(frame)
}

/// Bytes of a function's name, also a Rust one's.
const NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'_' | b'.' | b'$' | b':' | b'<' | b'>' | b'-' | b'@');
        byte += 1;
    }
    table
};

/// `f+0x1/0x2 [m 0123…]`.
#[inline]
pub(super) fn located(text: &[u8]) -> Option<Frame> {
    let length = span(text, |byte| NAME.get(usize::from(byte)) == Some(&true));
    let (name, rest) = text.split_at_checked(length)?;
    let (offset, rest) = hex(rest.strip_prefix(b"+0x")?)?;
    let (size, rest) = hex(rest.strip_prefix(b"/0x")?)?;
    if name.is_empty() || name.len() > NAME_LIMIT {
        return None;
    }
    let (module, build_id) = rest
        .strip_prefix(b" [")
        .and_then(module)
        .unwrap_or_default();
    Some(Frame {
        function: Some(readable(owned(name)?)),
        address: None,
        offset: Some(offset),
        size: Some(size),
        module,
        build_id,
        reliable: true,
        stack: Stack::Task,
    })
}

/// Names are of ASCII.
fn owned(name: &[u8]) -> Option<String> {
    std::str::from_utf8(name).ok().map(ToOwned::to_owned)
}

fn readable(name: String) -> String {
    if !name.starts_with("_R") {
        return name;
    }
    let readable = rustc_demangle::try_demangle(&name).ok();
    readable.map(|name| format!("{name:#}")).unwrap_or(name)
}

/// `(f) from [<addr>] (g+0x1/0x2)`, `f from g+0x1/0x2`: the caller is the one with an offset.
fn from_arm(text: &[u8]) -> Option<Frame> {
    static FROM: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b" from "));
    let at = FROM.find(text)?;
    let rest = text.get(at + 6..)?;
    let rest = pattern::address(rest)
        .and_then(|length| rest.get(length..))
        .unwrap_or(rest);
    located(rest.strip_prefix(b"(").unwrap_or(rest))
}

/// An address alone.
fn raw(text: &[u8]) -> Option<Frame> {
    let (address, rest) = hex(text.strip_prefix(b"0x")?)?;
    rest.is_empty().then(|| Frame {
        address: Some(address),
        reliable: true,
        ..Frame::default()
    })
}

/// `m]`, `m 0123…]`.
fn module(text: &[u8]) -> Option<(Option<String>, Option<String>)> {
    let end = memchr::memchr(b']', text)?;
    let inside = text.get(..end)?;
    let (name, build_id) = match memchr::memchr(b' ', inside) {
        Some(blank) => (inside.get(..blank)?, inside.get(blank + 1..)),
        None => (inside, None),
    };
    let is_name = !name.is_empty()
        && name.len() <= 64
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let build_id = build_id.filter(|id| id.iter().all(u8::is_ascii_hexdigit) && id.len() >= 16);
    is_name.then(|| (owned(name), build_id.and_then(owned)))
}

/// Hexadecimal digits, at most 16.
#[inline]
pub(super) fn hex(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = span(text, |byte| byte.is_ascii_hexdigit());
    if digits == 0 || digits > 16 {
        return None;
    }
    let (number, rest) = text.split_at(digits);
    let value = number.iter().fold(0_u64, |value, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            letter => (letter | 0x20) - b'a' + 10,
        };
        value << 4 | u64::from(digit)
    });
    Some((value, rest))
}

/// What stands before an instruction pointer.
const MARKS: [&[u8]; 11] = [
    b"RIP: 0010:",
    b"RIP: e030:",
    b"RIP: ",
    b"EIP: 0060:",
    b"EIP: ",
    b"IP: ",
    b"pc : ",
    b"PC is at ",
    b"epc : ",
    b"NIP ",
    b"Krnl PSW : ",
];

/// The line of the instruction pointer, if the kernel was there: a user's own says nothing.
pub(super) fn pointer(line: &[u8]) -> Option<Frame> {
    let text = line.trim_ascii_start();
    let mut rest = MARKS.iter().find_map(|mark| text.strip_prefix(*mark))?;
    if rest.starts_with(b"0033:") || rest.starts_with(b"0023:") {
        return None;
    }
    // s390: `Krnl PSW : 0704c00180000000 00000000001234 (f+0x1/0x2 [m])`.
    if text.starts_with(b"Krnl PSW") {
        let open = memchr::memchr(b'(', rest)?;
        rest = rest.get(open + 1..)?;
    }
    if let Some(length) = pattern::bracketed(rest) {
        rest = rest.get(length..)?.trim_ascii_start();
        if let Some(length) = pattern::bracketed(rest) {
            rest = rest.get(length..)?.trim_ascii_start();
        }
    }
    // i386: `EIP: 0060:[<c0123456>]`, `EIP: f+0x1/0x2`.
    located(rest).or_else(|| {
        let (address, after) = hex(rest.strip_prefix(b"0x")?)?;
        let ends = matches!(after.first(), None | Some(b' ' | b':'));
        ends.then(|| Frame {
            address: Some(address),
            reliable: true,
            ..Frame::default()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<(&str, Option<&str>, bool)>) {
        let frame = parse(line.as_bytes());
        let got = frame.as_ref().map(|frame| {
            (
                frame.function.as_deref().unwrap_or_default(),
                frame.module.as_deref(),
                frame.reliable,
            )
        });
        assert_eq!(got, expected, "{line}");
    }

    #[test]
    fn frames_of_all_architectures_are_read() {
        check(" f+0x1/0x2", Some(("f", None, true)));
        check(" ? f+0x1/0x2 [m]", Some(("f", Some("m"), false)));
        check(
            " f.isra.0+0x1/0x2 [tt_1 0123456789abcdef0123]",
            Some(("f.isra.0", Some("tt_1"), true)),
        );
        check(" f+0x1/0x2 (P)", Some(("f", None, true)));
        check(
            "[c000000001] [c0000000002] f+0x1/0x2 (unreliable)",
            Some(("f", None, false)),
        );
        check(
            "[<c0123456>] (f) from [<c0123457>] (g+0x1/0x2 [m])",
            Some(("g", Some("m"), true)),
        );
        check(" f from g+0x1/0x2", Some(("g", None, true)));
        check(" [<ffffffff81000000>] f+0x1/0x2", Some(("f", None, true)));
        check(" 0xffffffffc0123456", Some(("", None, true)));
        check("Code: 00 01", None);
        check("RAX: 0000 RBX: 00", None);
    }

    #[test]
    fn the_users_pointer_is_no_frame() {
        let name = |line: &str| pointer(line.as_bytes()).map(|frame| frame.function);
        assert_eq!(name("RIP: 0010:f+0x1/0x2 [m]"), Some(Some("f".to_owned())));
        assert_eq!(name("RIP: 0010:0xffffffffc0123456"), Some(None));
        assert_eq!(name("RIP: 0033:0x7f0000"), None);
        assert_eq!(name("pc : f+0x1/0x2"), Some(Some("f".to_owned())));
        assert_eq!(name("NIP [c000] f+0x1/0x2"), Some(Some("f".to_owned())));
        assert_eq!(
            name("Krnl PSW : 0704c00180000000 000000001234 (f+0x1/0x2)"),
            Some(Some("f".to_owned()))
        );
    }
}
