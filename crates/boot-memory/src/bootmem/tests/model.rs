//! Random calls on bootmem and on a model that scans page by page.

use proptest::prelude::*;

use super::*;

const NODES: [(u64, u64, u64); 3] = [(0, 64, 128), (1, 128, 200), (2, 300, 400)];
const END: u64 = 420;

#[derive(Clone, Copy, Default)]
struct Last {
    end: u64,
    hint: u64,
}

/// Every page's state, and each node's last allocation; all numbers are absolute.
struct Model {
    free: Vec<bool>,
    last: [Last; 3],
}

impl Model {
    fn is_covered(pages: std::ops::Range<u64>) -> bool {
        pages.clone().all(|pfn| NODES.iter().any(|&(_, start, end)| (start..end).contains(&pfn)))
    }

    fn mark(&mut self, pages: std::ops::Range<u64>, free: bool) {
        for pfn in pages {
            self.free[pfn as usize] = free;
        }
    }

    fn lower_hints(&mut self, pages: &std::ops::Range<u64>) {
        for (last, (_, start, end)) in self.last.iter_mut().zip(NODES) {
            if pages.start < end && start < pages.end {
                last.hint = last.hint.min(pages.start.max(start));
            }
        }
    }

    fn run_at(&self, pfn: u64, pages: u64, end: u64) -> bool {
        pfn + pages <= end && (pfn..pfn + pages).all(|page| self.free[page as usize])
    }

    fn alloc_on(&mut self, index: usize, request: &BootmemRequest) -> Option<u64> {
        let (_, start, node_end) = NODES[index];
        let Last { end: last_end, hint } = self.last[index];
        let end = request.limit.map_or(node_end, |limit| (limit.raw() / PAGE).min(node_end));
        let step = (request.align / PAGE).max(1);
        let goal = request.goal.raw() / PAGE;
        let from = if start < goal && goal < end { goal } else { start };
        let pages = request.size.div_ceil(PAGE);
        let fits = |pfn: &u64| pfn.is_multiple_of(step) && self.run_at(*pfn, pages, end);
        let after_hint = if hint > from.next_multiple_of(step) { (hint..end).find(fits) } else { None };
        let pfn = after_hint.or_else(|| (from..end).find(fits))?;
        let continues = !last_end.is_multiple_of(PAGE) && last_end / PAGE + 1 == pfn && !self.free[pfn as usize - 1];
        let at = if continues { last_end.next_multiple_of(request.align) } else { pfn * PAGE };
        let taken_end = at + request.size;
        self.mark(pfn..taken_end.div_ceil(PAGE).max(pfn), false);
        self.last[index] = Last { end: taken_end, hint: taken_end.div_ceil(PAGE) };
        Some(at)
    }

    fn alloc_core(&mut self, request: &BootmemRequest) -> Option<u64> {
        let goal = request.goal.raw() / PAGE;
        (0..3).find_map(|index| {
            let (_, start, end) = NODES[index];
            let above = goal == 0 || end > goal;
            let below = request.limit.is_none_or(|limit| start < limit.raw() / PAGE);
            if above && below { self.alloc_on(index, request) } else { None }
        })
    }

    fn alloc(&mut self, request: &BootmemRequest) -> Option<u64> {
        let anywhere = BootmemRequest { goal: PhysAddr::ZERO, ..*request };
        self.alloc_core(request).or_else(|| self.alloc_core(&anywhere))
    }

    fn alloc_node(&mut self, index: usize, request: &BootmemRequest) -> Option<u64> {
        let anywhere = BootmemRequest { goal: PhysAddr::ZERO, ..*request };
        [*request, anywhere]
            .into_iter()
            .find_map(|request| self.alloc_on(index, &request).or_else(|| self.alloc_core(&request)))
    }
}

#[derive(Clone, Debug)]
enum Call {
    Reserve(PhysRange, Overlap),
    Free(PhysRange),
    Alloc(BootmemRequest),
    AllocNode(usize, BootmemRequest),
}

fn any_call() -> impl Strategy<Value = Call> {
    let any_range =
        || (60 * PAGE..END * PAGE, 0..40 * PAGE).prop_map(|(start, len)| range(start, (start + len).min(END * PAGE)));
    let overlap = prop_oneof![Just(Overlap::Allowed), Just(Overlap::Refused)];
    let request = || {
        let goal = prop_oneof![2 => Just(0), 1 => PAGE..END * PAGE];
        let limit = prop_oneof![2 => Just(None), 1 => (0..20 * PAGE).prop_map(Some)];
        (1..20 * PAGE, 0..16u32, goal, limit).prop_map(|(size, align, goal, limit)| BootmemRequest {
            size,
            align: 1 << align,
            goal: addr(goal),
            limit: limit.map(|room| addr(goal + size + room)),
        })
    };
    prop_oneof![
        2 => (any_range(), overlap).prop_map(|(range, overlap)| Call::Reserve(range, overlap)),
        3 => any_range().prop_map(Call::Free),
        4 => request().prop_map(Call::Alloc),
        2 => (0..3usize, request()).prop_map(|(index, request)| Call::AllocNode(index, request)),
    ]
}

fn run(call: &Call, bootmem: &mut Bootmem, model: &mut Model) {
    match call {
        Call::Reserve(range, overlap) => {
            let pages = range.start.raw() / PAGE..range.end.raw().div_ceil(PAGE);
            let taken = Model::is_covered(pages.clone()) && pages.clone().any(|pfn| !model.free[pfn as usize]);
            let possible = Model::is_covered(pages.clone()) && !(taken && *overlap == Overlap::Refused);
            assert_eq!(bootmem.reserve(*range, *overlap).is_ok(), possible, "{call:x?}");
            if possible {
                model.mark(pages, false);
            }
        }
        Call::Free(range) => {
            let whole = range.whole_frames(12);
            let pages = whole.start.raw()..whole.end.raw();
            let possible = pages.is_empty()
                || (Model::is_covered(pages.clone()) && pages.clone().all(|pfn| !model.free[pfn as usize]));
            assert_eq!(bootmem.free(*range).is_ok(), possible, "{call:x?}");
            if possible && !pages.is_empty() {
                model.lower_hints(&pages);
                model.mark(pages, true);
            }
        }
        Call::Alloc(request) => {
            let expected = model.alloc(request);
            assert_eq!(bootmem.alloc(request).ok().map(|found| found.start.raw()), expected, "{call:x?}");
        }
        Call::AllocNode(index, request) => {
            let expected = model.alloc_node(*index, request);
            let found = bootmem.alloc_node(node(NODES[*index].0), request);
            assert_eq!(found.ok().map(|found| found.start.raw()), expected, "{call:x?}");
        }
    }
    bootmem.check_invariants();
    for (pfn, &free) in model.free.iter().enumerate() {
        assert_eq!(bootmem.is_free(Pfn::new(pfn as u64)), free, "page {pfn:#x} after {call:x?}");
    }
}

proptest! {
    #[test]
    fn random_calls_agree_with_the_model(calls in prop::collection::vec(any_call(), 1..60)) {
        let mut bootmem = three_nodes();
        let mut model = Model { free: vec![false; END as usize], last: [Last::default(); 3] };
        for (index, (_, start, end)) in NODES.into_iter().enumerate() {
            model.mark(start..end, true);
            model.last[index] = Last { end: start * PAGE, hint: start };
        }
        for call in &calls {
            run(call, &mut bootmem, &mut model);
        }
        let left: u64 = model.free.iter().map(|&free| u64::from(free)).sum();
        let (blocks, pages) = released(|mut release| bootmem.free_all(&mut release));
        prop_assert_eq!(pages, left + 3);
        prop_assert_eq!(blocks.iter().map(|&(_, order)| 1 << order).sum::<u64>(), pages);
    }
}
