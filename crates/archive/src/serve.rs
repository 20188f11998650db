//! A static web server for tests, laboratories and the demo.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use tiny_http::{Header, Method, Request, Response, Server};
use tuxtape_sys::regular;

use crate::names::cap;

/// Bytes from which metadata is packed for those who take it: less does not shrink by a packet.
const PACKED_FROM: usize = 2048;

/// A server that runs until it is dropped.
pub struct Serving {
    server: Arc<Server>,
    thread: Option<JoinHandle<()>>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Serving({})", self.address)
    }
}

impl Serving {
    /// Blocks until the server ends, which it does only on an error of the system.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.server.unblock();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Serves the files below `public` on `listen` (`ADDRESS:PORT`, port 0 for any).
///
/// `log` is told method, path and status of every request.
pub fn serve(
    public: &Path,
    listen: &str,
    mut log: impl FnMut(&str, &str, u16) + Send + 'static,
) -> io::Result<Serving> {
    let public = public.to_owned();
    let server = Arc::new(Server::http(listen).map_err(io::Error::other)?);
    let address = server
        .server_addr()
        .to_ip()
        .ok_or_else(|| io::Error::other("not an IP address"))?;
    let worker = Arc::clone(&server);
    let thread = std::thread::spawn(move || {
        for request in worker.incoming_requests() {
            let (method, url) = (request.method().to_string(), request.url().to_owned());
            let status = answer(request, &public);
            log(&method, &url, status);
        }
    });
    Ok(Serving {
        server,
        thread: Some(thread),
        address,
    })
}

fn answer(request: Request, public: &Path) -> u16 {
    let head = *request.method() == Method::Head;
    if !head && *request.method() != Method::Get {
        return refuse(request, 405, 60);
    }
    let Some(path) = locate(public, request.url()) else {
        return refuse(request, 400, 60);
    };
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let is_file = path.symlink_metadata().is_ok_and(|there| there.is_file());
    let Some(file) = File::open(&path).ok().filter(|_| is_file) else {
        // A cached absence of the next root delays a key rotation.
        return refuse(request, 404, 60);
    };
    let age = if name == "timestamp.json" {
        "public, max-age=60"
    } else {
        "public, max-age=31536000, immutable"
    };
    if path.extension().is_some_and(|end| end == "json") {
        return metadata(request, &path, age);
    }
    let response = Response::from_file(file)
        .with_header(header("Cache-Control", age))
        .with_header(header("Content-Type", "application/octet-stream"));
    // Nobody is left to tell when the client went away.
    request.respond(response).ok();
    200
}

/// Answers with a file of metadata: not again to who has it, and packed for who takes that.
fn metadata(request: Request, path: &Path, age: &str) -> u16 {
    let Ok(Some(bytes)) = regular::read(path, cap::SNAPSHOT) else {
        return refuse(request, 404, 60);
    };
    let said = |name: &'static str| {
        let mut headers = request.headers().iter();
        let found = headers.find(|header| header.field.equiv(name));
        found.map_or_else(String::new, |header| header.value.to_string())
    };
    let tag = format!("\"{}\"", hex::encode(Sha256::digest(&bytes)));
    let headers = [
        header("Cache-Control", age),
        header("ETag", &tag),
        header("Vary", "Accept-Encoding"),
    ];
    if said("If-None-Match") == tag {
        let mut response = Response::empty(304);
        for header in headers {
            response.add_header(header);
        }
        request.respond(response).ok();
        return 304;
    }
    let wanted = said("Accept-Encoding");
    let takes = wanted.split(',').any(|coding| coding.trim() == "gzip");
    let packed = (takes && bytes.len() >= PACKED_FROM).then(|| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&bytes)?;
        encoder.finish()
    });
    let mut response = match packed {
        Some(Ok(packed)) => {
            Response::from_data(packed).with_header(header("Content-Encoding", "gzip"))
        }
        Some(Err(_)) | None => Response::from_data(bytes),
    };
    for header in headers {
        response.add_header(header);
    }
    response.add_header(header("Content-Type", "application/json"));
    request.respond(response).ok();
    200
}

fn refuse(request: Request, status: u16, max_age: u32) -> u16 {
    let age = format!("public, max-age={max_age}");
    let response = Response::from_string(format!("{status}\n"))
        .with_status_code(status)
        .with_header(header("Cache-Control", &age));
    request.respond(response).ok();
    status
}

/// Maps a URL to a file two levels below `public`; `None` for anything else.
fn locate(public: &Path, url: &str) -> Option<PathBuf> {
    let path = url.split(['?', '#']).next()?.strip_prefix('/')?;
    let (folder, name) = path.split_once('/')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '~' | '-');
    let safe =
        !name.is_empty() && name.len() <= 255 && name.chars().all(plain) && !name.starts_with('.');
    (matches!(folder, "metadata" | "targets") && safe).then(|| public.join(folder).join(name))
}

fn header(name: &str, value: &str) -> Header {
    Header::from_bytes(name, value).expect("our own headers are ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_url_leaves_the_public_folders() {
        let public = Path::new("/srv/public");
        assert!(locate(public, "/metadata/1.root.json").is_some());
        for url in [
            "/policy.toml",
            "/metadata/../../keys/snapshot.pem",
            "/metadata/..",
            "/metadata/%2e%2e",
            "/keys/snapshot.pem",
            "/metadata/.hidden",
            "/metadata/a/b",
            "metadata/x",
        ] {
            assert_eq!(locate(public, url), None, "{url}");
        }
    }
}
