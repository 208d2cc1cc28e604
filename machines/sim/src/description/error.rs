//! Why a machine description is refused.

use std::fmt;

use boot_memory::firmware::FirmwareError;
use units::{NodeId, PhysRange};

/// A machine description that cannot be used: which file, where in it, and why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{file}{at}: {fault}", at = AtLine(*.line))]
pub struct DescriptionError {
    /// Name of the file, or of the ready machine.
    pub file: String,
    /// Line in it, from 1; `None` if the fault names the place itself or is about the whole.
    pub line: Option<usize>,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong with a machine description.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// Not TOML, or not of the described form; the text says what was expected.
    #[error("{0}")]
    Syntax(String),
    /// A devicetree or a /proc/iomem that cannot be read.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    /// Bytes of none of the forms that a description has.
    #[error(
        "byte {0:#x}: expected text in UTF-8 (TOML or /proc/iomem), or a devicetree, which starts with the bytes d0 0d fe ed"
    )]
    NoText(usize),
    /// The nodes of a devicetree are not numbered one by one.
    #[error("expected node numbers from 0 without gaps; found {0}")]
    NodeNumber(NodeId),
    /// A page size that the architecture does not have.
    #[error("expected a page size that {0} has")]
    PageSize(&'static str),
    /// No node, or more than the memory manager has room for.
    #[error("expected 1 to {most} nodes, found {0}", most = units::MAX_NODES)]
    NodeCount(usize),
    /// No CPU, or more than the memory manager has room for.
    #[error("expected 1 to {most} CPUs, found {0}", most = boot_memory::firmware::MAX_CPU_AFFINITIES)]
    CpuCount(usize),
    /// The numbers of the CPUs have a gap or name one CPU twice.
    #[error("expected the CPU numbers 0 to {last} once each; CPU {number} is missing or named twice")]
    CpuNumber {
        /// The number in question.
        number: usize,
        /// The highest number that should exist.
        last: usize,
    },
    /// Two nodes claim the same bytes.
    #[error("expected nodes that do not overlap; nodes {0} and {1} share {range}", range = Shown(*.2))]
    NodesOverlap(u8, u8, PhysRange),
    /// Usable memory that belongs to no node.
    #[error("expected every usable byte in a node; none has {range}", range = Shown(*.0))]
    NoNode(PhysRange),
    /// Memory above what the architecture can address.
    #[error("expected addresses of at most {bits} bits; found {shown}", shown = Shown(*.range))]
    AddressTooHigh {
        /// Physical address bits of the architecture.
        bits: u32,
        /// The range in question.
        range: PhysRange,
    },
    /// Frame numbers that the frame table cannot link.
    #[error("expected less than 2^32 page frames; found {range}", range = Shown(*.0))]
    TooManyFrames(PhysRange),
    /// No usable page, or so few that no kernel boots.
    #[error("expected at least {at_least} usable bytes beside the kernel, found {found}")]
    TooLittleMemory {
        /// The least that is accepted.
        at_least: u64,
        /// What the description has.
        found: u64,
    },
    /// The kernel, or what it reserves, is where no usable memory is.
    #[error("expected the kernel in usable memory; {range} is not", range = Shown(*.0))]
    KernelOutsideMemory(PhysRange),
    /// The distance table is not square, or not of the number of nodes.
    #[error("expected {nodes} rows of {nodes} distances; row {row} has {found}")]
    DistancesNotSquare {
        /// Number of nodes.
        nodes: usize,
        /// The first row that is wrong, from 0; the number of rows if there are too few or too many.
        row: usize,
        /// Its number of distances.
        found: usize,
    },
    /// A distance that ACPI does not allow.
    #[error(
        "expected distance 10 of a node to itself and more than 10 to others; node {from} to node {to} has {found}"
    )]
    Distance {
        /// The node where the row starts.
        from: usize,
        /// The other node.
        to: usize,
        /// The distance as given.
        found: u8,
    },
    /// More ranges than a firmware map or a node map has room for.
    #[error("expected no more {0}: there is no room for them")]
    TooMany(&'static str),
    /// An option of the command line is wrong.
    #[error("{0}")]
    CommandLine(String),
}

/// Writes the line behind the name of the file.
struct AtLine(Option<usize>);

impl fmt::Display for AtLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, ", line {line}"))
    }
}

/// Writes a range as `START-LAST` in hexadecimal.
struct Shown(PhysRange);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}-{:#x}", self.0.start.raw(), self.0.end.raw().saturating_sub(1))
    }
}
