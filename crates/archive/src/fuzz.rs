//! Entry points for fuzzing: any bytes, never a panic.

use tuxtape_core::identity::Arch;

use crate::client::{Floor, trusted};
use crate::index::KernelIndex;
use crate::metadata::{Envelope, Root, Snapshot, Targets, Timestamp};

/// Reads anything as every kind of metadata.
pub fn metadata(bytes: &[u8]) {
    trusted::root(bytes, "root.json").ok();
    Floor::from_bytes(bytes);
    let Ok(envelope) = Envelope::parse(bytes, 1 << 20) else {
        return;
    };
    let again = Envelope::parse(&envelope.to_bytes(), 1 << 24);
    assert_eq!(again.as_ref(), Ok(&envelope), "what we write we can read");
    envelope.body::<Root>().ok();
    envelope.body::<Timestamp>().ok();
    envelope.body::<Snapshot>().ok();
    if let Ok(targets) = envelope.body::<Targets>() {
        let release = "6.1.0-47-cloud-amd64".parse().expect("a release");
        KernelIndex::read(&targets, Arch::X86_64, &release).ok();
        for role in targets.delegations.iter().flat_map(|d| &d.roles) {
            role.owns("tt__x86_64__6.1.0__2f4c1d0a9b33__7.ko");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn no_cut_or_changed_seed_makes_a_reader_panic() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/tuf_metadata");
        for entry in fs::read_dir(seeds).unwrap() {
            let seed = fs::read(entry.unwrap().path()).unwrap();
            metadata(&seed);
            for at in (0..seed.len()).step_by(7) {
                metadata(&seed[..at]);
                let mut changed = seed.clone();
                for byte in [0, b'"', b'{', b'9', b'-', 0xff] {
                    changed[at] = byte;
                    metadata(&changed);
                }
            }
        }
    }
}
