//! Folders and output choices every command shares.

use std::env;
use std::path::PathBuf;

use anyhow::Context as _;
use tuxtape_store::Location;

/// What every command needs to know.
#[derive(Debug, Clone)]
pub struct Context {
    /// State: store, profiles, keys.
    pub home: PathBuf,
    /// Where the store is: below `home` unless said otherwise.
    pub store: Location,
    /// Downloads and unpacked kernels; may be deleted at any time.
    pub cache: PathBuf,
    /// Print JSON instead of text.
    pub json: bool,
}

impl Context {
    /// Resolves the folders: flag or environment first, else below the user's home folder.
    pub fn new(
        home: Option<PathBuf>,
        store: Option<&str>,
        cache: Option<PathBuf>,
        json: bool,
    ) -> anyhow::Result<Self> {
        let user = || {
            env::var_os("HOME")
                .map(PathBuf::from)
                .context("HOME is not set; give --home and --cache")
        };
        let home = home.map_or_else(|| user().map(|user| user.join(".local/share/tuxtape")), Ok)?;
        let store = match store {
            Some(text) => Location::parse(text).context("could not use --store")?,
            None => Location::below(&home),
        };
        Ok(Self {
            home,
            store,
            cache: cache.map_or_else(|| user().map(|user| user.join(".cache/tuxtape")), Ok)?,
            json,
        })
    }
}
