//! The engine on small units of our own, compiled as the kernel compiles its units.

mod beyond;
mod compiler;
mod emission;
mod garbled;
mod kernel;
mod layouts;
mod lint;
mod live;
mod properties;
mod published;
mod rules;
mod shuffle;
mod traps;
