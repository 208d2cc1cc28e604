//! The targets: one a parser, in a file for each crate that has parsers.
//!
//! A target returns what came of the input as text, so that errors' messages are made as well.

mod boot_memory;
mod firmware_tables;
mod machines;
mod proc_files;
mod recordings;

use std::fmt::Display;

use crate::corpus::Seed;

/// A parser under attack.
pub(crate) struct Target {
    /// Name on the command line.
    pub(crate) name: &'static str,
    /// Good inputs to start from.
    pub(crate) seeds: &'static [Seed],
    /// Words of the format.
    pub(crate) tokens: &'static [&'static str],
    /// Feeds the parser and returns the outcome.
    pub(crate) run: fn(&[u8]) -> String,
}

/// Every target.
pub(crate) const TARGETS: &[&Target] = &[
    &boot_memory::E820_LOG,
    &boot_memory::IOMEM,
    &boot_memory::BOOT_OPTIONS,
    &firmware_tables::ACPI,
    &firmware_tables::PVH,
    &firmware_tables::DEVICETREE,
    &machines::MACHINE_FILE,
    &proc_files::BUDDYINFO,
    &proc_files::PAGETYPEINFO,
    &proc_files::ZONEINFO,
    &proc_files::VMSTAT,
    &proc_files::MEMINFO,
    &proc_files::IOMEM,
    &proc_files::SLABINFO,
    &proc_files::VMALLOCINFO,
    &proc_files::PAGE_RUNS,
    &proc_files::MAPS,
    &proc_files::SMAPS,
    &proc_files::STATUS,
    &proc_files::NUMA_MAPS,
    &proc_files::PAGEMAP,
    &proc_files::STATM,
    &proc_files::LOG,
    &recordings::PAGE_TRACE,
    &recordings::PROCESS_TRACE,
    &recordings::PROCESS_COUNTS,
    &recordings::PFN_KINDS,
    &recordings::BOOT_LOG,
    &recordings::INITIAL_STATE,
];

/// `Ok` as one word, an error as its message.
fn outcome<T, E: Display>(result: Result<T, E>) -> String {
    match result {
        Ok(_) => "accepted".to_string(),
        Err(error) => error.to_string(),
    }
}
