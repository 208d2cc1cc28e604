//! Readers of what real kernels recorded.
//!
//! Hosted (standard library): used by the `mmkit` command and by tests. Foreign input never panics; every reader returns one
//! error that says where and what was expected.
#![forbid(unsafe_code)]

pub mod boot_log;
mod fields;
mod input_error;
mod lines;
mod node_files;
pub mod pages;
pub mod processes;

pub use node_files::{CpuList, NodeDistances};
