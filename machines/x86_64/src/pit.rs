//! The legacy interval timer's channel 0 as a stopwatch, for calibration and for the delays of starting a CPU.
//!
//! Channel 0 because microvm has no speaker port, which gates channel 2; its interrupt is masked. Used by one CPU at a time,
//! at boot. Intel 8254.

use crate::instructions::{in8, out8};

const FREQUENCY_HZ: u64 = 1_193_182;
const CHANNEL_0: u16 = 0x40;
const COMMAND: u16 = 0x43;
/// Channel 0, low then high byte, mode 0 (output rises at the end of the count).
const ONE_SHOT: u8 = 0x30;
/// Latches the status of channel 0.
const READ_STATUS: u8 = 0xe2;
/// In the status: the output is high.
const OUTPUT: u8 = 1 << 7;
/// In the status: the count that was written does not run yet.
const NULL_COUNT: u8 = 1 << 6;
/// Polls after which the timer is taken to be missing; a poll takes about a microsecond on hardware.
const MAX_POLLS: u32 = 50_000_000;

/// The interval timer does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoTimer;

/// Waits for `micros` microseconds, at most 54,000.
///
/// # Errors
/// [`NoTimer`] if the count does not end.
pub(crate) fn wait(micros: u64) -> Result<(), NoTimer> {
    let [low, high] = count(micros).to_le_bytes();
    set(COMMAND, ONE_SHOT);
    set(CHANNEL_0, low);
    set(CHANNEL_0, high);
    for _ in 0..MAX_POLLS {
        set(COMMAND, READ_STATUS);
        match port(CHANNEL_0) {
            // A bus without the timer reads as ones.
            u8::MAX => return Err(NoTimer),
            status if status & (OUTPUT | NULL_COUNT) == OUTPUT => return Ok(()),
            _ => (),
        }
    }
    Err(NoTimer)
}

/// Returns the counter value for a time, or the largest.
fn count(micros: u64) -> u16 {
    u16::try_from(micros.saturating_mul(FREQUENCY_HZ) / 1_000_000).unwrap_or(u16::MAX)
}

fn port(port: u16) -> u8 {
    // SAFETY: the interval timer has no access to memory.
    unsafe { in8(port) }
}

fn set(port: u16, value: u8) {
    // SAFETY: the interval timer has no access to memory.
    unsafe { out8(port, value) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_counts_and_long_ones_saturate() {
        assert_eq!(count(10_000), 11_931);
        assert_eq!(count(1_000_000), u16::MAX);
    }
}
