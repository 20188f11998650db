//! Where a client gets the files of an archive from.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use tuxtape_sys::regular;

/// What asking for a file gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The whole file.
    Bytes(Vec<u8>),
    /// There is none.
    Absent,
}

/// What a server calls one version of a file (RFC 9110, 8.8.3). Said back to it, it spares an unchanged
/// file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(String);

impl Tag {
    /// Takes an entity tag as served; `None` for one that is malformed or longer than 100 bytes.
    pub fn new(text: &str) -> Option<Self> {
        let opaque = text.strip_prefix("W/").unwrap_or(text);
        let inner = opaque.strip_prefix('"')?.strip_suffix('"')?;
        let plain = |byte: u8| byte == b'!' || matches!(byte, b'#'..=b'~');
        let fits = text.len() <= 100 && inner.bytes().all(plain);
        fits.then(|| Self(text.to_owned()))
    }

    /// The tag as served.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What asking for a file again gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Again {
    /// The server says that it is the one the tag stands for.
    Same,
    /// The whole file, and what the server calls it.
    Bytes(Vec<u8>, Option<Tag>),
    /// There is none.
    Absent,
}

/// Why a file could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// More bytes than such a file may have.
    #[error("larger than {cap} bytes")]
    TooLarge {
        /// Bytes allowed.
        cap: u64,
    },
    /// A local file could not be read.
    #[error("could not read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The server answered with neither the file nor its absence.
    #[error("{url} answered {status}")]
    Status {
        /// What was asked.
        url: String,
        /// HTTP status code.
        status: u16,
    },
    /// The server could not be asked, or its answer broke off.
    #[error("could not fetch {url}: {reason}")]
    Network {
        /// What was asked.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The name would leave the archive.
    #[error("{0:?} is no file name of an archive")]
    Name(String),
}

/// An archive that can be asked for files by name.
pub trait Source {
    /// Fetches `metadata/FILE` of at most `cap` bytes. Blocks.
    fn metadata(&self, file: &str, cap: u64) -> Result<Fetched, SourceError>;
    /// Like [`Self::metadata`], but the file that `known` stands for need not be sent again. Blocks.
    fn metadata_again(
        &self,
        file: &str,
        cap: u64,
        known: Option<&Tag>,
    ) -> Result<Again, SourceError> {
        let _ = known;
        Ok(match self.metadata(file, cap)? {
            Fetched::Bytes(bytes) => Again::Bytes(bytes, None),
            Fetched::Absent => Again::Absent,
        })
    }
    /// Fetches `targets/FILE` of at most `cap` bytes. Blocks.
    fn target(&self, file: &str, cap: u64) -> Result<Fetched, SourceError>;
}

/// An archive in a folder.
#[derive(Clone, Debug)]
pub struct DirectorySource {
    top: PathBuf,
}

impl DirectorySource {
    /// Takes the folder that holds `metadata` and `targets`.
    pub fn new(top: &Path) -> Self {
        Self {
            top: top.to_owned(),
        }
    }

    fn fetch(&self, folder: &str, file: &str, cap: u64) -> Result<Fetched, SourceError> {
        let unsafe_part = |part: &str| matches!(part, "" | "." | "..") || part.contains('\0');
        if file.split('/').any(unsafe_part) {
            return Err(SourceError::Name(file.chars().take(300).collect()));
        }
        let path = self.top.join(folder).join(file);
        let failed = |source| SourceError::Read {
            path: path.clone(),
            source,
        };
        match regular::read(&path, cap) {
            Ok(Some(bytes)) => Ok(Fetched::Bytes(bytes)),
            Ok(None) => Err(SourceError::TooLarge { cap }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Fetched::Absent),
            Err(error) => Err(failed(error)),
        }
    }
}

impl Source for DirectorySource {
    fn metadata(&self, file: &str, cap: u64) -> Result<Fetched, SourceError> {
        self.fetch("metadata", file, cap)
    }

    fn target(&self, file: &str, cap: u64) -> Result<Fetched, SourceError> {
        self.fetch("targets", file, cap)
    }
}

/// Bytes a second below which a server is given up: else a drip keeps a client waiting for ever.
pub const LEAST_RATE: u64 = 1024;

/// How to reach an archive over HTTP.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Longest wait for a connection.
    pub connect: Duration,
    /// Longest time for one whole file.
    pub total: Duration,
    /// Time after which a file must have come at [`LEAST_RATE`] or faster.
    pub patience: Duration,
    /// PEM file of certificate authorities; `None` for the system's, else the built-in ones.
    pub ca_certs: Option<PathBuf>,
    /// Proxy URL, `None` for none.
    pub proxy: Option<String>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(12),
            total: Duration::from_secs(600),
            patience: Duration::from_secs(20),
            ca_certs: None,
            proxy: None,
        }
    }
}

/// An archive behind a web server.
///
/// Signatures alone decide what is trusted; TLS keeps onlookers out. Redirects are refused, so that
/// no other host and no plain `http` is asked in place of the one configured.
#[derive(Clone, Debug)]
pub struct HttpSource {
    base: String,
    agent: ureq::Agent,
    total: Duration,
    patience: Duration,
}

const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

impl HttpSource {
    /// Takes the URL below which `metadata/` and `targets/` are. Connects to nothing yet.
    pub fn new(base: &str, options: &HttpOptions) -> Result<Self, SourceError> {
        use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
        let mut tls = TlsConfig::builder();
        let system = Some(PathBuf::from(SYSTEM_CA)).filter(|path| path.exists());
        let wanted = options.ca_certs.clone().or(system);
        if let Some(path) = wanted.filter(|_| base.starts_with("https:")) {
            let pem = std::fs::read(&path).map_err(|source| SourceError::Read {
                path: path.clone(),
                source,
            })?;
            let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
                .filter_map(Result::ok)
                .filter_map(|item| match item {
                    PemItem::Certificate(certificate) => Some(certificate),
                    _ => None,
                })
                .collect();
            tls = tls.root_certs(RootCerts::from(certificates));
        }
        let network = |reason: String| SourceError::Network {
            url: base.to_owned(),
            reason,
        };
        let proxy = options
            .proxy
            .as_deref()
            .map(ureq::Proxy::new)
            .transpose()
            .map_err(|error| network(error.to_string()))?;
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(options.connect))
            .timeout_global(Some(options.total))
            .proxy(proxy)
            .tls_config(tls.build())
            .user_agent("tuxtape-client")
            .build();
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            agent: config.into(),
            total: options.total,
            patience: options.patience,
        })
    }

    /// Fetches a file of at most `cap` bytes by its path below the URL. Blocks.
    pub fn get(&self, path: &str, cap: u64) -> Result<Fetched, SourceError> {
        let ask = Ask {
            known: None,
            packed: false,
        };
        match self.ask(path, cap, &ask)? {
            Again::Bytes(bytes, _) => Ok(Fetched::Bytes(bytes)),
            Again::Absent | Again::Same => Ok(Fetched::Absent),
        }
    }

    fn ask(&self, path: &str, cap: u64, ask: &Ask<'_>) -> Result<Again, SourceError> {
        let url = format!("{}/{path}", self.base);
        let network = |reason: String| SourceError::Network {
            url: url.clone(),
            reason,
        };
        // A server that sends nothing must not hold us longer than one that drips.
        let slowest = self.patience + Duration::from_secs(cap / LEAST_RATE);
        let start = Instant::now();
        let mut request = self.agent.get(&url);
        if let Some(tag) = ask.known {
            request = request.header("If-None-Match", tag.as_str());
        }
        if ask.packed {
            request = request.header("Accept-Encoding", "gzip");
        }
        let mut answer = request
            .config()
            .timeout_global(Some(self.total.min(slowest)))
            .build()
            .call()
            .map_err(|error| network(error.to_string()))?;
        match answer.status().as_u16() {
            200 => {}
            // Object stores answer 403 for a file that is not there (specification 5.3.3).
            403 | 404 => return Ok(Again::Absent),
            304 if ask.known.is_some() => return Ok(Again::Same),
            status => return Err(SourceError::Status { url, status }),
        }
        let header = |name: &str| {
            answer
                .headers()
                .get(name)
                .and_then(|text| text.to_str().ok())
        };
        let tag = header("ETag").and_then(Tag::new);
        let packed = match header("Content-Encoding") {
            None | Some("identity") => false,
            Some("gzip") if ask.packed => true,
            Some(_) => return Err(network("it comes in a coding nobody asked for".to_owned())),
        };
        let body = answer.body_mut();
        // What does not shrink grows a little when packed.
        let sent = if packed {
            cap.saturating_add(1024)
        } else {
            cap
        };
        if body.content_length().is_some_and(|length| length > sent) {
            return Err(SourceError::TooLarge { cap });
        }
        let mut bytes = Vec::new();
        let raw = body.as_reader().take(sent.saturating_add(1));
        // Unpacked as it comes and never beyond the cap, whatever it would unpack to.
        let mut reader: Box<dyn Read> = if packed {
            Box::new(GzDecoder::new(raw).take(cap.saturating_add(1)))
        } else {
            Box::new(raw)
        };
        let mut part = [0; 16 * 1024];
        loop {
            let read = reader
                .read(&mut part)
                .map_err(|error| network(error.to_string()))?;
            bytes.extend_from_slice(part.get(..read).unwrap_or_default());
            if read == 0 {
                break;
            }
            let taken = start.elapsed();
            if taken > self.patience && (bytes.len() as u64) < LEAST_RATE * taken.as_secs() {
                return Err(network(format!(
                    "it comes slower than {LEAST_RATE} bytes a second"
                )));
            }
        }
        if bytes.len() as u64 > cap {
            return Err(SourceError::TooLarge { cap });
        }
        Ok(Again::Bytes(bytes, tag))
    }
}

/// What to ask a server for besides the file.
struct Ask<'a> {
    /// The version we have.
    known: Option<&'a Tag>,
    /// Whether it may come packed.
    packed: bool,
}

impl Source for HttpSource {
    fn metadata(&self, file: &str, cap: u64) -> Result<Fetched, SourceError> {
        match self.metadata_again(file, cap, None)? {
            Again::Bytes(bytes, _) => Ok(Fetched::Bytes(bytes)),
            Again::Absent | Again::Same => Ok(Fetched::Absent),
        }
    }

    fn metadata_again(
        &self,
        file: &str,
        cap: u64,
        known: Option<&Tag>,
    ) -> Result<Again, SourceError> {
        let ask = Ask {
            known,
            packed: true,
        };
        self.ask(&format!("metadata/{file}"), cap, &ask)
    }

    fn target(&self, file: &str, cap: u64) -> Result<Fetched, SourceError> {
        self.get(&format!("targets/{file}"), cap)
    }
}

/// Opens the archive at `place`: an `http(s)://` URL, a `file://` URL, or a folder.
pub fn open(place: &str, options: &HttpOptions) -> Result<Box<dyn Source>, SourceError> {
    if place.starts_with("http://") || place.starts_with("https://") {
        return Ok(Box::new(HttpSource::new(place, options)?));
    }
    let folder = place.strip_prefix("file://").unwrap_or(place);
    Ok(Box::new(DirectorySource::new(Path::new(folder))))
}
