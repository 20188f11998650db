//! One module per subcommand: its arguments and what it prints.

pub mod archive;
pub mod completions;
pub mod cve;
pub mod demo;
pub mod export;
pub mod fix;
pub mod gauge;
pub mod kernel;
pub mod log;
pub mod man;
pub mod notice;
pub mod patch;
pub mod rollout;
pub mod scan;
