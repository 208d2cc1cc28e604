//! The kernel image: PVH entry, the symbols that a freestanding link has to supply, and the panic handler.
//!
//! Everything else is in the library, which the host can check and test.
#![no_std]
#![no_main]

mod entry;
mod link_symbols;

use core::panic::PanicInfo;

use units::PhysAddr;
use x86_64_machine::BootArguments;

#[global_allocator]
static HEAP: x86_64_machine::Heap = x86_64_machine::Heap;

/// First Rust code, called by `entry` in long mode on the boot stack with interrupts off.
extern "C" fn rust_entry(start_info: u32) -> ! {
    let image = link_symbols::image();
    // SAFETY: called once by the entry code, on the only running CPU, with the address that the PVH loader passed.
    unsafe { x86_64_machine::start(BootArguments { image, start_info: PhysAddr::new(u64::from(start_info)) }) }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    x86_64_machine::die(format_args!("{info}"))
}
