//! Makes the recorded calls on our memblock and compares what it writes with the recording.
//!
//! Calls that leave no line are made where the kernel makes them: page trimming after the e820 map was added, the allocation
//! limit once memory is mapped, node numbers before the first node's data is allocated.

use std::fmt;

use boot_memory::firmware::BootOptions;
use boot_memory::memblock::{
    AllocRequest, BootContext, DebugLines, Direction, Memblock, MemblockError, NodePolicy, REGION_BYTES, Region,
    RegionMemory, SMP_CACHE_BYTES,
};
use collections::BootSlice;
use units::{NodeId, PhysAddr, PhysRange};

use super::memory_options::MemoryChange;
use super::nodes::{self, Hotplug, NodeBlock, NodeClaim};
use super::request::{AllocCall, RangeCall, Request, RequestLine};
use super::{Action, Architecture, BootLog, BootLogError, KernelVersion, NoteKind, Step, notes, start, steps};

/// How far a replay runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// To the end of the log.
    End,
    /// To the `Memory:` line, which the kernel writes right after it handed free memory to the page allocator.
    HandOver,
}

/// How a pair of lines compares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The lines are equal.
    Equal,
    /// They differ, or one side has none.
    Different,
    /// The recording does not show what was asked for, so its result was taken over.
    Given,
}

/// One recorded line beside ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ComparedLine {
    /// Line number in the log, from 1, of the recorded line or of the call that ours belongs to.
    pub line: usize,
    /// The recorded line without time stamp.
    pub recorded: Option<String>,
    /// Our line.
    pub ours: Option<String>,
    /// How they compare.
    pub verdict: Verdict,
}

/// Outcome of a replay.
#[derive(Debug)]
pub struct BootReplay {
    /// Every memblock line of the log, with ours.
    pub lines: Vec<ComparedLine>,
    /// Number of lines that differ.
    pub differences: usize,
    /// Number of lines whose request the recording does not show.
    pub given: usize,
    /// Our memblock at the end.
    pub memblock: Memblock,
    /// Nodes and their address ranges, as the firmware or later lines of the log show them; a kernel built without nodes has
    /// the ranges of memory on node 0.
    pub nodes: Vec<NodeBlock>,
}

/// Replays a boot.
///
/// # Errors
/// [`BootLogError::SetUp`] if our memblock cannot take the state in which the log begins.
pub fn replay(log: &BootLog, until: Until) -> Result<BootReplay, BootLogError> {
    replay_with(log, until, &BootOptions::default())
}

/// Replays a boot as if `mem=` and `memmap=` of `appended` had stood on its command line. The kernel's requests stay the recorded ones.
///
/// # Errors
/// As [`replay`]; [`BootLogError::NoFirmwareMap`] if the log does not show the map that the options change.
pub fn replay_with(log: &BootLog, until: Until, appended: &BootOptions<'_>) -> Result<BootReplay, BootLogError> {
    let mut replayer = Replayer::new(log, MemoryChange::of(log, appended)?);
    let end = match until {
        Until::End => log.lines.len(),
        Until::HandOver => notes::until_memory_line(&log.notes, log.lines.len()).end,
    };
    replayer.begin().map_err(|reason| BootLogError::SetUp { line: 1, reason })?;
    for (index, step) in log.steps.iter().enumerate().take_while(|(_, step)| step.lines.start < end) {
        replayer.catch_up(index, step).map_err(|reason| BootLogError::SetUp { line: step.lines.start + 1, reason })?;
        replayer.run(step);
    }
    replayer.catch_up_nodes(end).map_err(|reason| BootLogError::SetUp { line: end, reason })?;
    Ok(replayer.finish())
}

/// Region arrays on the host's heap. They live as long as the process, as the kernel's do.
struct HeapArrays;

impl RegionMemory for HeapArrays {
    fn region_slice(&self, at: PhysRange) -> Option<BootSlice<Region>> {
        let len = usize::try_from(at.len() / REGION_BYTES).ok()?;
        Some(BootSlice::from_static(Box::leak(vec![Region::default(); len].into_boxed_slice())))
    }
}

/// Our log lines of one step.
#[derive(Default)]
struct Lines(Vec<String>);

impl boot_memory::memblock::BootLog for Lines {
    fn line(&mut self, args: fmt::Arguments<'_>) {
        self.0.push(args.to_string());
    }
}

struct Replayer<'a> {
    log: &'a BootLog,
    memblock: Memblock,
    /// Index of the line before which nodes get their memory.
    nodes_known_at: usize,
    /// Index of the step after which memory is trimmed to pages.
    trim_after: Option<usize>,
    /// Index of the step before which all memory has been added.
    memory_known_at: usize,
    change: MemoryChange,
    next_claim: usize,
    nodes: Option<Vec<NodeBlock>>,
    compared: Vec<ComparedLine>,
}

impl<'a> Replayer<'a> {
    fn new(log: &'a BootLog, change: MemoryChange) -> Self {
        let first_on_node = log.steps.iter().find(|step| names_node(&step.action)).map(|step| step.lines.start);
        let zones = log.notes_of(NoteKind::ZoneRanges).next().map(|note| note.line - 1);
        let nodes_known_at = first_on_node.into_iter().chain(zones).min().unwrap_or(0);
        let adds_e820 = |step: &Step| matches!(&step.action, Action::Call(line, _) if line.caller_symbol() == "e820__memblock_setup");
        Self {
            log,
            memblock: Memblock::new(log.memblock_config()),
            nodes_known_at,
            trim_after: log.steps.iter().rposition(adds_e820),
            memory_known_at: log.steps.iter().rposition(adds_memory).map_or(0, |last| last + 1),
            change,
            next_claim: 0,
            nodes: None,
            compared: Vec::new(),
        }
    }

    /// Sets up the state in which the log begins.
    fn begin(&mut self) -> Result<(), MemblockError> {
        let log = self.log;
        let start = start::derive(log);
        if !log.steps.iter().any(|step| is_paging_init(&step.action)) {
            self.memblock.allow_resize();
        }
        self.quietly(|memblock, cx| {
            start::apply(&start, memblock, cx)?;
            start::apply_marks(log, memblock, cx)
        })?;
        self.memblock.set_debug(DebugLines::On);
        if log.architecture == Architecture::X86 {
            self.memblock.set_current_limit(start::ISA_END);
            if log.has_option("movable_node") {
                self.memblock.set_direction(Direction::BottomUp { above: None });
            }
        }
        Ok(())
    }

    /// Makes the calls without lines that come before `step`.
    fn catch_up(&mut self, index: usize, step: &Step) -> Result<(), MemblockError> {
        let log = self.log;
        if index == self.memory_known_at {
            let change = std::mem::take(&mut self.change);
            self.quietly(|memblock, cx| change.apply(memblock, cx))?;
        }
        if index > 0 && self.trim_after == Some(index - 1) {
            self.memblock.trim_memory(1 << self.memblock.config().page_shift);
        }
        if matches!(step.action, Action::Dump(_)) && self.nodes.is_none() {
            self.quietly(|memblock, cx| start::apply_marks(log, memblock, cx))?;
        }
        if self.memblock.current_limit() == start::ISA_END && uses_limit(&step.action) {
            let limit = log.mapped_limit().unwrap_or(self.memblock.end_of_dram());
            self.memblock.set_current_limit(limit);
        }
        self.catch_up_nodes(step.lines.start)
    }

    /// Marks hot-pluggable memory and gives nodes their memory once the log has come to `line`.
    fn catch_up_nodes(&mut self, line: usize) -> Result<(), MemblockError> {
        let log = self.log;
        while let Some(&(at, claim)) = log.claims.get(self.next_claim)
            && at < line
        {
            self.next_claim += 1;
            if let NodeClaim::Srat(block, Hotplug::Pluggable) = claim {
                self.quietly(|memblock, cx| memblock.mark_hotplug(block.range.start, block.range.len(), cx))?;
            }
        }
        if self.nodes.is_none() && line >= self.nodes_known_at {
            self.register_nodes()?;
        }
        Ok(())
    }

    fn register_nodes(&mut self) -> Result<(), MemblockError> {
        let claims: Vec<NodeClaim> = self.log.claims.iter().map(|&(_, claim)| claim).collect();
        let mut blocks = nodes::effective_blocks(&claims);
        // Up to 6.11 only x86 cleans the blocks up and says on which nodes reserved ranges are.
        let common_code = self.log.version.is_some_and(|version| version >= KernelVersion { major: 6, minor: 12 });
        let registers_reserved = self.log.architecture == Architecture::X86 || common_code;
        if registers_reserved {
            let page = 1 << self.memblock.config().page_shift;
            // The common code also cuts what lies below the first memory.
            let start = if common_code { self.memblock.start_of_dram() } else { PhysAddr::ZERO };
            let bounds = PhysRange::new(start, self.memblock.end_of_dram().align_down(page));
            blocks = nodes::clean_up(&blocks, &self.memblock, bounds);
        }
        if blocks.is_empty() {
            blocks = self.shown_blocks();
        }
        let lists = if registers_reserved { &nodes::BOTH_LISTS[..] } else { &nodes::BOTH_LISTS[..1] };
        self.quietly(|memblock, cx| {
            for &list in lists {
                for NodeBlock { node, range } in &blocks {
                    memblock.set_node(range.start, range.len(), list, Some(*node), cx)?;
                }
            }
            let holding = nodes::nodes_with_reservations(memblock);
            for NodeBlock { range, .. } in blocks.iter().filter(|block| holding.contains(&block.node)) {
                memblock.clear_hotplug(range.start, range.len(), cx)?;
            }
            Ok(())
        })?;
        self.memblock.set_direction(Direction::TopDown);
        self.nodes = Some(blocks);
        Ok(())
    }

    /// Returns the nodes as later lines show them, for firmware whose own tables leave no lines.
    fn shown_blocks(&self) -> Vec<NodeBlock> {
        let dumps = self.log.steps.iter().filter_map(|step| match &step.action {
            Action::Dump(dump) => Some(&dump.memory),
            _ => None,
        });
        let blocks = dumps.map(|memory| {
            let block = |region: &Region| Some(NodeBlock { node: region.node?, range: region.range() });
            memory.iter().filter_map(block).collect::<Vec<_>>()
        });
        blocks.into_iter().find(|blocks| !blocks.is_empty()).unwrap_or_else(|| self.log.early_node_ranges())
    }

    /// Makes calls whose lines nobody wants to see.
    fn quietly(
        &mut self,
        calls: impl FnOnce(&mut Memblock, &mut BootContext<'_>) -> Result<(), MemblockError>,
    ) -> Result<(), MemblockError> {
        let mut lines = Lines::default();
        calls(&mut self.memblock, &mut BootContext::new(&HeapArrays, &mut lines, "unlogged"))
    }

    /// Makes the call of a step and compares lines.
    fn run(&mut self, step: &Step) {
        let mut lines = Lines::default();
        let outcome = self.execute(&step.action, &mut lines);
        if let Err(error @ (MemblockError::CannotGrow { .. } | MemblockError::BadAlignment { .. })) = outcome {
            lines.0.push(format!("mmkit: {error}"));
        }
        if is_paging_init(&step.action) {
            self.memblock.allow_resize();
        }
        let given = matches!(step.action, Action::Unexplained(_));
        let recorded = self.log.lines.get(step.lines.clone()).unwrap_or_default();
        for index in 0..recorded.len().max(lines.0.len()) {
            let recorded = recorded.get(index).cloned();
            let ours = lines.0.get(index).map(|ours| adopt_caller(ours, recorded.as_deref()));
            let verdict = match (given, ours == recorded) {
                (true, _) => Verdict::Given,
                (false, true) => Verdict::Equal,
                (false, false) => Verdict::Different,
            };
            let line = (step.lines.start + index).min(step.lines.end - 1) + 1;
            self.compared.push(ComparedLine { line, recorded, ours, verdict });
        }
    }

    fn execute(&mut self, action: &Action, lines: &mut Lines) -> Result<(), MemblockError> {
        let mut cx = BootContext::new(&HeapArrays, lines, "");
        match action {
            Action::Call(RequestLine { request, caller }, _) => {
                cx.caller = caller;
                call(&mut self.memblock, request, &mut cx)
            }
            Action::NodeData(range, node) => {
                let node = node.unwrap_or_else(|| self.node_around(range));
                self.memblock.phys_alloc_try_nid(range.len(), SMP_CACHE_BYTES, node, &mut cx).map(drop)
            }
            Action::Cma(range) => {
                let limit = self.log.dma_limit().unwrap_or(PhysAddr::new(u64::MAX));
                reserve_contiguous(&mut self.memblock, range.len(), limit, &mut cx)
            }
            Action::Unexplained(range) => {
                cx.caller = "memblock_alloc_range_nid";
                self.memblock.reserve(range.start, range.len(), &mut cx)
            }
            Action::Dump(_) => {
                self.memblock.dump_all(&mut cx);
                Ok(())
            }
        }
    }

    /// Returns the node that holds `range`: where the log does not name the node, its data lies on itself.
    fn node_around(&self, range: &PhysRange) -> NodeId {
        let blocks = self.nodes.iter().flatten();
        blocks.into_iter().find(|block| block.range.overlaps(*range)).map_or(NodeId::ZERO, |block| block.node)
    }

    fn finish(self) -> BootReplay {
        let count = |verdict| self.compared.iter().filter(|line| line.verdict == verdict).count();
        BootReplay {
            differences: count(Verdict::Different),
            given: count(Verdict::Given),
            lines: self.compared,
            memblock: self.memblock,
            nodes: self.nodes.unwrap_or_default(),
        }
    }
}

fn call(memblock: &mut Memblock, request: &Request, cx: &mut BootContext<'_>) -> Result<(), MemblockError> {
    match *request {
        Request::Range(RangeCall::Add, base, size) => memblock.add(base, size, cx),
        Request::Range(RangeCall::Remove, base, size) => memblock.remove(base, size, cx),
        Request::Range(RangeCall::Reserve, base, size) => memblock.reserve(base, size, cx),
        Request::Range(RangeCall::PhysFree, base, size) => memblock.phys_free(base, size, cx),
        Request::Range(RangeCall::FreeLate, base, size) => {
            memblock.free_late(PhysRange::with_len(base, size), cx);
            Ok(())
        }
        Request::AddNode(base, size, node, flags) => memblock.add_node(base, size, node, flags, cx),
        Request::PhysAllocRange { size, align, bounds } => memblock.phys_alloc_range(size, align, bounds, cx).map(drop),
        Request::Alloc(AllocCall::TryNid, ref request) => memblock.alloc_try_nid(request, cx).map(drop),
        Request::Alloc(AllocCall::TryNidRaw, ref request) => memblock.alloc_try_nid_raw(request, cx).map(drop),
        Request::Alloc(AllocCall::ExactNidRaw, ref request) => memblock.alloc_exact_nid_raw(request, cx).map(drop),
    }
}

/// Reserves the default contiguous area as the kernel does: above 4 GiB from below if there is plenty of memory, else at the
/// top below `limit`. Linux 6.1: mm/cma.c (`cma_declare_contiguous_nid`).
fn reserve_contiguous(
    memblock: &mut Memblock,
    size: u64,
    limit: PhysAddr,
    cx: &mut BootContext<'_>,
) -> Result<(), MemblockError> {
    const FOUR_GIB: u64 = 1 << 32;
    let page_shift = memblock.config().page_shift;
    // A pageblock: the frames that one page table maps.
    let align = 1 << (page_shift + page_shift - 3);
    let max_addr = limit.min(memblock.end_of_dram());
    let request = AllocRequest { max_addr, ..AllocRequest::new(size, align) };
    if memblock.direction() == Direction::TopDown && memblock.end_of_dram().raw() >= FOUR_GIB + size {
        memblock.set_direction(Direction::BottomUp { above: None });
        let above = memblock.alloc_range_nid(&request.from(PhysAddr::new(FOUR_GIB)), NodePolicy::Exact, cx);
        memblock.set_direction(Direction::TopDown);
        if above.is_ok() {
            return Ok(());
        }
    }
    memblock.alloc_range_nid(&request, NodePolicy::Exact, cx).map(drop)
}

/// Returns true if the call is bounded by the current limit.
fn uses_limit(action: &Action) -> bool {
    match action {
        Action::Call(RequestLine { request: Request::PhysAllocRange { bounds, .. }, .. }, _) => bounds.end.raw() <= 1,
        Action::Call(line, _) => line.request.allocates(),
        Action::NodeData(..) | Action::Cma(_) => true,
        Action::Unexplained(_) | Action::Dump(_) => false,
    }
}

fn adds_memory(step: &Step) -> bool {
    let adds = |line: &RequestLine| matches!(line.request, Request::Range(RangeCall::Add, ..) | Request::AddNode(..));
    matches!(&step.action, Action::Call(line, _) if adds(line))
}

/// Returns true if the call is made for a node, so that nodes have their memory before it.
fn names_node(action: &Action) -> bool {
    match action {
        Action::NodeData(..) => true,
        Action::Call(RequestLine { request: Request::Alloc(_, request), .. }, _) => request.node.is_some(),
        _ => false,
    }
}

/// Returns true for the call at whose end arm64 lets region arrays grow.
fn is_paging_init(action: &Action) -> bool {
    matches!(action, Action::Call(line, _) if line.caller_symbol() == "paging_init")
}

/// Completes the name of a memblock function that called memblock with the code offset that the recording has.
///
/// Offsets, and which of memblock's functions the compiler folded into which, belong to the build.
fn adopt_caller(ours: &str, recorded: Option<&str>) -> String {
    let pair = recorded.and_then(|recorded| Some((ours.rsplit_once(' ')?, recorded.rsplit_once(' ')?)));
    if let Some(((head, caller), (recorded_head, recorded_caller))) = pair {
        let symbol = recorded_caller.split_once('+').map_or(recorded_caller, |(symbol, _)| symbol);
        let same = symbol == caller || (steps::is_allocator(symbol) && steps::is_allocator(caller));
        if head == recorded_head && caller.starts_with("memblock_") && same {
            return format!("{head} {recorded_caller}");
        }
    }
    ours.to_owned()
}
