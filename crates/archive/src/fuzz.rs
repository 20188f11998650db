//! Entry points for fuzzing: any bytes, never a panic.

use crate::client::Floor;
use crate::client::trusted;
use crate::index::KernelIndex;
use crate::metadata::{Envelope, Root, Snapshot, Targets, Timestamp};
use tuxtape_core::identity::Arch;

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
