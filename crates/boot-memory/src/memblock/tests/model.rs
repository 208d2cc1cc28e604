//! Random calls on memblock and on a model that keeps every 256 bytes apart.

use proptest::prelude::*;

use super::*;

const CELL: u64 = 0x100;
const CELLS: u64 = 1024;

type Kind = Option<(Option<NodeId>, RegionFlags)>;

/// What every 256 bytes of the first 256 KiB are.
#[derive(Clone)]
struct Model {
    memory: Vec<Kind>,
    reserved: Vec<Kind>,
    arrays: Vec<PhysRange>,
    direction: Direction,
}

impl Model {
    fn new() -> Self {
        let nothing = vec![None; CELLS as usize];
        Self { memory: nothing.clone(), reserved: nothing, arrays: vec![], direction: Direction::TopDown }
    }

    fn list(&mut self, list: ListKind) -> &mut [Kind] {
        match list {
            ListKind::Memory => &mut self.memory,
            ListKind::Reserved => &mut self.reserved,
        }
    }

    fn cells(&mut self, list: ListKind, range: PhysRange) -> &mut [Kind] {
        let end = (range.end.raw() / CELL).min(CELLS) as usize;
        &mut self.list(list)[(range.start.raw() / CELL) as usize..end]
    }

    fn add(&mut self, list: ListKind, range: PhysRange, node: Option<NodeId>, flags: RegionFlags) {
        for cell in self.cells(list, range) {
            cell.get_or_insert((node, flags));
        }
    }

    fn remove(&mut self, list: ListKind, range: PhysRange) {
        self.cells(list, range).fill(None);
    }

    fn change(&mut self, list: ListKind, range: PhysRange, change: impl Fn(&mut (Option<NodeId>, RegionFlags))) {
        self.cells(list, range).iter_mut().flatten().for_each(change);
    }

    /// Follows region arrays that moved while a call ran.
    fn sync_arrays(&mut self, memblock: &Memblock) {
        let arrays: Vec<_> = memblock.grown_arrays().collect();
        for old in std::mem::replace(&mut self.arrays, arrays.clone()) {
            if !arrays.contains(&old) {
                self.remove(ListKind::Reserved, old);
            }
        }
        for array in arrays {
            self.add(ListKind::Reserved, array, None, RegionFlags::empty());
        }
    }

    /// Folds a list into the regions it must consist of.
    fn regions(kinds: &[Kind]) -> Vec<Region> {
        let mut regions: Vec<Region> = vec![];
        for (index, kind) in kinds.iter().enumerate() {
            let Some((node, flags)) = *kind else { continue };
            let base = addr(index as u64 * CELL);
            match regions.last_mut() {
                Some(last) if last.end() == base && last.node == node && last.flags == flags => last.size += CELL,
                _ => regions.push(Region { base, size: CELL, flags, node }),
            }
        }
        regions
    }

    /// Returns true if `[start, start + size)` is free and within one region of memory that the search looks at.
    fn fits(&self, start: u64, size: u64, node: Option<NodeId>) -> bool {
        let cells = (start / CELL) as usize..((start + size) / CELL) as usize;
        let Some(first) = self.memory.get(cells.start).copied().flatten() else { return false };
        let searched = (node.is_none() || first.0 == node) && !first.1.contains(RegionFlags::NOMAP);
        searched
            && cells.end <= self.memory.len()
            && self.memory[cells.clone()].iter().all(|kind| *kind == Some(first))
            && self.reserved[cells].iter().all(Option::is_none)
    }

    fn find(&self, call: &Alloc, node: Option<NodeId>, min_addr: u64) -> Option<u64> {
        let limit = call.max_addr.min(CELLS * CELL);
        let fits = |start: &u64| {
            *start >= min_addr.max(0x1000) && start + call.size <= limit && self.fits(*start, call.size, node)
        };
        let mut candidates = (0..CELLS * CELL / call.align).map(|step| step * call.align);
        match self.direction {
            Direction::TopDown => candidates.rev().find(fits),
            Direction::BottomUp { .. } => candidates.find(fits),
        }
    }

    fn alloc(&self, call: &Alloc) -> Option<u64> {
        [call.min_addr, 0].iter().find_map(|&min_addr| {
            self.find(call, call.node, min_addr)
                .or_else(|| self.find(call, None, min_addr).filter(|_| call.policy == NodePolicy::Fallback))
        })
    }

    fn check(&self, memblock: &Memblock) {
        memblock.check_invariants();
        assert_eq!(memblock.memory(), Self::regions(&self.memory));
        assert_eq!(memblock.reserved(), Self::regions(&self.reserved));
        let bytes = |kinds: &[Kind]| kinds.iter().flatten().count() as u64 * CELL;
        assert_eq!(memblock.phys_mem_size(), bytes(&self.memory));
        assert_eq!(memblock.reserved_size(), bytes(&self.reserved));
        self.check_free_ranges(memblock);
    }

    fn check_free_ranges(&self, memblock: &Memblock) {
        let upwards: Vec<_> = memblock.free_mem_ranges(None, RegionFlags::empty()).collect();
        let mut downwards: Vec<_> = memblock.free_mem_ranges_reverse(None, RegionFlags::empty()).collect();
        downwards.reverse();
        assert_eq!(upwards, downwards);
        let mut free = vec![false; CELLS as usize];
        for found in &upwards {
            let cells = (found.range.start.raw() / CELL) as usize..(found.range.end.raw() / CELL) as usize;
            free[cells].fill(true);
        }
        for cell in 0..CELLS {
            assert_eq!(free[cell as usize], self.fits(cell * CELL, CELL, None), "cell {cell:#x}");
        }
    }
}

#[derive(Clone, Debug)]
struct Alloc {
    size: u64,
    align: u64,
    min_addr: u64,
    max_addr: u64,
    node: Option<NodeId>,
    policy: NodePolicy,
}

#[derive(Clone, Debug)]
enum Call {
    Add(PhysRange),
    AddNode(PhysRange, NodeId, RegionFlags),
    Remove(PhysRange),
    Reserve(PhysRange),
    Free(PhysRange),
    SetNode(PhysRange, ListKind, Option<NodeId>),
    MarkNomap(PhysRange),
    ClearNomap(PhysRange),
    MarkNoinit(PhysRange),
    Alloc(Alloc),
    Turn(Direction),
}

impl Call {
    fn run(&self, memblock: &mut Memblock, cx: &mut BootContext<'_>) -> Result<Option<PhysRange>, MemblockError> {
        let done = |()| None;
        match *self {
            Self::Add(range) => memblock.add(range.start, range.len(), cx).map(done),
            Self::AddNode(range, node, flags) => memblock.add_node(range.start, range.len(), node, flags, cx).map(done),
            Self::Remove(range) => memblock.remove(range.start, range.len(), cx).map(done),
            Self::Reserve(range) => memblock.reserve(range.start, range.len(), cx).map(done),
            Self::Free(range) => memblock.phys_free(range.start, range.len(), cx).map(done),
            Self::SetNode(range, list, node) => memblock.set_node(range.start, range.len(), list, node, cx).map(done),
            Self::MarkNomap(range) => memblock.mark_nomap(range.start, range.len(), cx).map(done),
            Self::ClearNomap(range) => memblock.clear_nomap(range.start, range.len(), cx).map(done),
            Self::MarkNoinit(range) => memblock.reserved_mark_noinit(range.start, range.len(), cx).map(done),
            Self::Alloc(ref call) => {
                let Alloc { size, align, node, policy, .. } = *call;
                let (min_addr, max_addr) = (addr(call.min_addr), addr(call.max_addr));
                let request = AllocRequest { size, align, min_addr, max_addr, node };
                let allocated = match policy {
                    NodePolicy::Fallback => memblock.alloc_try_nid(&request, cx),
                    NodePolicy::Exact => memblock.alloc_exact_nid_raw(&request, cx),
                };
                allocated.map(Some)
            }
            Self::Turn(direction) => {
                memblock.set_direction(direction);
                Ok(None)
            }
        }
    }

    fn run_on_model(&self, model: &mut Model) {
        match *self {
            Self::Add(range) => model.add(ListKind::Memory, range, None, RegionFlags::empty()),
            Self::AddNode(range, node, flags) => model.add(ListKind::Memory, range, Some(node), flags),
            Self::Remove(range) => model.remove(ListKind::Memory, range),
            Self::Reserve(range) => model.add(ListKind::Reserved, range, None, RegionFlags::empty()),
            Self::Free(range) => model.remove(ListKind::Reserved, range),
            Self::SetNode(range, list, node) => model.change(list, range, |kind| kind.0 = node),
            Self::MarkNomap(range) => model.change(ListKind::Memory, range, |kind| kind.1 |= RegionFlags::NOMAP),
            Self::ClearNomap(range) => model.change(ListKind::Memory, range, |kind| kind.1 -= RegionFlags::NOMAP),
            Self::MarkNoinit(range) => {
                model.change(ListKind::Reserved, range, |kind| kind.1 |= RegionFlags::RSRV_NOINIT);
            }
            Self::Alloc(_) => {}
            Self::Turn(direction) => model.direction = direction,
        }
    }

    /// Returns true if the call would free a region array, which no correct kernel does.
    fn frees_an_array(&self, memblock: &Memblock) -> bool {
        matches!(*self, Self::Free(range) if memblock.grown_arrays().any(|array| array.overlaps(range)))
    }
}

fn any_range() -> impl Strategy<Value = PhysRange> {
    (0..CELLS, 0..96u64).prop_map(|(start, len)| range(start * CELL, (start + len).min(CELLS) * CELL))
}

fn any_node() -> impl Strategy<Value = Option<NodeId>> {
    prop_oneof![Just(None), Just(Some(node(0))), Just(Some(node(1)))]
}

fn any_flags() -> impl Strategy<Value = RegionFlags> {
    prop_oneof![4 => Just(RegionFlags::empty()), 1 => Just(RegionFlags::NOMAP), 1 => Just(RegionFlags::HOTPLUG)]
}

fn any_alloc() -> impl Strategy<Value = Alloc> {
    let max_addr = prop_oneof![3 => Just(u64::MAX), 1 => (0..CELLS).prop_map(|cell| (cell + 16) * CELL)];
    let policy = prop_oneof![Just(NodePolicy::Fallback), Just(NodePolicy::Exact)];
    let min_addr = prop_oneof![Just(0), (0..CELLS).prop_map(|cell| cell * CELL)];
    (1..40u64, 8..13u32, min_addr, max_addr, any_node(), policy).prop_map(
        |(cells, align, min_addr, max_addr, node, policy)| Alloc {
            size: cells * CELL,
            align: 1 << align,
            min_addr,
            max_addr,
            node,
            policy,
        },
    )
}

fn any_call() -> impl Strategy<Value = Call> {
    let list = prop_oneof![Just(ListKind::Memory), Just(ListKind::Reserved)];
    let direction = prop_oneof![Just(Direction::TopDown), Just(Direction::BottomUp { above: None })];
    let some_node = any_node().prop_map(|choice| choice.unwrap_or(node(2)));
    prop_oneof![
        2 => any_range().prop_map(Call::Add),
        2 => (any_range(), some_node, any_flags()).prop_map(|(range, node, flags)| Call::AddNode(range, node, flags)),
        1 => any_range().prop_map(Call::Remove),
        3 => any_range().prop_map(Call::Reserve),
        2 => any_range().prop_map(Call::Free),
        2 => (any_range(), list, any_node()).prop_map(|(range, list, node)| Call::SetNode(range, list, node)),
        1 => any_range().prop_map(Call::MarkNomap),
        1 => any_range().prop_map(Call::ClearNomap),
        1 => any_range().prop_map(Call::MarkNoinit),
        4 => any_alloc().prop_map(Call::Alloc),
        1 => direction.prop_map(Call::Turn),
    ]
}

/// Calls of a boot that knows its memory: allocations, and ranges that come back.
fn any_boot_call() -> impl Strategy<Value = Call> {
    let hole = any_range().prop_filter("a range", |range| !range.is_empty());
    prop_oneof![
        8 => any_alloc().prop_map(Call::Alloc),
        2 => any_range().prop_map(Call::Free),
        1 => any_range().prop_map(Call::Reserve),
        1 => hole.prop_map(Call::Add),
    ]
}

/// Runs `calls` on both, with arrays that may grow `growths` times, and compares after each.
fn run(calls: &[Call], capacity: usize, growths: usize) {
    let config = MemblockConfig { memory_regions: capacity, reserved_regions: capacity, ..MemblockConfig::new() };
    let mut memblock = Memblock::new(config);
    let mut model = Model::new();
    let arrays = HeapArrays::new(growths);
    memblock.allow_resize();
    memblock.set_current_limit(addr(CELLS * CELL));
    for call in calls {
        let mut log = Lines::default();
        let mut cx = BootContext::new(&arrays, &mut log, "test");
        if call.frees_an_array(&memblock) {
            continue;
        }
        let expected = if let Call::Alloc(alloc) = call { model.alloc(alloc) } else { None };
        let outcome = call.run(&mut memblock, &mut cx);
        // An allocation that cannot be recorded where it was found is tried elsewhere, which the model does not follow.
        let could_not_grow = log.0.iter().any(|line| line.starts_with("memblock: Failed to double"));
        model.sync_arrays(&memblock);
        match outcome {
            Ok(Some(allocated)) => {
                assert!(model.fits(allocated.start.raw(), allocated.len(), None), "{call:x?}");
                assert!(Some(allocated.start.raw()) == expected || could_not_grow, "{call:x?}");
                model.add(ListKind::Reserved, allocated, None, RegionFlags::empty());
            }
            Ok(None) => call.run_on_model(&mut model),
            Err(MemblockError::NoMemory { .. }) => assert!(expected.is_none() || could_not_grow, "{call:x?}"),
            Err(error) => assert!(matches!(error, MemblockError::CannotGrow { .. }), "{error}"),
        }
        model.check(&memblock);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn random_calls_agree_with_the_model(calls in prop::collection::vec(any_call(), 1..60)) {
        run(&calls, INIT_REGIONS, 0);
    }

    #[test]
    fn allocations_find_what_was_freed(calls in prop::collection::vec(any_boot_call(), 1..80)) {
        let memory = [range(0x4000, 0x20000), range(0x22000, 0x40000)].map(Call::Add);
        run(&[&memory[..], &calls].concat(), INIT_REGIONS, 0);
    }

    #[test]
    fn growing_arrays_change_nothing_but_their_own_place(calls in prop::collection::vec(any_call(), 1..60)) {
        run(&calls, 1, usize::MAX);
    }

    #[test]
    fn a_growth_that_fails_at_any_point_leaves_the_lists_as_they_were(
        calls in prop::collection::vec(any_call(), 1..40)
    ) {
        for growths in 0..8 {
            run(&calls, 2, growths);
        }
    }
}
