//! Locks that carry their rank, CPU tokens and per-CPU cells.
//!
//! Lock order: [`rank`], stated nowhere else. Every lock takes the [`Cpu`] it is taken on, which in debug builds panics on an
//! inversion of ranks. A [`SpinLock`] keeps interrupts off while it is held, an [`RwSpinLock`] does not.
#![no_std]

mod atomic;
mod cpu;
mod owner_cell;
mod part_lock;
mod reader_cell;
mod rw_spin_lock;
mod set_once;
mod spin_lock;
mod use_count;

pub use cpu::{Cpu, IrqControl};
pub use owner_cell::{OwnerCell, OwnerGuard};
pub use part_lock::{PartHold, PartLock, TurnCount};
pub use reader_cell::{ReadSection, ReaderCell};
pub use rw_spin_lock::{RwReadGuard, RwSpinLock, RwWriteGuard};
pub use set_once::SetOnce;
pub use spin_lock::{SpinGuard, SpinLock, rank};
pub use use_count::UseCount;
