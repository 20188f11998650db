//! The signed archive: TUF metadata, the publisher, and the workflow of a client.
//!
//! Written after the TUF specification 1.0.34 (<https://theupdateframework.github.io/specification/>);
//! comments name its sections. Synchronous; the time is always an argument.
#![warn(missing_docs)]

pub mod canonical;
pub mod client;
pub mod fuzz;
pub mod hold;
pub mod index;
pub mod keys;
pub mod metadata;
pub mod names;
pub mod policy;
pub mod publish;
pub mod sample;
#[cfg(feature = "serve")]
pub mod serve;
pub mod source;
pub use tuxtape_core::instant as time;
pub mod words;
