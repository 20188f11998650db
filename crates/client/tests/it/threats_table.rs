//! The table, and servers that misbehave.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

/// Rows of case, expectation and what was seen.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<(u32, String, bool)>,
}

impl Table {
    pub(crate) fn row(&mut self, number: u32, case: &str, must: &str, seen: &str, good: bool) {
        let mut seen: String = seen.chars().take(170).collect();
        seen = seen.replace('|', "/").replace('\n', " ");
        let mark = if good { "yes" } else { "NO" };
        let line = format!("| {number} | {case} | {must} | {seen} | {mark} |");
        self.rows.push((number, line, good));
    }

    pub(crate) fn text(&self) -> String {
        let mut rows = self.rows.clone();
        rows.sort_by_key(|row| row.0);
        let lines: Vec<String> = rows.into_iter().map(|row| row.1).collect();
        format!(
            "| # | case | expected | seen | as expected |\n|---|---|---|---|---|\n{}",
            lines.join("\n")
        )
    }

    pub(crate) fn wrong(&self) -> Vec<String> {
        let wrong = self.rows.iter().filter(|row| !row.2);
        wrong.map(|row| row.1.clone()).collect()
    }
}

/// Starts a server that does with every connection what it likes; returns its URL.
pub(crate) fn hostile(serve: impl Fn(&mut TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            stream.set_write_timeout(Some(Duration::from_secs(30))).ok();
            let mut head = [0; 2048];
            if stream.read(&mut head).is_ok() {
                serve(&mut stream);
            }
        }
    });
    url
}

/// Starts a server of a public tree that answers some paths in its own way.
pub(crate) fn http(
    public: PathBuf,
    own: impl Fn(&str) -> Option<Vec<u8>> + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = [0; 2048];
            let Ok(length) = stream.read(&mut head) else {
                continue;
            };
            let text = String::from_utf8_lossy(&head[..length]).into_owned();
            let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
            let answer = own(&path).unwrap_or_else(|| {
                match fs::read(public.join(path.trim_start_matches('/'))) {
                    Ok(bytes) => {
                        let length = bytes.len();
                        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n").into_bytes();
                        answer.extend(bytes);
                        answer
                    }
                    Err(_) => b"HTTP/1.1 404 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
                }
            });
            stream.write_all(&answer).ok();
        }
    });
    url
}
