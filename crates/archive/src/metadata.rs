//! TUF metadata: signed envelopes and the four bodies (specification section 4).

mod bodies;
mod content;
mod envelope;
mod pattern;

pub use bodies::{
    DelegatedRole, Delegations, FileMeta, RoleKeys, Root, Snapshot, TargetFile, Targets, Timestamp,
    TopRoles,
};
pub use content::{Unequal, compare};
pub use envelope::{Body, Envelope, MetadataError, Signature, Unsigned};

/// The specification our files name. Any 1.x is read.
pub const SPEC_VERSION: &str = "1.0.31";
