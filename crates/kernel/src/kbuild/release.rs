//! Version and release of a kernel, as its tree and `.config` say them.

use super::KbuildError;
use super::syntax::{Operator, assignment};
use super::text::{blank, joined, lines, without_comment, words};
use super::tree::SourceTree;
use crate::config::Config;
use crate::profile::tree::Version;

/// Largest makefile and longest `localversion` file, in bytes.
const LARGEST: u64 = 4 << 20;

/// What a tree calls its kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// Upstream point release, `6.1` for a tree that says 6.1.0.
    pub(super) base: String,
    /// `KERNELVERSION`, `6.1.0`.
    pub(super) version: String,
    /// What `uname -r` would print, as `scripts/setlocalversion` puts it together outside of git.
    pub(super) release: String,
}

/// Reads the version from the top makefile and what `config` and `localversion*` files add to it.
pub(super) fn read(tree: &dyn SourceTree, config: &Config) -> Result<Named, KbuildError> {
    let path = "Makefile";
    let missing = || KbuildError::Missing {
        path: path.to_owned(),
    };
    if !tree.files().contains(path) {
        return Err(missing());
    }
    let text = text_of(tree, path)?;
    let Some(found) = version(&text) else {
        return Err(KbuildError::Version {
            found: text.lines().take(5).collect::<Vec<_>>().join(" "),
        });
    };
    let full = found.text;
    let base = found.base.to_string();
    let mut release = full.clone();
    let below = tree.files().range("localversion".to_owned()..);
    for file in below.take_while(|file| file.starts_with("localversion")) {
        if !file.contains(['~', '/']) {
            release.extend(words(&text_of(tree, file)?));
        }
    }
    release.push_str(config.value("LOCALVERSION").unwrap_or_default());
    Ok(Named {
        base,
        version: full,
        release,
    })
}

/// Reads the version in the text of a top makefile. `None` where it has none, or sets it in a way that
/// only a run of make could follow: under a condition, by `+=`, or from other variables.
pub(crate) fn version(makefile: &str) -> Option<Version> {
    let names = ["VERSION", "PATCHLEVEL", "SUBLEVEL", "EXTRAVERSION"];
    let mut values: [Option<String>; 4] = Default::default();
    let mut conditions = 0_usize;
    let text = makefile.strip_prefix('\u{feff}').unwrap_or(makefile);
    for line in lines(text).filter(|line| !line.raw.starts_with('\t')) {
        let line = without_comment(&joined(line.raw));
        match words(&line).next() {
            Some("ifeq" | "ifneq" | "ifdef" | "ifndef" | "define") => conditions += 1,
            Some("endif" | "endef") => conditions = conditions.saturating_sub(1),
            _ => {}
        }
        let Some(found) = assignment(line.trim_start_matches(blank)) else {
            continue;
        };
        let Some(at) = names.iter().position(|name| *name == found.name) else {
            continue;
        };
        let plain = matches!(found.operator, Operator::Recursive | Operator::Simple);
        if conditions > 0 || !plain || found.value.contains('$') {
            return None;
        }
        // As for make, the last line counts.
        *values.get_mut(at)? = Some(found.value.trim_matches(blank).to_owned());
    }
    let [major, minor, third, extra] = values;
    let number = |text: Option<String>| text?.parse::<u16>().ok();
    let (major, minor, third) = (number(major)?, number(minor)?, number(third)?);
    let extra = extra.unwrap_or_default();
    let candidate = extra
        .strip_prefix("-rc")
        .filter(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
    // Releases of mainline are named by two numbers, their trees by three.
    let base = match (third, candidate) {
        (0, Some(number)) => format!("{major}.{minor}-rc{number}"),
        (0, None) => format!("{major}.{minor}"),
        (third, _) => format!("{major}.{minor}.{third}"),
    };
    Some(Version {
        base: base.parse().ok()?,
        text: format!("{major}.{minor}.{third}{extra}"),
        quotes: (major, minor) < (5, 17),
        extra: (candidate.is_none() && !extra.is_empty()).then_some(extra),
    })
}

/// Tells whether makefiles of `tree` see texts of the configuration in quotes; `None` where it does not
/// say its version.
pub(super) fn quotes(tree: &dyn SourceTree) -> Option<bool> {
    let text = text_of(tree, "Makefile").ok()?;
    Some(version(&text)?.quotes)
}

/// Returns architecture and version in the header of a `.config`:
/// `# Linux/x86 6.1.170 Kernel Configuration`.
pub(super) fn header(text: &str) -> Option<(&str, &str)> {
    text.lines().take(20).find_map(|line| {
        let rest = line.strip_prefix("# Linux/")?;
        let (arch, rest) = rest.split_once(' ')?;
        Some((arch, rest.strip_suffix(" Kernel Configuration")?))
    })
}

/// Tells whether the last setting of a `.config` lies in a menu that ends. Those of kernels before 5.5
/// do not say where menus end.
pub(super) fn ends_whole(text: &str) -> bool {
    let menus = text.lines().any(|line| line.starts_with("# end of "));
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    !menus || last.is_some_and(|line| line.starts_with("# end of "))
}

fn text_of(tree: &dyn SourceTree, path: &str) -> Result<String, KbuildError> {
    let failed = |source| KbuildError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = tree
        .read(path, LARGEST)
        .and_then(|bytes| bytes.ok_or_else(|| std::io::Error::other("too large")))
        .map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
