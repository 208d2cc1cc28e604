//! The lines that memblock calls write: parsed into the call, so that it can be made again.
//!
//! Linux 6.1 and 6.12: mm/memblock.c (memblock_dbg lines).

use boot_memory::memblock::{AllocRequest, RegionFlags};
use units::{NodeId, PhysAddr, PhysRange};

use super::scan::Scan;

/// A call with the arguments that its log line shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// A call on one range.
    Range(RangeCall, PhysAddr, u64),
    /// memblock_add_node.
    AddNode(PhysAddr, u64, NodeId, RegionFlags),
    /// memblock_phys_alloc_range.
    PhysAllocRange {
        /// Bytes.
        size: u64,
        /// Power of two.
        align: u64,
        /// Lower and upper bound as logged.
        bounds: PhysRange,
    },
    /// One of the memblock_alloc_*_nid calls.
    Alloc(AllocCall, AllocRequest),
}

/// Calls whose line shows a range only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RangeCall {
    /// memblock_add.
    Add,
    /// memblock_remove.
    Remove,
    /// memblock_reserve.
    Reserve,
    /// memblock_phys_free.
    PhysFree,
    /// memblock_free_late.
    FreeLate,
}

/// Calls whose line shows size, alignment, node and bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AllocCall {
    /// memblock_alloc_try_nid.
    TryNid,
    /// memblock_alloc_try_nid_raw.
    TryNidRaw,
    /// memblock_alloc_exact_nid_raw.
    ExactNidRaw,
}

/// What one memblock line says, and who called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestLine {
    /// The call.
    pub request: Request,
    /// The caller as logged: `symbol+offset/size`.
    pub caller: String,
}

impl RequestLine {
    /// Returns the caller's function.
    pub fn caller_symbol(&self) -> &str {
        self.caller.split_once('+').map_or(&self.caller, |(symbol, _)| symbol)
    }

    /// Returns the range of a call that shows only one.
    pub fn range(&self) -> Option<PhysRange> {
        match self.request {
            Request::Range(_, base, size) => Some(PhysRange::with_len(base, size)),
            _ => None,
        }
    }
}

impl Request {
    /// Returns true if the call is one that ends in a reservation of what it found.
    pub const fn allocates(&self) -> bool {
        matches!(self, Self::PhysAllocRange { .. } | Self::Alloc(..))
    }
}

/// What a line that begins with `memblock_` must look like.
pub(super) const REQUEST_FORM: &str = "a memblock debug line: FUNCTION: [0xFIRST-0xLAST] CALLER, or FUNCTION: SIZE bytes align=0xALIGN \
     [nid=NODE] from=0xADDR max_addr=0xADDR CALLER";

/// Returns true if memblock wrote the message.
pub(super) fn is_request(message: &str) -> bool {
    message.starts_with("memblock_")
}

/// Parses a message that memblock wrote; `None` if it is damaged or of an unknown call.
pub(super) fn parse_request(message: &str) -> Option<RequestLine> {
    let (function, arguments) = message.split_once(": ")?;
    let mut scan = Scan::new(arguments);
    let request = match function {
        "memblock_add" => range_call(RangeCall::Add, &mut scan),
        "memblock_remove" => range_call(RangeCall::Remove, &mut scan),
        "memblock_reserve" => range_call(RangeCall::Reserve, &mut scan),
        "memblock_phys_free" => range_call(RangeCall::PhysFree, &mut scan),
        "memblock_free_late" => range_call(RangeCall::FreeLate, &mut scan),
        "memblock_add_node" => add_node(&mut scan),
        "memblock_phys_alloc_range" => phys_alloc_range(&mut scan),
        "memblock_alloc_try_nid" => alloc_call(AllocCall::TryNid, &mut scan),
        "memblock_alloc_try_nid_raw" => alloc_call(AllocCall::TryNidRaw, &mut scan),
        "memblock_alloc_exact_nid_raw" => alloc_call(AllocCall::ExactNidRaw, &mut scan),
        _ => None,
    }?;
    scan.skip(" ")?;
    let caller = scan.rest();
    (!caller.is_empty() && !caller.contains(' ')).then(|| RequestLine { request, caller: caller.to_owned() })
}

fn range_call(call: RangeCall, scan: &mut Scan<'_>) -> Option<Request> {
    let (base, size) = scan.bracket()?;
    Some(Request::Range(call, base, size))
}

fn add_node(scan: &mut Scan<'_>) -> Option<Request> {
    let (base, size) = scan.bracket()?;
    scan.skip(" nid=")?;
    let node = NodeId::try_new(scan.decimal()?)?;
    scan.skip(" flags=")?;
    let flags = RegionFlags::from_bits(u32::try_from(scan.bare_hex()?).ok()?)?;
    Some(Request::AddNode(base, size, node, flags))
}

fn size_and_align(scan: &mut Scan<'_>) -> Option<(u64, u64)> {
    let size = scan.decimal()?;
    scan.skip(" bytes align=")?;
    Some((size, scan.hex()?))
}

fn bounds(scan: &mut Scan<'_>) -> Option<PhysRange> {
    scan.skip(" from=")?;
    let from = scan.hex()?;
    scan.skip(" max_addr=")?;
    Some(PhysRange::new(PhysAddr::new(from), PhysAddr::new(scan.hex()?)))
}

fn phys_alloc_range(scan: &mut Scan<'_>) -> Option<Request> {
    let (size, align) = size_and_align(scan)?;
    Some(Request::PhysAllocRange { size, align, bounds: bounds(scan)? })
}

fn alloc_call(call: AllocCall, scan: &mut Scan<'_>) -> Option<Request> {
    let (size, align) = size_and_align(scan)?;
    scan.skip(" nid=")?;
    let node = match scan.signed()? {
        -1 => None,
        number => Some(NodeId::try_new(u64::try_from(number).ok()?)?),
    };
    let bounds = bounds(scan)?;
    Some(Request::Alloc(call, AllocRequest { size, align, min_addr: bounds.start, max_addr: bounds.end, node }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_on_any_node_is_read() {
        let line = "memblock_alloc_try_nid: 16384 bytes align=0x40 nid=-1 from=0x0000000000001000 \
                    max_addr=0x0000000000000000 sparse_init+0x9f/0x200";
        let parsed = parse_request(line).unwrap();
        let request = AllocRequest::new(16384, 0x40).from(PhysAddr::new(0x1000));
        assert_eq!(parsed.request, Request::Alloc(AllocCall::TryNid, request));
        assert_eq!(parsed.caller_symbol(), "sparse_init");
    }

    #[test]
    fn nodes_and_flags_of_added_memory_are_read() {
        let line = "memblock_add_node: [0x0000000000000000-0x000000003fffffff] nid=1 flags=4 setup+0x1/0x2";
        let node = NodeId::try_new(1).unwrap();
        let request = Request::AddNode(PhysAddr::ZERO, 0x4000_0000, node, RegionFlags::NOMAP);
        assert_eq!(parse_request(line).unwrap().request, request);
    }

    #[test]
    fn damaged_lines_are_not_taken_for_calls() {
        let damaged = [
            "memblock_reserve: [0x00000000bfdcb000-0x00000000bfd",
            "memblock_reserve: [0x00000000bfdcb000-0x00000000bfdcbfff]",
            "memblock_alloc_try_nid: 12 bytes align=0x40 nid=99 from=0x0 max_addr=0x0 caller",
            "memblock_phys_alloc_range: many bytes align=0x40 from=0x0 max_addr=0x0 caller",
            "memblock_unheard_of: [0x0-0x1] caller",
        ];
        for line in damaged {
            assert_eq!(parse_request(line), None, "{line}");
        }
    }
}
