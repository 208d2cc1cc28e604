//! The order of the boot, from the entry code to the end of the run.

use units::{CpuId, PhysAddr};

use crate::console::print_line;
use crate::cpu_area::{CpuArea, this_cpu};
use crate::exit::{self, Outcome};
use crate::{idt, serial};

/// Where the image lies in physical memory.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// First byte.
    pub start: PhysAddr,
    /// End of the executable part.
    pub text_end: PhysAddr,
    /// End of the read-only part.
    pub rodata_end: PhysAddr,
    /// End of the image with its zeroed data.
    pub end: PhysAddr,
    /// Top table of the boot page tables.
    pub boot_page_table: PhysAddr,
}

/// What the entry code hands over.
#[derive(Clone, Copy, Debug)]
pub struct BootArguments {
    /// Layout of the image.
    pub image: Image,
    /// Address of hvm_start_info.
    pub start_info: PhysAddr,
}

/// Boots the machine, does what the command line asks for and ends the run.
///
/// # Safety
/// Called once, on the boot CPU, in long mode on the boot page tables, with interrupts off and no other CPU running.
/// `arguments` are true.
pub unsafe fn start(arguments: BootArguments) -> ! {
    serial::init();
    let Some(area) = CpuArea::of(CpuId::ZERO) else { exit::exit(Outcome::Fail) };
    // SAFETY: the boot CPU, once, with interrupts off.
    unsafe { area.load() };
    // SAFETY: called once, before any other CPU runs.
    unsafe { idt::fill_table() };
    // SAFETY: filled, and the area is loaded.
    unsafe { idt::load_table() };
    print_line!(this_cpu(), "mmkit on bare x86-64: {arguments:?}");
    exit::exit(Outcome::Pass)
}
