//! Fetching a file over HTTP, within limits of time and size.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

pub use crate::url::shown;

/// Where Debian keeps the authorities that the system trusts, in one file.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Most redirects that are followed.
const MOST_REDIRECTS: u32 = 5;

/// How to reach servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Longest wait for a connection.
    pub connect: Duration,
    /// Longest time without a byte.
    pub silence: Duration,
    /// Longest time for one whole file, redirects included.
    pub total: Duration,
    /// PEM file of the authorities to trust; `None` for the system's, else the built-in ones.
    pub authorities: Option<PathBuf>,
    /// Which proxy to use.
    pub proxies: Proxies,
}

/// Proxies as the environment names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http` URLs.
    pub http: Option<String>,
    /// For `https` URLs.
    pub https: Option<String>,
    /// Hosts to reach without one, separated by commas: `host`, `.domain` or `*`.
    pub none: String,
}

/// Why a file could not be fetched. No message shows a name or password that the URL holds.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Neither `http` nor `https`.
    #[error("{url} is no http or https URL")]
    Url {
        /// What was asked.
        url: String,
    },
    /// The server answered, but not with the file.
    #[error("{url} answered {status}")]
    Status {
        /// What was asked.
        url: String,
        /// HTTP status code.
        status: u16,
    },
    /// More bytes than the caller takes.
    #[error("{url} is larger than {cap} bytes")]
    TooLarge {
        /// What was asked.
        url: String,
        /// Bytes allowed.
        cap: u64,
    },
    /// The server could not be asked, or its answer broke off.
    #[error("could not fetch {url}: {reason}")]
    Network {
        /// What was asked.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The file of authorities is of no use.
    #[error("could not read certificates of authorities from {path}", path = path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The proxy's URL is of no use.
    #[error("{proxy} is no URL of an http proxy")]
    Proxy {
        /// The URL.
        proxy: String,
    },
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            silence: Duration::from_secs(60),
            total: Duration::from_secs(600),
            authorities: None,
            proxies: Proxies::default(),
        }
    }
}

impl Options {
    /// Takes authorities and proxies from the variables that other programs know: `SSL_CERT_FILE`,
    /// `HTTPS_PROXY`, `http_proxy`, `ALL_PROXY`, `NO_PROXY`. `variable` reads one.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| {
            let mut set = names.iter().filter_map(|name| variable(name));
            set.find(|value| !value.is_empty())
        };
        Self {
            authorities: first(&["SSL_CERT_FILE"]).map(PathBuf::from),
            proxies: Proxies {
                // Not `HTTP_PROXY`: a web server sets it from a request's `Proxy:` header.
                http: first(&["http_proxy", "ALL_PROXY", "all_proxy"]),
                https: first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]),
                none: first(&["NO_PROXY", "no_proxy"]).unwrap_or_default(),
            },
            ..Self::default()
        }
    }
}

/// Tells whether a place is a URL that [`get`] can fetch.
pub fn is_url(place: &str) -> bool {
    is_secure(place) || has_scheme(place, "http://")
}

/// Fetches a file of at most `cap` bytes. Blocks, up to [`Options::total`].
///
/// Redirects are followed, but from `https` never to `http`.
pub fn get(url: &str, cap: u64, options: &Options) -> Result<Vec<u8>, FetchError> {
    let shown = shown(url);
    if !is_url(url) {
        return Err(FetchError::Url { url: shown });
    }
    let network = |reason: String| FetchError::Network {
        url: shown.clone(),
        reason,
    };
    let mut answer = agent(url, options)?
        .get(url)
        .call()
        .map_err(|error| network(error.to_string()))?;
    let status = answer.status().as_u16();
    if status != 200 {
        return Err(FetchError::Status { url: shown, status });
    }
    let body = answer.body_mut();
    let too_large = || FetchError::TooLarge {
        url: shown.clone(),
        cap,
    };
    if body.content_length().is_some_and(|length| length > cap) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    body.as_reader()
        .take(cap.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| network(error.to_string()))?;
    if bytes.len() as u64 > cap {
        return Err(too_large());
    }
    Ok(bytes)
}

fn is_secure(url: &str) -> bool {
    has_scheme(url, "https://")
}

fn has_scheme(url: &str, scheme: &str) -> bool {
    let head = url.get(..scheme.len());
    head.is_some_and(|head| head.eq_ignore_ascii_case(scheme))
}

fn agent(url: &str, options: &Options) -> Result<ureq::Agent, FetchError> {
    let mut tls = TlsConfig::builder();
    if is_secure(url) {
        let system = Some(PathBuf::from(SYSTEM_AUTHORITIES)).filter(|path| path.exists());
        if let Some(path) = options.authorities.clone().or(system) {
            tls = tls.root_certs(RootCerts::from(authorities(&path)?));
        }
    }
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .https_only(is_secure(url))
        .max_redirects(MOST_REDIRECTS)
        .timeout_connect(Some(options.connect))
        .timeout_resolve(Some(options.connect))
        .timeout_per_read(Some(options.silence))
        .timeout_global(Some(options.total))
        .proxy(proxy(url, &options.proxies)?)
        .tls_config(tls.build())
        .user_agent("tuxtape")
        .build();
    Ok(config.into())
}

fn authorities(path: &Path) -> Result<Vec<Certificate<'static>>, FetchError> {
    let failed = |source| FetchError::Authorities {
        path: path.to_owned(),
        source,
    };
    let pem = std::fs::read(path).map_err(failed)?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(Result::ok)
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(failed(io::Error::other("there is none in it")));
    }
    Ok(certificates)
}

fn proxy(url: &str, proxies: &Proxies) -> Result<Option<ureq::Proxy>, FetchError> {
    let chosen = if is_secure(url) {
        &proxies.https
    } else {
        &proxies.http
    };
    let Some(chosen) = chosen else {
        return Ok(None);
    };
    let wrong = |_| FetchError::Proxy {
        proxy: shown(chosen),
    };
    let parsed = ureq::Proxy::new(chosen).map_err(wrong)?;
    let mut builder = ureq::Proxy::builder(parsed.protocol())
        .host(parsed.host())
        .port(parsed.port());
    if let Some(name) = parsed.username() {
        builder = builder.username(name);
    }
    if let Some(password) = parsed.password() {
        builder = builder.password(password);
    }
    for host in proxies.none.split(',').map(str::trim) {
        builder = builder.no_proxy(host);
    }
    builder.build().map(Some).map_err(wrong)
}

#[cfg(test)]
mod tests;
