//! Allocation: the requests that boot code makes, with their fallbacks.
//!
//! The machine zeroes what a non-raw call returns; memblock itself never touches the memory.
//! Linux 6.12: mm/memblock.c (`memblock_alloc_range_nid`, `memblock_alloc_internal`, `memblock_phys_alloc_*`,
//! `memblock_alloc_*`).

use units::{NodeId, PhysAddr, PhysRange};

use super::context::BootContext;
use super::find::{FindRequest, MAX_ADDR_ACCESSIBLE};
use super::region::RegionFlags;
use super::{LOW_ADDRESS_LIMIT, Memblock, MemblockError, SMP_CACHE_BYTES};

/// Where an allocation may go when its node has no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodePolicy {
    /// To any other node.
    Fallback,
    /// Nowhere.
    Exact,
}

/// Size, place and node of an allocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AllocRequest {
    /// Bytes.
    pub size: u64,
    /// Power of two that the address is a multiple of; 0 for [`SMP_CACHE_BYTES`].
    pub align: u64,
    /// Lower bound, given up if nothing fits above it.
    pub min_addr: PhysAddr,
    /// Upper bound, or [`MAX_ADDR_ACCESSIBLE`].
    pub max_addr: PhysAddr,
    /// The preferred node; `None` for any.
    pub node: Option<NodeId>,
}

impl AllocRequest {
    /// Asks for `size` bytes anywhere below the current limit, on any node.
    pub const fn new(size: u64, align: u64) -> Self {
        Self { size, align, min_addr: PhysAddr::ZERO, max_addr: MAX_ADDR_ACCESSIBLE, node: None }
    }

    /// Asks for the same on `node`.
    #[must_use]
    pub const fn on_node(self, node: NodeId) -> Self {
        Self { node: Some(node), ..self }
    }

    /// Asks for the same at or above `min_addr`.
    #[must_use]
    pub const fn from(self, min_addr: PhysAddr) -> Self {
        Self { min_addr, ..self }
    }
}

impl Memblock {
    /// Allocates within `bounds` on any node (Linux: memblock_phys_alloc_range).
    ///
    /// `bounds.end` may be [`MAX_ADDR_ACCESSIBLE`].
    pub fn phys_alloc_range(
        &mut self,
        size: u64,
        align: u64,
        bounds: PhysRange,
        cx: &mut BootContext<'_>,
    ) -> Result<PhysRange, MemblockError> {
        self.log_phys_alloc_range(size, align, bounds, cx);
        let request = AllocRequest { size, align, min_addr: bounds.start, max_addr: bounds.end, node: None };
        self.alloc_range_nid(&request, NodePolicy::Fallback, cx)
    }

    /// Allocates, on `node` if it has room; writes no request line (Linux: memblock_phys_alloc_try_nid).
    pub fn phys_alloc_try_nid(
        &mut self,
        size: u64,
        align: u64,
        node: NodeId,
        cx: &mut BootContext<'_>,
    ) -> Result<PhysRange, MemblockError> {
        self.alloc_range_nid(&AllocRequest::new(size, align).on_node(node), NodePolicy::Fallback, cx)
    }

    /// Allocates memory that is to be zeroed, falling back to other nodes and lower addresses (Linux: memblock_alloc_try_nid).
    #[inline]
    pub fn alloc_try_nid(
        &mut self,
        request: &AllocRequest,
        cx: &mut BootContext<'_>,
    ) -> Result<PhysRange, MemblockError> {
        self.log_alloc("memblock_alloc_try_nid", request, cx);
        self.alloc_internal(request, NodePolicy::Fallback, cx)
    }

    /// Allocates memory that need not be zeroed (Linux: memblock_alloc_try_nid_raw).
    pub fn alloc_try_nid_raw(
        &mut self,
        request: &AllocRequest,
        cx: &mut BootContext<'_>,
    ) -> Result<PhysRange, MemblockError> {
        self.log_alloc("memblock_alloc_try_nid_raw", request, cx);
        self.alloc_internal(request, NodePolicy::Fallback, cx)
    }

    /// Allocates on the given node only (Linux: memblock_alloc_exact_nid_raw).
    pub fn alloc_exact_nid_raw(
        &mut self,
        request: &AllocRequest,
        cx: &mut BootContext<'_>,
    ) -> Result<PhysRange, MemblockError> {
        self.log_alloc("memblock_alloc_exact_nid_raw", request, cx);
        self.alloc_internal(request, NodePolicy::Exact, cx)
    }

    /// Allocates anywhere below the current limit (Linux: memblock_alloc).
    #[inline]
    pub fn alloc(&mut self, size: u64, align: u64, cx: &mut BootContext<'_>) -> Result<PhysRange, MemblockError> {
        self.alloc_try_nid(&AllocRequest::new(size, align), cx)
    }

    /// Allocates at or above `min_addr` if there is room (Linux: memblock_alloc_from).
    pub fn alloc_from(
        &mut self,
        size: u64,
        align: u64,
        min_addr: PhysAddr,
        cx: &mut BootContext<'_>,
    ) -> Result<PhysRange, MemblockError> {
        self.alloc_try_nid(&AllocRequest::new(size, align).from(min_addr), cx)
    }

    /// Allocates below 4 GiB (Linux: memblock_alloc_low).
    pub fn alloc_low(&mut self, size: u64, align: u64, cx: &mut BootContext<'_>) -> Result<PhysRange, MemblockError> {
        self.alloc_try_nid(&AllocRequest { max_addr: LOW_ADDRESS_LIMIT, ..AllocRequest::new(size, align) }, cx)
    }

    /// Allocates on `node` if it has room (Linux: memblock_alloc_node).
    pub fn alloc_node(
        &mut self,
        size: u64,
        align: u64,
        node: NodeId,
        cx: &mut BootContext<'_>,
    ) -> Result<PhysRange, MemblockError> {
        self.alloc_try_nid(&AllocRequest::new(size, align).on_node(node), cx)
    }

    /// Keeps the request below the current limit and gives up its lower bound if nothing fits above it.
    #[inline]
    fn alloc_internal(
        &mut self,
        request: &AllocRequest,
        policy: NodePolicy,
        cx: &mut BootContext<'_>,
    ) -> Result<PhysRange, MemblockError> {
        let request = AllocRequest { max_addr: request.max_addr.min(self.current_limit), ..*request };
        let first = self.alloc_range_nid(&request, policy, cx);
        if first.is_ok() || request.min_addr == PhysAddr::ZERO {
            return first;
        }
        self.alloc_range_nid(&request.from(PhysAddr::ZERO), policy, cx)
    }

    /// Finds and reserves a range: first in mirrored memory if there is some, first on the wanted node; writes no request line.
    ///
    /// `NoMemory` if nothing fits; `CannotGrow` if something fits but could not be recorded. Linux: memblock_alloc_range_nid.
    #[inline]
    pub fn alloc_range_nid(
        &mut self,
        request: &AllocRequest,
        policy: NodePolicy,
        cx: &mut BootContext<'_>,
    ) -> Result<PhysRange, MemblockError> {
        let size = request.size;
        let align = if request.align == 0 { SMP_CACHE_BYTES } else { request.align };
        if !align.is_power_of_two() {
            return Err(MemblockError::BadAlignment { align });
        }
        let mut find = FindRequest {
            size,
            align,
            start: request.min_addr,
            end: request.max_addr,
            node: request.node,
            flags: self.choose_flags(),
        };
        let mut failure = MemblockError::NoMemory { size };
        loop {
            match self.take(&find, cx) {
                Err(MemblockError::NoMemory { .. }) => {}
                Err(error) => failure = error,
                found => return found,
            }
            if find.node.is_some() && policy == NodePolicy::Fallback {
                match self.take(&FindRequest { node: None, ..find }, cx) {
                    Err(MemblockError::NoMemory { .. }) => {}
                    Err(error) => failure = error,
                    found => return found,
                }
            }
            if !find.flags.contains(RegionFlags::MIRROR) {
                return Err(failure);
            }
            find.flags.remove(RegionFlags::MIRROR);
            self.warn_no_mirror(size, cx);
        }
    }

    /// Finds and reserves one range.
    #[inline]
    fn take(&mut self, find: &FindRequest, cx: &mut BootContext<'_>) -> Result<PhysRange, MemblockError> {
        let found = self.find_and_learn(find).ok_or(MemblockError::NoMemory { size: find.size })?;
        self.reserve(found, find.size, &mut cx.inner("memblock_alloc_range_nid"))?;
        Ok(PhysRange::with_len(found, find.size))
    }
}
