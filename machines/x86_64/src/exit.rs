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
pub(crate) enum Outcome {
    /// Everything that was asked for was done and checked.
    Pass,
    /// A check failed; the log says which.
    Fail,
    /// A panic or an exception.
    Died,
    /// The first program ended with this code.
    Program(u8),
}

/// First code of programs' ends: exit code 1 is one above. QEMU's exit status has room for codes up to 127.
const PROGRAM: u32 = 0x40;
/// Largest exit code that has a code of its own; larger ones share it, and the log says which it was.
const MAX_PROGRAM_CODE: u32 = 0x3f;

impl Outcome {
    fn code(self) -> u32 {
        match self {
            Self::Pass | Self::Program(0) => 0x10,
            Self::Fail => 0x11,
            Self::Died => 0x12,
            Self::Program(code) => PROGRAM + u32::from(code).min(MAX_PROGRAM_CODE),
        }
    }
}

/// Ends the run.
pub(crate) fn exit(outcome: Outcome) -> ! {
    // SAFETY: the device ends the emulator; without it nothing listens on the port.
    unsafe { out32(DEBUG_EXIT, outcome.code()) };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_a_program_that_worked_is_that_of_a_passed_run() {
        assert_eq!(Outcome::Program(0).code(), Outcome::Pass.code());
        assert_eq!((Outcome::Program(1).code(), Outcome::Program(255).code()), (0x41, 0x7f));
    }
}
