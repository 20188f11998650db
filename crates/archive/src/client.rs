//! The workflow of a client (specification section 5): bytes in, trusted metadata or a typed refusal
//! out.

pub mod floor;
pub mod store;
pub mod trusted;
pub mod update;

pub use floor::Floor;
pub use store::{DiskStore, MemoryStore, Store, StoreError, Stored};
pub use trusted::Refusal;
pub use update::{Session, UpdateError, fetch_target, local, refresh};
