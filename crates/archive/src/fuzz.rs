//! Entry points for fuzzing: any bytes, never a panic.

use tuxtape_core::identity::Arch;
use tuxtape_core::rollout::WHOLE;

use crate::client::{Floor, trusted};
use crate::hold::{Caps, Hold};
use crate::index::KernelIndex;
use crate::metadata::{Envelope, Root, Snapshot, Targets, Timestamp};
use crate::publish::bundle::tar;

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
        if let Ok(index) = KernelIndex::read(&targets, Arch::X86_64, &release) {
            let waves = index.kernels.iter().flat_map(|kernel| &kernel.levels);
            for waves in waves.filter_map(|level| level.waves.as_ref()) {
                let open = waves.open_ppm(waves.start.plus(90_000));
                assert!(
                    open == 0 || waves.check().is_ok(),
                    "a malformed schedule opens to nobody"
                );
            }
        }
        if let Ok(caps) = Caps::read(&targets) {
            let hold = Hold::Caps(caps);
            let share = hold.share("t", None, targets.expires);
            assert!(share.ppm() <= WHOLE, "a cap never widens");
        }
        for role in targets.delegations.iter().flat_map(|d| &d.roles) {
            role.owns("tt__x86_64__6.1.0__2f4c1d0a9b33__7.ko");
        }
    }
}

/// Reads anything as a bundle.
pub fn bundle(bytes: &[u8]) {
    let mut reader = tar::Reader::new(bytes);
    let mut total = 0;
    while let Ok(Some((name, content))) = reader.entry(|name| (name.len() < 300).then_some(4096)) {
        assert!(content.len() <= 4096, "no entry is larger than allowed");
        total += content.len() + name.len();
    }
    // A name may come twice as long as its bytes in the file, never more.
    assert!(total <= bytes.len() * 2, "nothing comes from nowhere");
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn no_cut_or_changed_bundle_makes_the_reader_panic() {
        let seed = fs::read(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/archive_bundle/small.tar"),
        )
        .unwrap();
        bundle(&seed);
        for at in (0..seed.len()).step_by(3) {
            bundle(&seed[..at]);
            let mut changed = seed.clone();
            for byte in [0, b'7', b'x', 0xff] {
                changed[at] = byte;
                bundle(&changed);
            }
        }
    }

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
