//! The one error of the boot-log reader.

/// A log that cannot be read, with the place and what was expected there.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BootLogError {
    /// A line that memblock or the firmware code wrote is damaged.
    #[error("kernel log, line {line}: found {found:?}, expected {expected}")]
    Line {
        /// Line number, from 1.
        line: usize,
        /// The text of the line, cut to 120 characters.
        found: String,
        /// What the line should look like.
        expected: &'static str,
    },
    /// The log holds nothing that memblock wrote.
    #[error(
        "kernel log of {lines} lines: found no memblock line, expected a boot with memblock=debug on its command line"
    )]
    NoMemblockLines {
        /// Number of lines.
        lines: usize,
    },
    /// Options change the firmware's memory map, which the log does not show, or make too many ranges of it.
    #[error(
        "kernel log: found no memory map that mem= and memmap= could change, expected BIOS-e820 lines and at most 320 ranges"
    )]
    NoFirmwareMap,
    /// Our boot allocator refused a step that sets up the recorded machine.
    #[error("kernel log, line {line}: the recorded state cannot be set up: {reason}")]
    SetUp {
        /// Line number, from 1, that the step belongs to.
        line: usize,
        /// What our allocator said.
        reason: boot_memory::memblock::MemblockError,
    },
}

impl BootLogError {
    pub(super) fn line(line: usize, found: &str, expected: &'static str) -> Self {
        Self::Line { line, found: found.chars().take(120).collect(), expected }
    }
}
