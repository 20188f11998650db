//! Where a file of outside evidence lies, and what it says.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, bail};
use tuxtape_core::cve::CveId;
use tuxtape_core::signals::{self, Batch, LARGEST, SignalError, Source, adp, exploits, nvd, sniff};
use tuxtape_sys::fetch::{self, Options};
use tuxtape_sys::{gzip, regular};

/// Most files of a folder; the list of all CVE records has about 350,000.
const MOST_FILES: usize = 1_000_000;
/// Deepest folder below the one given; a checkout of kernelCTF has four.
const DEEPEST: usize = 12;
/// Largest file as it is stored or sent, in bytes.
const LARGEST_SENT: u64 = LARGEST as u64;
/// Largest single file of a folder, in bytes; records have about 10 KB.
const LARGEST_OF_FOLDER: u64 = 32 << 20;

/// A place named on the command line: `FILE`, `URL` or `DIR`, with or without `SOURCE=` before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The source, where it was named; told by content otherwise.
    source: Option<Source>,
    /// File, folder or URL.
    at: String,
}

impl FromStr for Place {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_lowercase());
        let (source, at) = match text.split_once('=') {
            Some((word, at)) if is_word(word) => {
                let known = Source::ALL.into_iter().find(|it| it.as_str() == word);
                let source = known.with_context(|| {
                    format!(
                        "{word} is no source (want kev, epss, adp, nvd or exploits; \
                         write ./{text} for a file of that name)"
                    )
                })?;
                (Some(source), at)
            }
            Some(_) | None => (None, text),
        };
        if at.is_empty() {
            bail!("no file, folder or URL is named");
        }
        Ok(Self {
            source,
            at: at.to_owned(),
        })
    }
}

impl Place {
    /// Names the place as it is shown and kept: without a password, and whole for a path.
    pub fn origin(&self) -> String {
        if fetch::is_url(&self.at) {
            return fetch::shown(&self.at);
        }
        let whole = fs::canonicalize(&self.at).ok();
        whole.map_or_else(|| self.at.clone(), |path| path.display().to_string())
    }

    /// Tells whether it takes the network to read it.
    pub fn is_remote(&self) -> bool {
        fetch::is_url(&self.at)
    }

    /// Reads what lies there. Blocks on the disk or the network.
    pub fn read(&self, options: &Options) -> Result<Batch, Unread> {
        let unread = |source| move |why| Unread { source, why };
        let content = self.content(options).map_err(unread(self.source))?;
        let source = match self.source {
            Some(source) => source,
            None => content.source().map_err(unread(None))?,
        };
        content.parse(source).map_err(unread(Some(source)))
    }

    fn content(&self, options: &Options) -> anyhow::Result<Content> {
        if fetch::is_url(&self.at) {
            return Content::of_file(fetch::get(&self.at, LARGEST_SENT, options)?);
        }
        if self.at.contains("://") {
            bail!("want a file, a folder, or an http or https URL");
        }
        let path = Path::new(&self.at);
        let about = fs::metadata(path)?;
        if about.is_dir() {
            return Ok(Content::Folder(look(path)?));
        }
        if !about.is_file() {
            bail!("neither a file nor a folder");
        }
        let mut bytes = Vec::new();
        let file = File::open(path)?;
        file.take(LARGEST_SENT + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LARGEST_SENT {
            bail!("larger than {LARGEST_SENT} bytes");
        }
        Content::of_file(bytes)
    }
}

/// Why nothing was read.
#[derive(Debug)]
pub struct Unread {
    /// Which source it would have been, where that is known.
    pub source: Option<Source>,
    /// What went wrong.
    pub why: anyhow::Error,
}

/// What lies at a place.
enum Content {
    /// A file, decompressed.
    File(Vec<u8>),
    Folder(Found),
}

impl Content {
    fn of_file(bytes: Vec<u8>) -> anyhow::Result<Self> {
        Ok(Self::File(if gzip::is_gzip(&bytes) {
            gzip::gunzip(&bytes, LARGEST_SENT)?
        } else {
            bytes
        }))
    }

    /// Tells the source by content.
    fn source(&self) -> anyhow::Result<Source> {
        let found = match self {
            Self::File(bytes) => return Ok(sniff::source(bytes)?),
            Self::Folder(found) => found,
        };
        match (found.records.is_empty(), found.entries.is_empty()) {
            (false, true) => Ok(Source::Adp),
            (true, false) => Ok(Source::Exploits),
            (true, true) => bail!("holds neither CVE records (CVE-….json) nor kernelCTF's folders"),
            (false, false) => {
                bail!(
                    "holds both CVE records and kernelCTF's folders (say which with adp=… or exploits=…)"
                )
            }
        }
    }

    fn parse(&self, source: Source) -> anyhow::Result<Batch> {
        let found = match self {
            Self::File(bytes) => return Ok(source.parse(bytes)?),
            Self::Folder(found) => found,
        };
        match source {
            Source::Adp => found.read_all(&found.records, adp::parse),
            Source::Nvd => found.read_all(&found.documents, nvd::parse),
            Source::Exploits => found.read_entries(),
            Source::Kev | Source::Epss => bail!("a folder, and {source} is one file"),
        }
    }
}

/// What a folder tree holds that can be read; all sorted.
struct Found {
    top: PathBuf,
    /// `CVE-….json`.
    records: Vec<PathBuf>,
    /// Folders of kernelCTF with their names, whether or not their `metadata.json` is there.
    entries: Vec<(String, PathBuf)>,
    /// Every file that ends in `.json`.
    documents: Vec<PathBuf>,
}

impl Found {
    /// Reads every file: one that cannot be read spoils the lot, because nobody knows what it says.
    fn read_all(
        &self,
        files: &[PathBuf],
        parse: fn(&[u8]) -> Result<Batch, SignalError>,
    ) -> anyhow::Result<Batch> {
        let mut batches = Vec::with_capacity(files.len());
        for path in files {
            batches.push(parse(&self.read(path)?).with_context(|| self.below(path))?);
        }
        Ok(signals::join(batches)?)
    }

    fn read_entries(&self) -> anyhow::Result<Batch> {
        let mut exploits = Vec::with_capacity(self.entries.len());
        for (name, folder) in &self.entries {
            let path = folder.join("metadata.json");
            let bytes = self.read(&path)?;
            exploits.push(exploits::entry(name, &bytes).with_context(|| self.below(&path))?);
        }
        // The tree gives itself no date.
        Ok(exploits::batch(None, exploits)?)
    }

    fn read(&self, path: &Path) -> anyhow::Result<Vec<u8>> {
        let bytes = regular::read(path, LARGEST_OF_FOLDER).with_context(|| self.below(path))?;
        bytes.with_context(|| {
            let name = self.below(path);
            format!("{name}: larger than {LARGEST_OF_FOLDER} bytes")
        })
    }

    fn below(&self, path: &Path) -> String {
        let path = path.strip_prefix(&self.top).unwrap_or(path);
        path.display().to_string()
    }
}

/// Walks the tree. Links are left aside.
fn look(top: &Path) -> anyhow::Result<Found> {
    let mut found = Found {
        top: top.to_owned(),
        records: Vec::new(),
        entries: Vec::new(),
        documents: Vec::new(),
    };
    let mut count = 0usize;
    let mut open = vec![(top.to_owned(), 0)];
    while let Some((folder, depth)) = open.pop() {
        if depth > DEEPEST {
            bail!("{}: more than {DEEPEST} folders deep", found.below(&folder));
        }
        for entry in fs::read_dir(&folder).with_context(|| found.below(&folder))? {
            let entry = entry.with_context(|| found.below(&folder))?;
            count += 1;
            if count > MOST_FILES {
                bail!("more than {MOST_FILES} files");
            }
            let kind = entry.file_type().with_context(|| found.below(&folder))?;
            // What we look for is named in ASCII.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if kind.is_dir() {
                if exploits::folder(&name).is_some() {
                    found.entries.push((name, entry.path()));
                } else if name != ".git" {
                    open.push((entry.path(), depth + 1));
                }
            } else if let Some(stem) = name.strip_suffix(".json").filter(|_| kind.is_file()) {
                if stem.parse::<CveId>().is_ok() {
                    found.records.push(entry.path());
                }
                found.documents.push(entry.path());
            }
        }
    }
    found.records.sort();
    found.entries.sort();
    found.documents.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_may_be_named_before_a_place() {
        let url = "https://host/x?a=b";
        let named = format!("nvd={url}");
        for (text, source, at) in [
            ("kev=a.csv", Some(Source::Kev), "a.csv"),
            ("a.csv", None, "a.csv"),
            ("./a=b", None, "./a=b"),
            (url, None, url),
            (&named, Some(Source::Nvd), url),
        ] {
            let at = at.to_owned();
            assert_eq!(text.parse::<Place>().unwrap(), Place { source, at });
        }
        for (text, words) in [
            ("", "no file, folder or URL"),
            ("epss=", "no file, folder or URL"),
            ("keb=a", "keb is no source"),
        ] {
            let error = text.parse::<Place>().unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
        }
    }

    #[test]
    fn links_lead_nowhere_and_depth_ends() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path();
        let record = top.join("a/CVE-2024-1001.json");
        fs::create_dir(top.join("a")).unwrap();
        fs::write(&record, "{}").unwrap();
        for (to, link) in [
            (record.as_path(), "a/CVE-2024-1002.json"),
            (top, "a/top"),
            (top, "CVE-2024-1003_lts"),
        ] {
            std::os::unix::fs::symlink(to, top.join(link)).unwrap();
        }
        let found = look(top).unwrap();
        assert_eq!(found.records, [record]);
        assert!(found.entries.is_empty());
        fs::create_dir_all(top.join("b/".repeat(DEEPEST + 1))).unwrap();
        let error = look(top).map(drop).unwrap_err().to_string();
        assert!(error.ends_with("more than 12 folders deep"), "{error}");
    }
}
