//! The only place for processes, git, memory maps, files that must survive power loss, and kernel
//! interfaces.
#![warn(missing_docs)]

pub mod background;
pub mod durable;
pub mod editor;
#[cfg(feature = "fetch")]
pub mod fetch;
pub mod git;
#[cfg(feature = "fetch")]
pub mod gzip;
pub mod kernel;
pub mod lock;
pub mod map;
pub mod process;
pub mod regular;
pub mod slots;
pub mod space;
pub mod terminal;
pub mod url;
pub mod watch;
