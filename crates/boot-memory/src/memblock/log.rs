//! Log lines in Linux's words: requests, results, warnings, and the dump of the configuration.

use core::fmt;

use units::{NodeId, PhysAddr, PhysRange};

use super::alloc::AllocRequest;
use super::context::BootContext;
use super::region::{Region, RegionFlags};
use super::{DebugLines, ListKind, Memblock, NodeTracking, Wording};

/// Physical address in Linux's `%pa` form.
struct Address {
    raw: u64,
    digits: usize,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:0digits$x}", self.raw, digits = self.digits)
    }
}

/// Node as `%d` shows it; any node is -1.
fn node_number(node: Option<NodeId>) -> i32 {
    node.map_or(-1, |node| i32::from(node.raw()))
}

impl Memblock {
    const fn address(&self, raw: u64) -> Address {
        Address { raw, digits: self.config.address_digits }
    }

    fn debugging(&self) -> bool {
        self.debug == DebugLines::On
    }

    /// Logs a range as the caller gave it.
    #[inline]
    pub(super) fn log_range(&self, function: &str, base: PhysAddr, size: u64, cx: &mut BootContext<'_>) {
        if self.debugging() {
            self.write_range(function, base, size, cx);
        }
    }

    /// Writes the line of [`Memblock::log_range`]; the last byte wraps like Linux's arithmetic does.
    #[cold]
    fn write_range(&self, function: &str, base: PhysAddr, size: u64, cx: &mut BootContext<'_>) {
        let last = self.address(base.raw().wrapping_add(size).wrapping_sub(1));
        cx.log.line(format_args!("{function}: [{}-{last}] {}", self.address(base.raw()), cx.caller));
    }

    pub(super) fn log_add_node(
        &self,
        base: PhysAddr,
        size: u64,
        node: NodeId,
        flags: RegionFlags,
        cx: &mut BootContext<'_>,
    ) {
        if self.debugging() {
            let last = self.address(base.raw().wrapping_add(size).wrapping_sub(1));
            let first = self.address(base.raw());
            let flags = flags.bits();
            cx.log.line(format_args!("memblock_add_node: [{first}-{last}] nid={node} flags={flags:x} {}", cx.caller));
        }
    }

    pub(super) fn log_phys_alloc_range(&self, size: u64, align: u64, bounds: PhysRange, cx: &mut BootContext<'_>) {
        if self.debugging() {
            let from = self.address(bounds.start.raw());
            let max_addr = self.address(bounds.end.raw());
            cx.log.line(format_args!(
                "memblock_phys_alloc_range: {size} bytes align={align:#x} from={from} max_addr={max_addr} {}",
                cx.caller
            ));
        }
    }

    #[inline]
    pub(super) fn log_alloc(&self, function: &str, request: &AllocRequest, cx: &mut BootContext<'_>) {
        if self.debugging() {
            self.write_alloc(function, request, cx);
        }
    }

    #[cold]
    fn write_alloc(&self, function: &str, request: &AllocRequest, cx: &mut BootContext<'_>) {
        let AllocRequest { size, align, .. } = request;
        let nid = node_number(request.node);
        let from = self.address(request.min_addr.raw());
        let max_addr = self.address(request.max_addr.raw());
        cx.log.line(format_args!(
            "{function}: {size} bytes align={align:#x} nid={nid} from={from} max_addr={max_addr} {}",
            cx.caller
        ));
    }

    pub(super) fn log_doubled(&self, kind: ListKind, doubled: usize, array: PhysRange, cx: &mut BootContext<'_>) {
        if self.debugging() {
            let name = kind.name();
            let first = self.address(array.start.raw());
            let last = self.address(array.end.raw().wrapping_sub(1));
            cx.log.line(format_args!("memblock: {name} is doubled to {doubled} at [{first}-{last}]"));
        }
    }

    pub(super) fn log_cannot_double(&self, kind: ListKind, capacity: usize, cx: &mut BootContext<'_>) {
        let name = kind.name();
        let doubled = capacity * 2;
        cx.log.line(format_args!("memblock: Failed to double {name} array from {capacity} to {doubled} entries !"));
    }

    pub(super) fn warn_no_mirror(&self, size: u64, cx: &mut BootContext<'_>) {
        cx.log.line(format_args!("Could not allocate {} bytes of mirrored memory", self.address(size)));
    }

    pub(super) fn warn_no_memory(&self, function: &str, cx: &mut BootContext<'_>) {
        cx.log.line(format_args!("{function}: No memory registered yet"));
    }

    /// Logs both lists if debug lines are on (Linux: memblock_dump_all).
    pub fn dump_all(&self, cx: &mut BootContext<'_>) {
        if !self.debugging() {
            return;
        }
        let memory_size = self.address(self.phys_mem_size());
        let reserved_size = self.address(self.reserved_size());
        cx.log.line(format_args!("MEMBLOCK configuration:"));
        cx.log.line(format_args!(" memory size = {memory_size} reserved size = {reserved_size}"));
        self.dump(ListKind::Memory, cx);
        self.dump(ListKind::Reserved, cx);
    }

    fn dump(&self, kind: ListKind, cx: &mut BootContext<'_>) {
        let name = kind.name();
        let regions = self.list(kind).regions();
        // Before 6.8 an empty list counts one empty region and shows it.
        let placeholder = [Region::default()];
        let shown = if regions.is_empty() && self.config.wording == Wording::Linux6_1 { &placeholder } else { regions };
        cx.log.line(format_args!(" {name}.cnt  = {:#x}", shown.len()));
        for (index, region) in shown.iter().enumerate() {
            let base = self.address(region.base.raw());
            let last = self.address(region.base.raw().wrapping_add(region.size).wrapping_sub(1));
            let size = self.address(region.size);
            let node = DumpedNode(region.node.filter(|_| self.config.nodes == NodeTracking::Numa));
            let flags = region.flags.bits();
            cx.log.line(format_args!(" {name}[{index:#x}]\t[{base}-{last}], {size} bytes{node} flags: {flags:#x}"));
        }
    }
}

/// Node part of a dump line; empty while the node is unknown.
struct DumpedNode(Option<NodeId>);

impl fmt::Display for DumpedNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(node) => write!(f, " on node {node}"),
            None => Ok(()),
        }
    }
}
