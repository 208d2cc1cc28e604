//! Privileged and special instructions, one function each.
//!
//! The functions are safe where the instruction cannot break memory safety by itself, unsafe where it can.
//! Intel SDM volume 2.

use core::arch::asm;

use units::{PhysAddr, VirtAddr};

/// Writes a byte to an I/O port.
///
/// # Safety
/// The device behind `port` does not write to memory because of it.
pub(crate) unsafe fn out8(port: u16, value: u8) {
    // SAFETY: the caller knows the device.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
}

/// Writes four bytes to an I/O port.
///
/// # Safety
/// The device behind `port` does not write to memory because of it.
pub(crate) unsafe fn out32(port: u16, value: u32) {
    // SAFETY: the caller knows the device.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags)) };
}

/// Reads a byte from an I/O port.
///
/// # Safety
/// The device behind `port` does not write to memory because of it.
pub(crate) unsafe fn in8(port: u16) -> u8 {
    let value;
    // SAFETY: the caller knows the device.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Disables interrupts; returns true if they were enabled.
#[inline]
pub(crate) fn interrupts_save() -> bool {
    let flags: u64;
    // SAFETY: keeping interrupts off breaks nothing; not `nomem`, so memory accesses stay behind it.
    unsafe { asm!("pushfq", "pop {}", "cli", out(reg) flags, options(preserves_flags)) };
    flags & 1 << 9 != 0
}

/// Enables interrupts.
#[inline]
pub(crate) fn interrupts_enable() {
    // SAFETY: handlers for every vector that can arrive are installed before this is called; they preserve all registers.
    unsafe { asm!("sti", options(nostack, preserves_flags)) };
}

/// Stops this CPU for good.
pub(crate) fn halt() -> ! {
    loop {
        // SAFETY: touches no memory.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// Writes a model-specific register.
///
/// # Safety
/// `value` keeps the machine state that compiled code relies on.
pub(crate) unsafe fn write_msr(register: u32, value: u64) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: the caller's contract.
    unsafe { asm!("wrmsr", in("ecx") register, in("eax") low, in("edx") high, options(nostack, preserves_flags)) };
}

/// Reads the faulting address of the last page fault.
pub(crate) fn read_cr2() -> u64 {
    let value;
    // SAFETY: reading CR2 has no side effect.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Enables interrupts and waits for one. NMIs end the wait as well.
pub(crate) fn wait_for_interrupt() {
    // SAFETY: as `interrupts_enable`; `sti` takes effect after `hlt` began, so no wake-up is lost.
    unsafe { asm!("sti", "hlt", "cli", options(nostack, preserves_flags)) };
}

/// Reads the time-stamp counter.
pub(crate) fn rdtsc() -> u64 {
    // SAFETY: reads a counter; CR4.TSD is off.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Executes a full memory barrier.
pub(crate) fn memory_fence() {
    // SAFETY: a barrier.
    unsafe { asm!("mfence", options(nostack, preserves_flags)) };
}

/// Switches to the page tables at `root`.
///
/// # Safety
/// The tables map everything that this CPU reaches as the current ones do.
pub(crate) unsafe fn load_page_table(root: PhysAddr) {
    // SAFETY: the caller's contract.
    unsafe { asm!("mov cr3, {}", in(reg) root.raw(), options(nostack, preserves_flags)) };
}

/// Makes this CPU forget what it knows of the page at `virt`, and of all tables above leaves.
pub(crate) fn invalidate_page(virt: VirtAddr) {
    // SAFETY: drops only what can be read again from the tables.
    unsafe { asm!("invlpg [{}]", in(reg) virt.raw(), options(nostack, preserves_flags)) };
}

/// Makes this CPU forget all translations but those of global pages, which need CR4.PGE.
pub(crate) fn reload_page_table() {
    // SAFETY: loads CR3 with what it holds.
    unsafe { asm!("mov {root}, cr3", "mov cr3, {root}", root = out(reg) _, options(nostack, preserves_flags)) };
}

/// Returns true if the processor has pages of 1 GiB.
pub(crate) fn has_gigabyte_pages() -> bool {
    let highest = core::arch::x86_64::__cpuid(0x8000_0000).eax;
    highest >= 0x8000_0001 && core::arch::x86_64::__cpuid(0x8000_0001).edx & 1 << 26 != 0
}
