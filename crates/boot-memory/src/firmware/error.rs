//! The error of all firmware parsers: which input, where in it, and what is wrong there.

use core::fmt;

use units::PhysAddr;

/// What was being read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input {
    /// BIOS-e820 lines of a kernel log.
    KernelLog,
    /// Text of /proc/iomem.
    Iomem,
    /// The start information of a PVH boot.
    Pvh,
    /// The ACPI root pointer.
    AcpiRoot,
    /// An ACPI table, by its signature.
    AcpiTable([u8; 4]),
    /// A flattened devicetree.
    Devicetree,
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KernelLog => f.write_str("kernel log"),
            Self::Iomem => f.write_str("/proc/iomem"),
            Self::Pvh => f.write_str("PVH start info"),
            Self::AcpiRoot => f.write_str("ACPI root pointer"),
            Self::AcpiTable(signature) => write!(f, "ACPI table {}", signature.escape_ascii()),
            Self::Devicetree => f.write_str("devicetree"),
        }
    }
}

/// Where in the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Line of a text, from 1.
    Line(u32),
    /// Byte offset from the start of the table or blob.
    Byte(u64),
    /// Physical address.
    Phys(PhysAddr),
    /// The input as a whole.
    Whole,
}

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    /// The input ends before this.
    Truncated(&'static str),
    /// This was expected and something else is there.
    Expected(&'static str),
    /// The bytes of a table do not add up to zero.
    Checksum,
    /// More of these than the structure has room for.
    TooMany(&'static str),
    /// The machine cannot read this physical address.
    Unreadable,
}

/// A firmware input that cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FirmwareError {
    /// What was being read.
    pub input: Input,
    /// Where in it.
    pub at: Place,
    /// What is wrong there.
    pub problem: Problem,
}

impl fmt::Display for FirmwareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.input.fmt(f)?;
        match self.at {
            Place::Line(line) => write!(f, ", line {line}: ")?,
            Place::Byte(offset) => write!(f, ", byte {offset:#x}: ")?,
            Place::Phys(at) => write!(f, ", physical address {:#x}: ", at.raw())?,
            Place::Whole => f.write_str(": ")?,
        }
        match self.problem {
            Problem::Truncated(what) => write!(f, "ends before {what}"),
            Problem::Expected(what) => write!(f, "expected {what}"),
            Problem::Checksum => f.write_str("expected bytes that add up to zero (checksum)"),
            Problem::TooMany(what) => write!(f, "expected no more {what}: there is no room for them"),
            Problem::Unreadable => f.write_str("expected readable memory"),
        }
    }
}

impl core::error::Error for FirmwareError {}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    #[test]
    fn an_error_names_input_place_and_expectation() {
        let error = FirmwareError {
            input: Input::AcpiTable(*b"SRAT"),
            at: Place::Byte(0x30),
            problem: Problem::Truncated("a memory affinity entry of 40 bytes"),
        };
        assert_eq!(error.to_string(), "ACPI table SRAT, byte 0x30: ends before a memory affinity entry of 40 bytes");
    }
}
