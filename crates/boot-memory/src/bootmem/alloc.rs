//! Requests: the bottom-up allocation over all nodes with goal and limit.
//!
//! Linux 2.6 to 4.19: mm/bootmem.c (`alloc_bootmem_core`, `___alloc_bootmem_nopanic`,
//! `___alloc_bootmem_node_nopanic`).

use units::{NodeId, PhysAddr, PhysRange};

use super::{Bootmem, BootmemError};
use crate::memblock::LOW_ADDRESS_LIMIT;

/// Size and place of an allocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BootmemRequest {
    /// Bytes.
    pub size: u64,
    /// Power of two that the address is a multiple of.
    pub align: u64,
    /// Address to start looking at, given up if nothing fits above it.
    pub goal: PhysAddr,
    /// Address to stay below.
    pub limit: Option<PhysAddr>,
}

impl BootmemRequest {
    /// Asks for `size` bytes at a multiple of `align`, anywhere.
    pub const fn new(size: u64, align: u64) -> Self {
        Self { size, align, goal: PhysAddr::ZERO, limit: None }
    }

    fn check(&self) -> Result<(), BootmemError> {
        let past_limit = |limit: PhysAddr| self.goal.saturating_add(self.size) > limit;
        if self.size == 0 || !self.align.is_power_of_two() || self.limit.is_some_and(past_limit) {
            return Err(BootmemError::BadRequest(*self));
        }
        Ok(())
    }
}

impl Bootmem {
    /// Allocates on the lowest node with room, first above the goal (Linux: __alloc_bootmem).
    ///
    /// The machine zeroes the bytes.
    pub fn alloc(&mut self, request: &BootmemRequest) -> Result<PhysRange, BootmemError> {
        let anywhere = BootmemRequest { goal: PhysAddr::ZERO, ..*request };
        match self.alloc_core(request) {
            Err(BootmemError::NoMemory { .. }) if request.goal != PhysAddr::ZERO => self.alloc_core(&anywhere),
            outcome => outcome,
        }
    }

    /// Allocates on `node` if it has room, else anywhere; then the same without the goal (Linux: __alloc_bootmem_node).
    pub fn alloc_node(&mut self, node: NodeId, request: &BootmemRequest) -> Result<PhysRange, BootmemError> {
        let crosses = |limit: &PhysAddr| request.goal.saturating_add(request.size) <= *limit;
        let bounded = BootmemRequest { limit: request.limit.filter(crosses), ..*request };
        bounded.check()?;
        let anywhere = BootmemRequest { goal: PhysAddr::ZERO, ..bounded };
        let retry = (request.goal != PhysAddr::ZERO).then_some(anywhere);
        for attempt in [Some(bounded), retry].into_iter().flatten() {
            let own = self.nodes.iter_mut().flatten().find(|candidate| candidate.node() == node);
            if let Some(found) = own.and_then(|own| own.alloc(&attempt)) {
                return Ok(found);
            }
            if let Ok(found) = self.alloc_core(&attempt) {
                return Ok(found);
            }
        }
        Err(BootmemError::NoMemory { size: request.size })
    }

    /// Allocates below 4 GiB (Linux: __alloc_bootmem_low).
    pub fn alloc_low(&mut self, request: &BootmemRequest) -> Result<PhysRange, BootmemError> {
        self.alloc(&BootmemRequest { limit: Some(LOW_ADDRESS_LIMIT), ..*request })
    }

    /// Allocates on the lowest node with room that reaches above the goal; does not give the goal up
    /// (Linux: alloc_bootmem_core).
    pub fn alloc_core(&mut self, request: &BootmemRequest) -> Result<PhysRange, BootmemError> {
        request.check()?;
        let goal = request.goal.pfn_down(self.page_shift);
        let limit = request.limit.map(|limit| limit.pfn_down(self.page_shift));
        let found = self
            .nodes
            .iter_mut()
            .flatten()
            .skip_while(|node| request.goal != PhysAddr::ZERO && node.frames().end <= goal)
            .take_while(|node| limit.is_none_or(|limit| node.frames().start < limit))
            .find_map(|node| node.alloc(request));
        found.ok_or(BootmemError::NoMemory { size: request.size })
    }
}
