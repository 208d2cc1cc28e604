//! A call on an address space.

use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;

use crate::backing::{PageTables, Pager};
use crate::limits::Process;
use crate::mm::MmWrite;
use crate::spaces::AddressSpaces;

/// A call on an address space: who makes it, where, and what lies below. The address space stays locked as long as it lives.
#[derive(Debug)]
pub struct Call<'a, 'k, P: Platform, H: Hooks, B: PageTables + Pager> {
    /// The address space, locked for writing.
    pub mm: MmWrite<'a, 'k>,
    /// What it shares with others.
    pub spaces: &'a AddressSpaces<'k, P, H>,
    /// The CPU that the call runs on.
    pub cpu: &'a Cpu,
    /// Who calls.
    pub process: &'a Process,
    /// Page tables and files.
    pub backing: B,
}
