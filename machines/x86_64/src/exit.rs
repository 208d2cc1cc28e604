//! Ending the machine: QEMU's isa-debug-exit device, and the last words of a CPU that cannot go on.
//!
//! A code c written to the device ends QEMU with exit status 2c + 1.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::console;
use crate::instructions::{halt, out32};

/// Port that `cargo xtask qemu` gives the device.
const DEBUG_EXIT: u16 = 0xf4;

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Outcome {
    /// Everything that was asked for was done and checked.
    Pass = 0x10,
    /// A check failed; the log says which.
    Fail = 0x11,
    /// A panic or an exception.
    Died = 0x12,
}

/// Ends the run.
pub(crate) fn exit(outcome: Outcome) -> ! {
    // SAFETY: the device ends the emulator; without it nothing listens on the port.
    unsafe { out32(DEBUG_EXIT, outcome as u32) };
    halt()
}

/// Prints `reason` and ends the run as failed; works in any state of the machine.
///
/// Of several CPUs that die together the first one speaks.
pub fn die(reason: fmt::Arguments<'_>) -> ! {
    static DYING: AtomicBool = AtomicBool::new(false);
    // Relaxed: only decides who prints; nothing is published with it.
    if DYING.swap(true, Ordering::Relaxed) {
        halt();
    }
    console::write_line_unlocked(format_args!("\nKernel panic - not syncing: {reason}"));
    exit(Outcome::Died)
}
