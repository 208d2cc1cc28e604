//! /proc/PID/statm: memory of a process in pages, on one line.
//!
//! Linux 6.12: fs/proc/array.c (`proc_pid_statm`), fs/proc/task_mmu.c (`task_statm`).

use core::fmt;

/// The file. All values are pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statm {
    /// Mapped.
    pub size: u64,
    /// In memory.
    pub resident: u64,
    /// In memory, of files or shared memory.
    pub shared: u64,
    /// The program's code.
    pub text: u64,
    /// Private and writable, with stacks.
    pub data: u64,
}

impl fmt::Display for Statm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, resident, shared, text, data } = self;
        // Libraries and dirty pages are no longer told.
        writeln!(f, "{size} {resident} {shared} {text} 0 {data} 0")
    }
}
