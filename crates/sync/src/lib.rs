//! Locks that carry their rank, CPU tokens and per-CPU cells.
//!
//! Lock order: [`rank`], stated nowhere else. Every lock takes the [`Cpu`] it is taken on, which keeps interrupts off while it
//! is held and, in debug builds, panics on an inversion of ranks.
#![no_std]

mod atomic;
mod cpu;
mod owner_cell;
mod reader_cell;
mod set_once;
mod spin_lock;

pub use cpu::{Cpu, IrqControl};
pub use owner_cell::{OwnerCell, OwnerGuard};
pub use reader_cell::{ReadSection, ReaderCell};
pub use set_once::SetOnce;
pub use spin_lock::{SpinGuard, SpinLock, rank};
