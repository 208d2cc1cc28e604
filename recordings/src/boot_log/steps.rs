//! The memblock lines of a log, grouped into the calls that wrote them.
//!
//! A call that allocates writes its request and then, through memblock's own functions, the reservation of what it found.
//! Some allocations write no request: what they asked for is taken from the line that follows.

use std::ops::Range;

use units::{NodeId, PhysRange};

use super::dump::{self, Dump};
use super::error::BootLogError;
use super::request::{REQUEST_FORM, RangeCall, Request, RequestLine, is_request, parse_request};
use super::scan::Scan;

/// Consecutive lines of one memblock call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Indexes of the lines in [`super::BootLog::lines`].
    pub lines: Range<usize>,
    /// What wrote them.
    pub action: Action,
}

/// What wrote the lines of a step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// A call whose request is logged, and where it got its memory if it allocated and succeeded.
    Call(RequestLine, Option<PhysRange>),
    /// The allocation of a node's data, whose request is not logged; the node if the log names it.
    NodeData(PhysRange, Option<NodeId>),
    /// The reservation of a contiguous memory area, whose request is not logged.
    Cma(PhysRange),
    /// An allocation about which the log says nothing but its result.
    Unexplained(PhysRange),
    /// A dump of the configuration.
    Dump(Dump),
}

/// Groups the memblock lines among `messages`.
pub(super) fn collect(messages: &[String]) -> Result<Vec<Step>, BootLogError> {
    let mut steps = Vec::new();
    let mut index = 0;
    while let Some(message) = messages.get(index) {
        let step = if message == dump::HEADER {
            Some(take_dump(messages, index)?)
        } else if is_request(message) {
            Some(take_call(messages, index)?)
        } else {
            None
        };
        index = step.as_ref().map_or(index + 1, |step| step.lines.end);
        steps.extend(step);
    }
    Ok(steps)
}

fn take_dump(messages: &[String], first: usize) -> Result<Step, BootLogError> {
    let mut dump = Dump { first, len: 1, ..Dump::default() };
    for message in messages.iter().skip(first + 1).take_while(|message| dump::continues(message)) {
        dump.memory_size = dump::parse_memory_size(message).unwrap_or(dump.memory_size);
        if dump::is_region(message) {
            let parsed = dump::parse_region(message);
            let (list, region) =
                parsed.ok_or_else(|| BootLogError::line(first + dump.len + 1, message, dump::REGION_FORM))?;
            let regions = match list {
                boot_memory::memblock::ListKind::Memory => &mut dump.memory,
                boot_memory::memblock::ListKind::Reserved => &mut dump.reserved,
            };
            if region.size > 0 {
                regions.push(region);
            }
        }
        dump.len += 1;
    }
    Ok(Step { lines: first..first + dump.len, action: Action::Dump(dump) })
}

fn take_call(messages: &[String], first: usize) -> Result<Step, BootLogError> {
    let request = read_request(messages, first)?;
    if let (true, Some(range)) = (is_result(&request), request.range()) {
        let end = first + 1;
        let action = explain(messages.get(end).map_or("", String::as_str), range);
        return Ok(Step { lines: first..end, action });
    }
    let mut result = None;
    let mut end = first + 1;
    let mut doubled = false;
    while let Some(message) = messages.get(end) {
        if is_growth_warning(message) {
            doubled = message.contains(" is doubled to ");
        } else if is_request(message) {
            let inner = read_request(messages, end)?;
            if is_result(&inner) && request.request.allocates() && result.is_none() {
                result = inner.range();
            } else if !(doubled && is_growth(&inner)) {
                break;
            }
        } else {
            break;
        }
        end += 1;
    }
    Ok(Step { lines: first..end, action: Action::Call(request, result) })
}

fn read_request(messages: &[String], index: usize) -> Result<RequestLine, BootLogError> {
    let message = messages.get(index).map_or("", String::as_str);
    parse_request(message).ok_or_else(|| BootLogError::line(index + 1, message, REQUEST_FORM))
}

/// Returns true for the reservation that an allocation makes of what it found.
fn is_result(line: &RequestLine) -> bool {
    matches!(line.request, Request::Range(RangeCall::Reserve, ..)) && is_allocator(line.caller_symbol())
}

/// Returns true for the functions of memblock that reserve what they found.
pub(super) fn is_allocator(symbol: &str) -> bool {
    symbol.starts_with("memblock_alloc_") || symbol.starts_with("memblock_phys_alloc")
}

/// Returns true for the calls that doubling a region array makes.
fn is_growth(line: &RequestLine) -> bool {
    match line.request {
        Request::Range(RangeCall::Reserve, ..) => line.caller_symbol() == "memblock_double_array",
        Request::Range(RangeCall::PhysFree, ..) => {
            matches!(line.caller_symbol(), "memblock_free" | "memblock_double_array")
        }
        _ => false,
    }
}

/// Returns true for lines that memblock writes in the middle of a call.
fn is_growth_warning(message: &str) -> bool {
    message.starts_with("memblock: ")
        || (message.starts_with("Could not allocate ") && message.ends_with(" of mirrored memory"))
}

/// Finds out from the line after it what an allocation without a request line was for.
fn explain(next: &str, range: PhysRange) -> Action {
    if next.starts_with("cma: Reserved ") {
        return Action::Cma(range);
    }
    let mut scan = Scan::new(next);
    let prefixed = scan.skip("NUMA: NODE_DATA ").is_some();
    if prefixed {
        return Action::NodeData(range, None);
    }
    if scan.skip("NODE_DATA(").is_some() {
        return Action::NodeData(range, scan.decimal().and_then(NodeId::try_new));
    }
    Action::Unexplained(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(lines: &[&str]) -> Vec<Step> {
        collect(&lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    const REQUEST: &str = "memblock_alloc_try_nid: 64 bytes align=0x40 nid=-1 from=0x0 max_addr=0x0 setup+0x1/0x2";
    const RESULT: &str = "memblock_reserve: [0x1fc0-0x1fff] memblock_alloc_range_nid+0xb0/0x13d";

    #[test]
    fn an_allocation_owns_its_result_and_the_growth_that_it_caused() {
        let found = steps(&[
            REQUEST,
            RESULT,
            "memblock: reserved is doubled to 256 at [0x3000-0x47ff]",
            "memblock_reserve: [0x3000-0x4fff] memblock_double_array+0x1/0x2",
            "memblock_reserve: [0x8000-0x8fff] setup+0x1/0x2",
        ]);
        let ranges: Vec<_> = found.iter().map(|step| step.lines.clone()).collect();
        assert_eq!(ranges, [0..4, 4..5]);
    }

    #[test]
    fn an_allocation_that_failed_owns_no_later_result() {
        let found = steps(&[REQUEST, "something else", RESULT, "NODE_DATA(1) allocated [mem 0x1fc0-0x1fff]"]);
        assert!(matches!(found[0].action, Action::Call(_, None)));
        assert!(matches!(found[1].action, Action::NodeData(_, Some(_))));
    }

    #[test]
    fn a_damaged_line_is_reported_with_its_number() {
        let lines = ["fine", "memblock_reserve: [0x1fc0-0x1f"].map(str::to_owned);
        let error = collect(&lines).unwrap_err().to_string();
        assert!(
            error.starts_with("kernel log, line 2: found \"memblock_reserve: [0x1fc0-0x1f\", expected "),
            "{error}"
        );
    }
}
