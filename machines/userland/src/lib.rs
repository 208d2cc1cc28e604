//! Linux programs on the memory manager: tasks, files, signals, and the system-call interface of x86-64.
//!
//! [`Userland`] is one value a machine, generic over it. The machine enters programs and comes back with a [`Trap`]; everything else is here and
//! runs hosted as well, where a test plays the program.
//!
//! A call that has to wait does not keep a stack: it returns what it waits for, and is made again from its registers once that happened. So a machine needs
//! one kernel stack a CPU, any thread runs on any CPU, and a test can look at a waiting thread as plain data.
//!
//! Locking: one lock, `World`'s, around all tables of processes and files. It is never held while the memory of a program or the
//! contents of a file are touched, so faults and calls on address spaces run beside each other. A bad address of a program is EFAULT.
//! Memory: `alloc`'s vectors only, grown by `try_reserve`; see `slots`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod calls;
mod cpio;
mod elf;
mod errno;
mod exec;
mod files;
mod init;
mod khugepaged;
mod machine;
mod managed;
mod memory;
mod process;
mod registers;
mod schedule;
mod signals;
mod slots;
mod thread;
mod user_memory;
mod userland;
mod wait;
mod world;

pub use errno::Errno;
pub use init::{InitError, Program};
pub use machine::Machine;
pub use managed::ManagedMemory;
pub use memory::{Fault, Memory, SpaceCall};
pub use registers::{Entry, FX_BYTES, FloatingPoint, Registers, Trap};
pub use schedule::{Leaving, Next, Step};
pub use slots::Owned;
pub use thread::Thread;
pub use userland::Userland;
