//! The local interrupt controller of each CPU, through its memory-mapped page (xAPIC).
//!
//! All CPUs see their own controller at the same address. Intel SDM volume 3, chapter 11.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering};

use units::{PhysAddr, VirtAddr};

use crate::idt::SPURIOUS_VECTOR;
use crate::instructions::{interrupts_enable, interrupts_save, out8};

/// Where the page is at reset, and stays.
pub(crate) const PHYS_BASE: PhysAddr = PhysAddr::new(0xfee0_0000);

const ID: usize = 0x20;
const TASK_PRIORITY: usize = 0x80;
const END_OF_INTERRUPT: usize = 0xb0;
const SPURIOUS: usize = 0xf0;
const COMMAND_LOW: usize = 0x300;
const COMMAND_HIGH: usize = 0x310;
const LVT_TIMER: usize = 0x320;
const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
const TIMER_INITIAL: usize = 0x380;
const TIMER_CURRENT: usize = 0x390;
const TIMER_DIVIDE: usize = 0x3e0;

/// Enables the controller, in the spurious-interrupt register.
const SOFTWARE_ENABLE: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
const TIMER_PERIODIC: u32 = 1 << 17;
/// Encoding of "divide by 16".
const DIVIDE_BY_16: u32 = 0b0011;
const COMMAND_PENDING: u32 = 1 << 12;
const COMMAND_ASSERT: u32 = 1 << 14;

/// Masks all inputs of the two legacy interrupt controllers.
const PIC_DATA_PORTS: [u16; 2] = [0x21, 0xa1];

static BASE: AtomicPtr<u32> = AtomicPtr::new(core::ptr::null_mut());

/// What an inter-processor interrupt does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Message {
    /// Raises a vector.
    Vector(u8),
    /// Raises an NMI.
    Nmi,
    /// Resets the CPU.
    Init,
    /// Starts a reset CPU at the page with this number, in real mode.
    StartUp(u8),
}

impl Message {
    fn command(self) -> u32 {
        COMMAND_ASSERT
            | match self {
                Self::Vector(vector) => u32::from(vector),
                Self::Nmi => 0b100 << 8,
                Self::Init => 0b101 << 8,
                Self::StartUp(page) => 0b110 << 8 | u32::from(page),
            }
    }
}

/// Says where the page is mapped, and silences the legacy controllers.
///
/// # Safety
/// `page` is mapped to [`PHYS_BASE`], uncached or on an emulator that does not cache it, from here on.
pub(crate) unsafe fn set_base(page: VirtAddr) {
    let page = core::ptr::with_exposed_provenance_mut(page.raw() as usize);
    // Relaxed: other CPUs are started after this.
    BASE.store(page, Ordering::Relaxed);
    for port in PIC_DATA_PORTS {
        // SAFETY: the mask register of an interrupt controller, or nothing.
        unsafe { out8(port, 0xff) };
    }
}

/// Returns where a register is, or `None` before [`set_base`].
fn register(offset: usize) -> Option<NonNull<u32>> {
    // Relaxed: see `set_base`.
    NonNull::new(BASE.load(Ordering::Relaxed).wrapping_byte_add(offset))
}

fn read(offset: usize) -> u32 {
    let Some(register) = register(offset) else { return 0 };
    // SAFETY: by `set_base`'s contract the page is mapped; registers are aligned words without side effects on memory.
    unsafe { register.read_volatile() }
}

fn write(offset: usize, value: u32) {
    let Some(register) = register(offset) else { return };
    // SAFETY: as in `read`; what interrupts do is settled by the handlers.
    unsafe { register.write_volatile(value) };
}

/// Turns this CPU's controller on, with every local source masked.
pub(crate) fn enable() {
    write(TASK_PRIORITY, 0);
    for source in [LVT_TIMER, LVT_LINT0, LVT_LINT1] {
        write(source, MASKED);
    }
    write(SPURIOUS, SOFTWARE_ENABLE | u32::from(SPURIOUS_VECTOR));
}

/// Returns the number of this CPU's controller.
pub(crate) fn id() -> u32 {
    read(ID) >> 24
}

/// Tells the controller that the handler of the current interrupt is done.
pub(crate) fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// Sends `message` to the CPU whose controller has number `target`.
///
/// Keeps interrupts off meanwhile, since the command takes two writes.
pub(crate) fn send(target: u32, message: Message) {
    let enabled = interrupts_save();
    write(COMMAND_HIGH, target << 24);
    write(COMMAND_LOW, message.command());
    while read(COMMAND_LOW) & COMMAND_PENDING != 0 {
        core::hint::spin_loop();
    }
    if enabled {
        interrupts_enable();
    }
}

/// Starts this CPU's timer: an interrupt on `vector` every `ticks`.
pub(crate) fn start_periodic_timer(vector: u8, ticks: u32) {
    write(TIMER_DIVIDE, DIVIDE_BY_16);
    write(LVT_TIMER, TIMER_PERIODIC | u32::from(vector));
    write(TIMER_INITIAL, ticks);
}

/// Stops this CPU's timer.
pub(crate) fn stop_timer() {
    write(LVT_TIMER, MASKED);
    write(TIMER_INITIAL, 0);
}

/// Counts the timer's ticks while `wait` runs.
pub(crate) fn count_ticks(wait: impl FnOnce()) -> u32 {
    write(TIMER_DIVIDE, DIVIDE_BY_16);
    write(LVT_TIMER, MASKED);
    write(TIMER_INITIAL, u32::MAX);
    wait();
    let ticks = u32::MAX - read(TIMER_CURRENT);
    write(TIMER_INITIAL, 0);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_encode_their_delivery_mode() {
        assert_eq!(Message::Vector(0x41).command(), 0x4041);
        assert_eq!(Message::Nmi.command(), 0x4400);
        assert_eq!(Message::StartUp(8).command(), 0x4608);
    }
}
