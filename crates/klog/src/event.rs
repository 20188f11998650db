//! What the livepatch core and the module loader say about the patches they handle.

/// Which way a transition goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the new functions.
    Patching,
    /// Back to the old ones.
    Unpatching,
}

/// One step in the life of a livepatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The kernel took the module on.
    Enabling,
    /// A transition began.
    Started(Direction),
    /// A transition ended.
    Completed(Direction),
    /// Tasks had to be signalled, about 15 s into a transition; names no module.
    Stalled,
    /// Somebody forced the transition.
    Forced,
    /// The module was given up after `enabling`.
    Failed,
    /// An object's module came while the livepatch was there.
    Applying,
    /// An object's module went while the livepatch was there.
    Reverting,
    /// An object's module was kept out because the livepatch does not fit it.
    RefusedLoad,
    /// The module is built wrong or for another kernel.
    BuildFault,
}

impl Kind {
    /// Tells whether this step is a failure of the livepatch.
    pub fn is_failure(self) -> bool {
        match self {
            Self::Failed | Self::RefusedLoad | Self::BuildFault | Self::Forced => true,
            Self::Enabling
            | Self::Started(_)
            | Self::Completed(_)
            | Self::Stalled
            | Self::Applying
            | Self::Reverting => false,
        }
    }

    /// Returns which way a transition goes that the step is of.
    pub fn direction(self) -> Option<&'static str> {
        match self {
            Self::Started(direction) | Self::Completed(direction) => Some(match direction {
                Direction::Patching => "patching",
                Direction::Unpatching => "unpatching",
            }),
            Self::Enabling
            | Self::Stalled
            | Self::Forced
            | Self::Failed
            | Self::Applying
            | Self::Reverting
            | Self::RefusedLoad
            | Self::BuildFault => None,
        }
    }

    /// Returns the word used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabling => "enabling",
            Self::Started(_) => "started",
            Self::Completed(_) => "completed",
            Self::Stalled => "stalled",
            Self::Forced => "forced",
            Self::Failed => "failed",
            Self::Applying => "applying",
            Self::Reverting => "reverting",
            Self::RefusedLoad => "refused-load",
            Self::BuildFault => "build-fault",
        }
    }
}

/// What one message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said<'a> {
    /// The step.
    pub kind: Kind,
    /// The livepatch, where the message names it.
    pub module: Option<&'a str>,
    /// The patched object, where the message names it.
    pub object: Option<&'a str>,
}

/// Reads the text of one record.
pub fn read(text: &str) -> Option<Said<'_>> {
    let text = text.lines().next()?;
    match text.strip_prefix("livepatch: ") {
        Some(text) => from_core(text),
        None => from_loader(text),
    }
}

/// Texts of which each message read here has one.
pub(crate) fn texts() -> impl Iterator<Item = &'static str> {
    ["livepatch: ", "Loading of "]
        .into_iter()
        .chain(LOADER.iter().copied())
        .chain(RELOCATION.iter().copied())
}

/// Returns the error number a message ends in: `(-16)`, `(err -2)`.
pub fn errno(text: &str) -> Option<i32> {
    let inside = text.trim_end().strip_suffix(')')?;
    let (_, number) = inside.rsplit_once(['(', ' '])?;
    number
        .strip_prefix('-')?
        .parse()
        .ok()
        .map(|number: i32| -number)
}

fn from_core(text: &str) -> Option<Said<'_>> {
    let said = |kind, module, object| {
        Some(Said {
            kind,
            module,
            object,
        })
    };
    if let Some(rest) = text.strip_prefix("enabling patch '") {
        return said(Kind::Enabling, quoted(rest), None);
    }
    if let Some(rest) = text.strip_prefix("applying patch '") {
        return said(
            Kind::Applying,
            quoted(rest),
            after(rest, "loading module '"),
        );
    }
    if let Some(rest) = text.strip_prefix("reverting patch '") {
        return said(
            Kind::Reverting,
            quoted(rest),
            after(rest, "unloading module '"),
        );
    }
    if let Some(rest) = text.strip_prefix("failed to enable patch '") {
        return said(Kind::Failed, quoted(rest), None);
    }
    for start in ["failed to initialize patch '", "failed to apply patch '"] {
        if let Some(rest) = text.strip_prefix(start) {
            return said(Kind::RefusedLoad, quoted(rest), after(rest, "module '"));
        }
    }
    if let Some(rest) = text.strip_prefix("patch '") {
        return said(Kind::RefusedLoad, quoted(rest), after(rest, "for module '"));
    }
    if let Some(rest) = text.strip_prefix('\'') {
        let (module, rest) = rest.split_once("': ")?;
        let kind = match rest {
            "starting patching transition" => Kind::Started(Direction::Patching),
            "starting unpatching transition" => Kind::Started(Direction::Unpatching),
            "patching complete" => Kind::Completed(Direction::Patching),
            "unpatching complete" => Kind::Completed(Direction::Unpatching),
            _ => return None,
        };
        return said(kind, Some(module), None);
    }
    if text == "signaling remaining tasks" {
        return said(Kind::Stalled, None, None);
    }
    if text == "forcing remaining tasks to the patched state" {
        return said(Kind::Forced, None, None);
    }
    if FAILURES.iter().any(|start| text.starts_with(start)) {
        return said(Kind::Failed, None, None);
    }
    if FAULTS.iter().any(|start| text.starts_with(start)) {
        return said(Kind::BuildFault, None, None);
    }
    None
}

fn from_loader(text: &str) -> Option<Said<'_>> {
    // The message names no module: bound by the time of the load.
    if let Some(rest) = text
        .strip_prefix("x86/modules: ")
        .or_else(|| text.strip_prefix("module: "))
    {
        return RELOCATION
            .iter()
            .any(|start| rest.starts_with(start))
            .then_some(Said {
                kind: Kind::BuildFault,
                module: None,
                object: None,
            });
    }
    if let Some(rest) = text.strip_prefix("Loading of ") {
        return rest.ends_with(" is rejected").then_some(Said {
            kind: Kind::BuildFault,
            module: None,
            object: None,
        });
    }
    let (module, rest) = text.split_once(": ")?;
    let is_name = !module.is_empty()
        && module.len() <= 64
        && module
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    (is_name && LOADER.iter().any(|start| rest.starts_with(start))).then_some(Said {
        kind: Kind::BuildFault,
        module: Some(module),
        object: None,
    })
}

/// What the core says when a livepatch cannot be put in force.
const FAILURES: &[&str] = &[
    "pre-patch callback failed for object",
    "failed to patch object",
    "failed to find location for function",
    "failed to set ftrace filter for function",
    "failed to register ftrace handler for function",
    "Livepatch patch (",
    "This architecture doesn't have support",
    "The livepatch transition may never complete",
    "Failed to construct shadow variable",
    "Duplicate shadow variable",
];

/// What the core says of a module built wrong or for another kernel.
const FAULTS: &[&str] = &[
    "symbol ",
    "section ",
    "unresolvable ambiguity for symbol",
    "kallsyms size lookup failed",
    "invalid access to vmlinux symbol",
    "vmlinux.ko: invalid module name",
    "module ",
];

/// What the loader says when a relocated field is not what it should be.
const RELOCATION: &[&str] = &[
    "Skipping invalid relocation target, existing value is nonzero",
    "Invalid relocation target, existing value is nonzero",
];

/// What the loader says of a module it does not take, after its name.
const LOADER: &[&str] = &[
    "disagrees about version of symbol ",
    "Unknown symbol ",
    "version magic '",
    "no symbol version for ",
    "module is marked as livepatch module, but livepatch support is disabled",
    "overflow in relocation type ",
    "Unknown rela relocation",
    "Unknown relocation",
    "unknown relocation",
    "module uses symbols",
    "module using GPL-only symbols",
];

fn quoted(rest: &str) -> Option<&str> {
    rest.split_once('\'').map(|(name, _)| name)
}

fn after<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    text.split_once(start).and_then(|(_, rest)| quoted(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, kind: Kind, module: Option<&str>, object: Option<&str>) {
        assert_eq!(
            read(text),
            Some(Said {
                kind,
                module,
                object
            }),
            "{text}"
        );
    }

    #[test]
    fn the_cores_lines_are_read_as_steps() {
        let tt = Some("tt_1");
        check("livepatch: enabling patch 'tt_1'", Kind::Enabling, tt, None);
        check(
            "livepatch: 'tt_1': starting patching transition",
            Kind::Started(Direction::Patching),
            tt,
            None,
        );
        check(
            "livepatch: 'tt_1': unpatching complete",
            Kind::Completed(Direction::Unpatching),
            tt,
            None,
        );
        check(
            "livepatch: signaling remaining tasks",
            Kind::Stalled,
            None,
            None,
        );
        check(
            "livepatch: applying patch 'tt_1' to loading module 'sd_mod'",
            Kind::Applying,
            tt,
            Some("sd_mod"),
        );
        check(
            "livepatch: patch 'tt_1' failed for module 'sd_mod', refusing to load module 'sd_mod'",
            Kind::RefusedLoad,
            tt,
            Some("sd_mod"),
        );
        check(
            "livepatch: symbol 'no_such' not found in symbol table",
            Kind::BuildFault,
            None,
            None,
        );
        check(
            "livepatch: failed to enable patch 'tt_1'",
            Kind::Failed,
            tt,
            None,
        );
    }

    #[test]
    fn the_loaders_complaints_are_build_faults() {
        let tt = Some("tt_1");
        check(
            "tt_1: Unknown symbol foo (err -2)",
            Kind::BuildFault,
            tt,
            None,
        );
        check(
            "tt_1: disagrees about version of symbol _printk",
            Kind::BuildFault,
            tt,
            None,
        );
        check(
            "tt_1: version magic '6.1.0-50 SMP' should be '6.1.0-47 SMP'",
            Kind::BuildFault,
            tt,
            None,
        );
        check(
            "x86/modules: Skipping invalid relocation target, existing value is nonzero for type 1, loc 0, val 1",
            Kind::BuildFault,
            None,
            None,
        );
    }

    #[test]
    fn harmless_lines_and_user_text_say_nothing() {
        for text in [
            "tt_1: loading out-of-tree module taints kernel.",
            "tt_1: tainting kernel with TAINT_LIVEPATCH",
            "tt_1: module verification failed: signature and/or required key missing - tainting kernel",
            "livepatch: 'tt_1': initializing patching transition",
            "a program: Unknown symbol x",
            "mount\nlivepatch: enabling patch 'x'",
            "",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
