//! The hosted machine: a computer's physical memory, CPUs and interrupts inside one process.
//!
//! Used by the `mmkit` command, the tests and programs that embed the memory manager. Several machines live in one process
//! and share nothing.
