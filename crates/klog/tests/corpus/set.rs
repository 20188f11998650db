//! The public set of kernel reports, read from beside the repository.

use std::env;
use std::fs;
use std::path::PathBuf;

#[derive(serde::Deserialize)]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) log: String,
    pub(crate) log_b64: Option<String>,
    pub(crate) title: String,
    pub(crate) alt: Vec<String>,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) corrupted: bool,
    pub(crate) suppressed: bool,
    pub(crate) frame: String,
    #[serde(default)]
    pub(crate) panicked: bool,
    pub(crate) start: Option<String>,
    pub(crate) scope: String,
}

impl Case {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.log_b64
            .as_deref()
            .map_or_else(|| self.log.clone().into_bytes(), from_base64)
    }
}

fn from_base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        held = held << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).unwrap());
        }
    }
    bytes
}

pub(crate) fn cases() -> Option<Vec<Case>> {
    let folder = env::var_os("TUXTAPE_CORPUS").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../../shared/corpus"
            ))
        },
        PathBuf::from,
    );
    let path = folder.join("klog/dev.jsonl");
    let Ok(text) = fs::read_to_string(&path) else {
        eprintln!("skipped: no {}", path.display());
        return None;
    };
    Some(
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}
