//! The first serial port (16550A at 0x3f8), polled.
//!
//! Locking: none here; `console` serialises whole lines.

use core::fmt;

use crate::instructions::{in8, out8};

const DATA: u16 = 0x3f8;
const INTERRUPT_ENABLE: u16 = DATA + 1;
const FIFO_CONTROL: u16 = DATA + 2;
const LINE_CONTROL: u16 = DATA + 3;
const LINE_STATUS: u16 = DATA + 5;
/// Divisor latch access in the line control register.
const DIVISOR_LATCH: u8 = 0x80;
/// Eight data bits, no parity, one stop bit.
const EIGHT_N_ONE: u8 = 0x03;
/// Transmit holding register empty, in the line status register.
const TRANSMIT_EMPTY: u8 = 0x20;
/// Polls of the line status before a byte is given up; a missing port must not hang the machine.
const MAX_POLLS: u32 = 100_000;

/// Sets 115,200 baud, eight bits, no interrupts, FIFOs on.
pub(crate) fn init() {
    let settings = [
        (INTERRUPT_ENABLE, 0),
        (LINE_CONTROL, DIVISOR_LATCH),
        (DATA, 1),
        (INTERRUPT_ENABLE, 0),
        (LINE_CONTROL, EIGHT_N_ONE),
        (FIFO_CONTROL, 0x07),
    ];
    for (port, value) in settings {
        // SAFETY: the port belongs to a 16550A, which has no DMA, or to nothing.
        unsafe { out8(port, value) };
    }
}

/// The port as a text sink; `\n` goes out as `\r\n`.
pub(crate) struct Serial;

impl Serial {
    fn put(byte: u8) {
        for _ in 0..MAX_POLLS {
            // SAFETY: the line status register has no side effect on memory.
            if unsafe { in8(LINE_STATUS) } & TRANSMIT_EMPTY != 0 {
                break;
            }
        }
        // SAFETY: a 16550A's data register has no side effect on memory.
        unsafe { out8(DATA, byte) };
    }
}

impl Serial {
    /// Writes bytes; `\n` goes out as `\r\n`.
    pub(crate) fn write_bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                Self::put(b'\r');
            }
            Self::put(byte);
        }
    }
}

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write_bytes(text.as_bytes());
        Ok(())
    }
}
