//! Composition root: a [`Kernel`] is one machine's memory management, booted and running.
//!
//! Boot goes from memblock through zones, descriptors and zonelists to a page allocator that has all free memory; every machine,
//! hosted or bare, calls [`Kernel::boot`]. A kernel is a value: several live side by side.
#![no_std]
#![forbid(unsafe_code)]

mod background;
mod boot;
mod config;
mod errno;
mod error;
mod handover;
mod kernel;
mod line_log;
mod memmap;
mod mm;
mod object_files;
mod percpu;
mod proc_view;
mod report;
mod settings;
mod tables;
mod vm_files;
mod vmallocinfo;

pub use config::{BootConfig, Deferral, HandOver};
pub use errno::errno;
pub use error::BootError;
pub use kernel::Kernel;
pub use mm::{
    AreaNames, BadUserAddress, CacheNames, Dirtied, FileLabel, FrameNumbers, HeldPage, HugeFile, KhugepagedScan,
    MappedFiles, MemoryManager, MigrateError, MmCall, PinnedPage, ProcMm, Reach, References, ScanStop, UnmapError,
};
pub use proc_view::ProcView;
pub use vm_files::{VmFile, VmSettings};
