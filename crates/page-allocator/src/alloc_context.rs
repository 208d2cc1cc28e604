//! A request for memory, and what follows from its flags.
//!
//! Linux 6.12: `struct alloc_context`, `prepare_alloc_pages`.

use core::fmt;

use units::{Gfp, MigrateType, NodeId, NodeMask, Order, ZoneType};

use crate::layout::Zonelist;

bitflags::bitflags! {
    /// State of the task that allocates, as far as the allocator cares.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct TaskFlags: u8 {
        /// Frees memory itself: all reserves are open (Linux: PF_MEMALLOC).
        const MEMALLOC = 1 << 0;
        /// Is being killed by the OOM killer: part of the reserves is open.
        const OOM_VICTIM = 1 << 1;
    }
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AllocRequest {
    /// Flags.
    pub gfp: Gfp,
    /// Size.
    pub order: Order,
    /// Node to start from; the CPU's own if `None`.
    pub node: Option<NodeId>,
    /// Nodes that the memory policy allows.
    pub nodes: NodeMask,
    /// Nodes that the cpuset allows.
    pub mems_allowed: NodeMask,
    /// Who asks.
    pub task: TaskFlags,
}

impl AllocRequest {
    /// Asks for a block from any node, on behalf of an ordinary task.
    #[inline]
    pub const fn new(gfp: Gfp, order: Order) -> Self {
        Self { gfp, order, node: None, nodes: NodeMask::ALL, mems_allowed: NodeMask::ALL, task: TaskFlags::empty() }
    }

    /// Starts from `node`.
    #[must_use]
    pub const fn on_node(mut self, node: NodeId) -> Self {
        self.node = Some(node);
        self
    }

    /// Allows only `nodes`.
    #[must_use]
    pub const fn within(mut self, nodes: NodeMask) -> Self {
        self.nodes = nodes;
        self
    }
}

/// Why there is no block. One variant per reaction of the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AllocError {
    /// No memory now; later it may work.
    OutOfMemory,
    /// The order is above the machine's largest block; it will never work. Carries that largest order.
    TooLarge(Order),
    /// No zone of the machine is acceptable to the request; it will never work.
    NoZone,
}

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::TooLarge(max) => write!(f, "the order is above {max}, the largest of this machine"),
            Self::NoZone => f.write_str("no zone is acceptable to the request"),
        }
    }
}

impl core::error::Error for AllocError {}

/// A request with everything that the walk over the zones needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AllocContext<'a> {
    pub(crate) request: &'a AllocRequest,
    pub(crate) list: Zonelist<'a>,
    pub(crate) highest: ZoneType,
    pub(crate) migratetype: MigrateType,
    /// Nodes of the walk; the slow path may drop the policy's limit.
    pub(crate) nodes: NodeMask,
    /// Nodes that hold their share of dirty pages are passed over.
    pub(crate) spread_dirty: bool,
    /// Number of the first acceptable zone, by which locality is judged.
    pub(crate) preferred: u16,
}
