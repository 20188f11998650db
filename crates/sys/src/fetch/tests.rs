use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tiny_http::{Header, Response, Server};

use super::*;

/// A web server that ends with the test.
struct Web {
    server: Arc<Server>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    fn new() -> Self {
        let server = Arc::new(Server::http("127.0.0.1:0").unwrap());
        let worker = Arc::clone(&server);
        let thread = thread::spawn(move || {
            for request in worker.incoming_requests() {
                let to = |place: &str| {
                    let header = format!("Location: {place}").parse::<Header>().unwrap();
                    Response::from_string("")
                        .with_status_code(302)
                        .with_header(header)
                };
                let response = match request.url() {
                    "/file" => Response::from_string("0123456789"),
                    "/moved" => to("/file"),
                    "/loop" => to("/loop"),
                    _ => Response::from_string("gone").with_status_code(404),
                };
                let response = response.with_chunked_threshold(usize::MAX);
                request.respond(response).ok();
            }
        });
        Self {
            server,
            thread: Some(thread),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.server_addr())
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.server.unblock();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Answers one connection with these bytes and closes it; with none, waits for the other end to.
fn answering(bytes: &'static str) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut first = String::new();
        reader.read_line(&mut first).ok();
        // To the end of the request: a connection closed before it is read is reset, and the answer with it.
        let mut line = String::from("more");
        while !line.trim_end().is_empty() {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                break;
            }
        }
        if bytes.is_empty() {
            io::copy(&mut reader, &mut io::sink()).ok();
        } else {
            stream.write_all(bytes.as_bytes()).ok();
        }
        first
    });
    (address, thread)
}

fn options() -> Options {
    Options::default()
}

fn said(url: &str, cap: u64) -> String {
    get(url, cap, &options()).unwrap_err().to_string()
}

#[test]
fn a_file_comes_whole_or_not_at_all() {
    let web = Web::new();
    assert_eq!(
        get(&web.url("/file"), 10, &options()).unwrap(),
        b"0123456789"
    );
    let url = web.url("/file");
    assert_eq!(said(&url, 9), format!("{url} is larger than 9 bytes"));
    let url = web.url("/missing");
    assert_eq!(said(&url, 9), format!("{url} answered 404"));
    assert_eq!(said("ftp://a/b", 9), "ftp://a/b is no http or https URL");
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let web = Web::new();
    let moved = get(&web.url("/moved"), 10, &options()).unwrap();
    assert_eq!(moved, b"0123456789");
    let text = said(&web.url("/loop"), 10);
    assert!(text.ends_with("too many redirects"), "{text}");
}

#[test]
fn an_answer_of_unknown_length_is_bounded_too() {
    let (address, thread) = answering("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n0123456789");
    let url = format!("http://{address}/");
    assert_eq!(said(&url, 9), format!("{url} is larger than 9 bytes"));
    thread.join().unwrap();
}

#[test]
fn an_answer_that_breaks_off_is_an_error() {
    let (address, thread) = answering("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n0123456789");
    let text = said(&format!("http://{address}/"), 100);
    assert!(text.starts_with("could not fetch http://127"), "{text}");
    thread.join().unwrap();
}

#[test]
fn a_server_that_says_nothing_is_left() {
    let (address, thread) = answering("");
    let options = Options {
        total: Duration::from_millis(200),
        ..options()
    };
    let error = get(&format!("http://{address}/"), 100, &options).unwrap_err();
    assert!(error.to_string().contains("timeout"), "{error}");
    thread.join().unwrap();
}

#[test]
fn a_proxy_is_asked_unless_the_host_is_excepted() {
    let (address, thread) = answering("HTTP/1.1 502 Bad Gateway\r\n\r\n");
    let web = Web::new();
    let mut options = Options::from_variables(|name| {
        (name == "http_proxy").then(|| format!("http://user:secret@{address}"))
    });
    let error = get("http://example.invalid/x", 10, &options).unwrap_err();
    assert!(error.to_string().contains("CONNECT"), "{error}");
    let asked = thread.join().unwrap();
    assert!(asked.starts_with("CONNECT example.invalid:80 "), "{asked}");
    options.proxies.none = "localhost, 127.0.0.1".to_owned();
    assert!(get(&web.url("/file"), 10, &options).is_ok());
    options.proxies.http = Some("ftp://user:secret@host/".to_owned());
    let error = get(&web.url("/file"), 10, &options).unwrap_err();
    assert_eq!(error.to_string(), "ftp://host/ is no URL of an http proxy");
}

#[test]
fn the_environment_names_proxies_by_scheme() {
    let options = Options::from_variables(|name| match name {
        "ALL_PROXY" => Some("http://all".to_owned()),
        "HTTPS_PROXY" => Some("http://secure".to_owned()),
        "SSL_CERT_FILE" => Some(String::new()),
        _ => None,
    });
    assert_eq!(options.proxies.http.as_deref(), Some("http://all"));
    assert_eq!(options.proxies.https.as_deref(), Some("http://secure"));
    assert_eq!(options.authorities, None);
}

#[test]
fn no_password_is_shown() {
    for (url, expected) in [
        ("https://a:b@c/d@e?f#g", "https://c/d@e?f#g"),
        ("https://a:b@c?x@y", "https://c?x@y"),
        ("http://c", "http://c"),
        ("plain@text", "plain@text"),
    ] {
        assert_eq!(shown(url), expected);
    }
}

/// A server with a certificate of its own.
struct Secure {
    child: Child,
    talk: Option<JoinHandle<()>>,
    port: u16,
}

impl Secure {
    /// Starts OpenSSL's, whose answers are the files of the folder; `None` where it is not installed.
    fn new(folder: &Path) -> Option<Self> {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
            .args(["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-keyout", "key.pem"])
            .args(["-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-out", "cert.pem"])
            .current_dir(folder)
            .stderr(Stdio::null())
            .status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("skipped: openssl is not installed");
            return None;
        }
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-HTTP"])
            .args(["-cert", "cert.pem", "-key", "key.pem"])
            .current_dir(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            let address = line.strip_prefix("ACCEPT ")?.to_owned();
            address.rsplit_once(':')?.1.parse().ok()
        });
        // Its talk is read to the end, or it would wait for somebody to.
        let talk = Some(thread::spawn(move || lines.for_each(drop)));
        let port = port.unwrap();
        Some(Self { child, talk, port })
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}/{path}", self.port)
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if let Some(talk) = self.talk.take() {
            talk.join().ok();
        }
    }
}

#[test]
fn only_a_trusted_authority_vouches_for_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = Secure::new(folder.path()) else {
        return;
    };
    let file = folder.path().join("file");
    std::fs::write(file, "HTTP/1.0 200 OK\r\n\r\n0123456789").unwrap();
    let trusting = Options {
        authorities: Some(folder.path().join("cert.pem")),
        ..options()
    };
    let whole = get(&server.url("file"), 10, &trusting).unwrap();
    assert_eq!(whole, b"0123456789");
    let text = said(&server.url("file"), 10);
    assert!(text.contains("certificate"), "{text}");
    let none = Options {
        authorities: Some(folder.path().join("key.pem")),
        ..options()
    };
    let error = get(&server.url("file"), 10, &none).unwrap_err();
    assert!(error.to_string().starts_with("could not read certificates"));
}

#[test]
fn a_secure_address_never_leads_to_a_plain_one() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = Secure::new(folder.path()) else {
        return;
    };
    let web = Web::new();
    let moved = format!(
        "HTTP/1.0 302 Found\r\nLocation: {}\r\n\r\n",
        web.url("/file")
    );
    std::fs::write(folder.path().join("moved"), moved).unwrap();
    let trusting = Options {
        authorities: Some(folder.path().join("cert.pem")),
        ..options()
    };
    let error = get(&server.url("moved"), 10, &trusting).unwrap_err();
    assert!(error.to_string().contains("https only"), "{error}");
}
