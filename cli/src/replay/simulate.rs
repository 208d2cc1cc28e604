//! Simulated replay: one run of the recorded demand on our allocator, at one phase of the vmstat timer.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use page_allocator::FreeHighRule;
use recordings::NodeDistances;
use recordings::pages::{
    Action, BulkPage, CpuNodes, Event, FreeMap, GuidedReplay, InitialState, PresentRange, Recording, Surroundings,
    TraceReader,
};
use sim::CpuGuard;
use units::{CpuId, MigrateType, NodeId, Order, Pfn, PfnRange};

use super::demand::{Demand, DemandCounts};
use super::fragmentation::{self, FreeBlocks, Sample, SideSample};
use super::machine::{self, Plan, ReplayAllocator, ReplayKernel, ReplayMachine};
use super::node_rule::NodeRule;
use super::recorder::ListTraffic;
use super::timer::VmstatTimers;
use super::watch::{Watch, thread_cpu_time};
use super::zone_settings::SettingsSource;
use crate::failure::Failure;

/// What every run starts from.
pub(super) struct Scenario<'a> {
    pub(super) recording: &'a Recording,
    pub(super) surroundings: &'a Surroundings,
    pub(super) state: &'a InitialState,
    pub(super) present: &'a [PresentRange],
    pub(super) cpu_nodes: &'a CpuNodes,
    pub(super) distances: &'a NodeDistances,
    pub(super) settings: &'a SettingsSource,
    pub(super) free_high_rule: FreeHighRule,
    pub(super) interrupted: &'a Arc<AtomicBool>,
}

/// Free blocks of a zone by order and migratetype.
pub(super) type FreeCounts = [[u32; MigrateType::COUNT]; Order::COUNT];

/// What one run came to.
pub(super) struct Run {
    pub(super) phase_ms: u64,
    /// False if the user ended it early.
    pub(super) complete: bool,
    pub(super) events: u64,
    /// Processor time of the event loop: reading, parsing and serving.
    pub(super) cpu_time: Duration,
    pub(super) demand: DemandCounts,
    /// List traffic of each zone, ours and the recorded.
    pub(super) traffic: Vec<(ListTraffic, ListTraffic)>,
    pub(super) warnings: u64,
    /// Blocks of the inferred state that could not be loaded.
    pub(super) not_loaded: u64,
    /// Free blocks of each zone at the end.
    pub(super) free: Vec<FreeCounts>,
    /// The zone of each node with the most memory, once a second.
    pub(super) samples: Vec<Sample>,
    /// The machine as it was at the end, until it is dropped to save memory.
    pub(super) machine: Option<ReplayMachine>,
}

impl Run {
    /// Returns our list traffic in all zones.
    pub(super) fn ours(&self) -> ListTraffic {
        self.traffic.iter().map(|(ours, _)| *ours).sum()
    }

    /// Returns the recorded list traffic in all zones.
    pub(super) fn recorded(&self) -> ListTraffic {
        self.traffic.iter().map(|(_, recorded)| *recorded).sum()
    }
}

impl Scenario<'_> {
    /// Replays the recording once.
    pub(super) fn run(&self, phase_ms: u64) -> Result<Run, Failure> {
        let mut reader = self.recording.events()?;
        let plan = Plan {
            snapshot: &self.surroundings.before,
            present: self.present,
            cpu_nodes: self.cpu_nodes,
            distances: self.distances,
            settings: self.settings,
            free_high_rule: self.free_high_rule,
        };
        let machine = machine::boot(plan)?;
        let (allocator, cpus) = (machine.pages(), machine::cpus(&machine)?);
        let Some(boot_cpu) = cpus.first() else { return Err(Failure::Machine("no CPU".to_owned())) };
        let not_loaded = machine::load(&machine, boot_cpu, plan, self.state);
        let mut replay = Replay::new(self, machine.kernel(), &cpus, phase_ms, &reader);
        let watch = Watch::start("simulated replay", self.interrupted);
        let started = thread_cpu_time();
        let complete = replay.play(&mut reader, &watch)?;
        let cpu_time = thread_cpu_time().saturating_sub(started);
        watch.finish();
        let Replay { demand, recorded, samples, events, .. } = replay;
        let (demand, free) = (demand.counts(), free_counts(allocator, boot_cpu));
        let (ours, warnings) = (allocator.hooks().traffic(), allocator.hooks().warnings());
        let traffic = ours.into_iter().zip(recorded).collect();
        drop(cpus);
        Ok(Run {
            phase_ms,
            complete,
            events,
            cpu_time,
            demand,
            traffic,
            warnings,
            not_loaded,
            free,
            samples,
            machine: Some(machine),
        })
    }
}

fn free_counts(allocator: &ReplayAllocator, cpu: &CpuGuard<'_>) -> Vec<FreeCounts> {
    allocator.zones().iter().map(|zone| allocator.free_counts(cpu, zone)).collect()
}

/// A run under way.
struct Replay<'a> {
    scenario: &'a Scenario<'a>,
    kernel: &'a ReplayKernel,
    cpus: &'a [CpuGuard<'a>],
    demand: Demand<'a>,
    timers: VmstatTimers,
    /// Bulk pages served so far.
    bulk: usize,
    /// Recorded traffic of each zone.
    recorded: Vec<ListTraffic>,
    recorded_lists: GuidedReplay,
    samples: Vec<Sample>,
    next_sample_ns: u64,
    events: u64,
}

const SAMPLE_INTERVAL_NS: u64 = 1_000_000_000;

impl<'a> Replay<'a> {
    fn new(
        scenario: &'a Scenario<'a>,
        kernel: &'a ReplayKernel,
        cpus: &'a [CpuGuard<'a>],
        phase_ms: u64,
        reader: &TraceReader,
    ) -> Self {
        let before = &scenario.surroundings.before;
        let mut free = FreeMap::new(before.end());
        for block in &scenario.state.free_blocks {
            free.insert(PfnRange::with_len(block.pfn, block.order.nr_pages()));
        }
        let cpu_nodes = &scenario.cpu_nodes.nodes;
        let rule = NodeRule::new(before, cpu_nodes, scenario.distances);
        let mut recorded_lists = GuidedReplay::from_map(free, before.pageblock_order);
        if rule.is_some() {
            recorded_lists = recorded_lists.counting(before.zones.iter().map(|zone| zone.span));
        }
        Self {
            scenario,
            kernel,
            cpus,
            demand: Demand::new(kernel.pages(), cpus, before.end()).with_rule(rule),
            timers: VmstatTimers::new(cpus.len(), phase_ms, reader.header().start_mono_ns),
            bulk: 0,
            recorded: vec![ListTraffic::default(); before.zones.len()],
            recorded_lists,
            samples: Vec::new(),
            next_sample_ns: 0,
            events: 0,
        }
    }

    /// Plays all events; returns false if the user ended it.
    fn play(&mut self, reader: &mut TraceReader, watch: &Watch) -> Result<bool, Failure> {
        let mut last_ns = 0;
        while let Some(event) = reader.next_event()? {
            self.before(&event);
            self.demand.serve(&event, &self.recorded_lists);
            self.note_recorded(&event);
            self.events += 1;
            last_ns = event.time_ns;
            if !watch.goes_on(self.events, || reader.progress()) {
                self.sample(last_ns);
                return Ok(false);
            }
        }
        self.sample(last_ns);
        Ok(true)
    }

    /// Does what happens by itself up to the time of `event`.
    #[inline]
    fn before(&mut self, event: &Event) {
        let (kernel, cpus) = (self.kernel, self.cpus);
        self.timers.run_due(event.time_ns, |id: CpuId| {
            if let Some(cpu) = cpus.get(id.index()) {
                kernel.vmstat_update(cpu);
            }
        });
        if event.time_ns >= self.next_sample_ns {
            self.sample(event.time_ns);
            self.next_sample_ns = (event.time_ns / SAMPLE_INTERVAL_NS + 1) * SAMPLE_INTERVAL_NS;
        }
        if self.scenario.state.bulk.get(self.bulk).is_some_and(|page| page.event <= self.events) {
            self.serve_bulk();
        }
    }

    #[cold]
    fn serve_bulk(&mut self) {
        let rest = self.scenario.state.bulk.get(self.bulk..).unwrap_or_default();
        let due = rest.iter().take_while(|page| page.event <= self.events).count();
        let due = rest.get(..due).unwrap_or_default();
        let node_of = |page: &BulkPage| self.demand.node_of(page.pfn);
        let key = |page: &BulkPage| (page.event, page.cpu, page.migrate_type, node_of(page));
        let calls: Vec<&[BulkPage]> = due.chunk_by(|a, b| key(a) == key(b)).collect();
        for call in calls {
            self.demand.serve_bulk(call, &self.recorded_lists);
        }
        self.bulk += due.len();
    }

    /// Counts what the recorded allocator did.
    #[inline]
    fn note_recorded(&mut self, event: &Event) {
        match event.action {
            Action::ZoneLocked { pfn, order, refill, .. } if refill => {
                self.count_recorded(pfn, |traffic| traffic.refilled += order.nr_pages());
            }
            Action::PcpuDrain { pfn, order, .. } => {
                self.count_recorded(pfn, |traffic| traffic.drained += order.nr_pages());
            }
            Action::ExtFrag(fallback) => self.count_recorded(fallback.pfn, |traffic| traffic.fallbacks += 1),
            _ => {}
        }
        self.recorded_lists.apply(event);
    }

    #[inline]
    fn count_recorded(&mut self, pfn: Pfn, count: impl FnOnce(&mut ListTraffic)) {
        let zone = self.scenario.surroundings.before.zone_of(pfn);
        if let Some(traffic) = zone.and_then(|zone| self.recorded.get_mut(zone)) {
            count(traffic);
        }
    }

    /// Samples the largest zone of each node.
    #[cold]
    fn sample(&mut self, time_ns: u64) {
        let before = &self.scenario.surroundings.before;
        let traffic: Vec<_> = self.kernel.pages().hooks().traffic().into_iter().zip(self.recorded.clone()).collect();
        for node in before.nodes() {
            let zones = before.zones.iter().enumerate().filter(|(_, zone)| zone.node == node);
            let of_node = zones.clone().filter_map(|(number, _)| traffic.get(number));
            let (ours, recorded) = (of_node.clone().map(|both| both.0).sum(), of_node.map(|both| both.1).sum());
            let Some((largest, _)) = zones.max_by_key(|(_, zone)| zone.managed) else { continue };
            let sample = self.sample_zone(time_ns, node, largest, [ours, recorded]);
            self.samples.extend(sample);
        }
    }

    /// `traffic` is that of the node, ours and the recorded.
    fn sample_zone(&self, time_ns: u64, node: NodeId, number: usize, traffic: [ListTraffic; 2]) -> Option<Sample> {
        let pages = self.kernel.pages();
        let (zone, recorded) = (pages.zones().get(number)?, self.scenario.surroundings.before.zones.get(number)?);
        let cpu = self.cpus.first()?;
        let mut ours: FreeBlocks = [0; Order::COUNT];
        for (slot, counts) in ours.iter_mut().zip(pages.free_counts(cpu, zone)) {
            *slot = counts.iter().copied().map(u64::from).sum();
        }
        let mut theirs: FreeBlocks = [0; Order::COUNT];
        for block in self.recorded_lists.free_map().blocks(recorded.span, pages.map().geometry.max_order) {
            theirs[block.order.index()] += 1;
        }
        let order = pages.map().geometry.pageblock_order;
        let side = |blocks: &FreeBlocks, traffic: ListTraffic| SideSample {
            free_pages: fragmentation::free_pages(blocks),
            unusable_free_index: fragmentation::unusable_free_index(blocks, order),
            fragmentation_index: fragmentation::fragmentation_index(blocks, order),
            refilled: traffic.refilled,
            drained: traffic.drained,
            fallbacks: traffic.fallbacks,
        };
        Some(Sample {
            time_ms: time_ns / 1_000_000,
            node: node.raw(),
            zone: recorded.zone.name(),
            ours: side(&ours, traffic[0]),
            recorded: side(&theirs, traffic[1]),
            pcp_pages: pages.pcp_pages(cpu, zone),
        })
    }
}
