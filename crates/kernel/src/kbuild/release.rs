//! Version and release of a kernel, as its tree and `.config` say them.

use super::KbuildError;
use super::text::words;
use super::tree::SourceTree;
use crate::config::Config;

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
    let value = |name: &str| {
        text.lines().take(20).find_map(|line| {
            let (left, right) = line.split_once('=')?;
            (left.trim() == name).then(|| right.trim().to_owned())
        })
    };
    let numbers: Vec<String> = ["VERSION", "PATCHLEVEL", "SUBLEVEL"]
        .iter()
        .filter_map(|name| value(name))
        .filter(|text| text.parse::<u16>().is_ok())
        .collect();
    let [version, patch, sub] = numbers.as_slice() else {
        return Err(KbuildError::Version {
            found: text.lines().take(5).collect::<Vec<_>>().join(" "),
        });
    };
    let extra = value("EXTRAVERSION").unwrap_or_default();
    let full = format!("{version}.{patch}.{sub}{extra}");
    // Releases of mainline are named by two numbers, their trees by three.
    let mut base = match sub.as_str() {
        "0" => format!("{version}.{patch}"),
        sub => format!("{version}.{patch}.{sub}"),
    };
    let candidate = extra.strip_prefix("-rc").is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    if candidate {
        base.push_str(&extra);
    }
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
