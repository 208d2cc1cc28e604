//! Lines of text on the serial port, whole even when several CPUs print.
//!
//! Locking: `CONSOLE` has `sync`'s highest rank, so anything may print; a dying CPU goes round it.

use core::fmt::{self, Write};

use boot_memory::memblock::BootLog;
use sync::{Cpu, SpinLock, rank};

use crate::cpu_area::this_cpu;
use crate::serial::Serial;

static CONSOLE: SpinLock<{ rank::LEAF }, Serial> = SpinLock::new(Serial);

/// Prints one line.
pub(crate) fn write_line(cpu: &Cpu, text: fmt::Arguments<'_>) {
    let mut serial = CONSOLE.lock(cpu);
    // The serial port cannot fail; a formatter of ours that fails has nobody to report to.
    let _ = writeln!(serial, "{text}");
}

/// Prints one line without the lock: for a CPU that is about to stop the machine and may hold it.
pub(crate) fn write_line_unlocked(text: fmt::Arguments<'_>) {
    let _ = writeln!(Serial, "{text}");
}

/// Writes bytes of a program, as they are but for line ends.
pub(crate) fn write_bytes(cpu: &Cpu, bytes: &[u8]) {
    CONSOLE.lock(cpu).write_bytes(bytes);
}

/// The console as the kernel log of boot code.
pub(crate) struct ConsoleLog;

impl BootLog for ConsoleLog {
    fn line(&mut self, args: fmt::Arguments<'_>) {
        write_line(this_cpu(), args);
    }
}

/// Text with its own line ends; pieces of other CPUs' lines may come between its pieces.
impl fmt::Write for ConsoleLog {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        CONSOLE.lock(this_cpu()).write_str(text)
    }
}

/// Prints one formatted line on CPU `$cpu`.
macro_rules! print_line {
    ($cpu:expr, $($text:tt)*) => { $crate::console::write_line($cpu, format_args!($($text)*)) };
}
pub(crate) use print_line;
