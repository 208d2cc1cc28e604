//! Simulated replay: one run of the recorded demand on our allocator, at one phase of the vmstat timer.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use page_allocator::FreeHighRule;
use recordings::pages::{Action, Event, FreeMap, GuidedReplay, InitialState, Recording, Surroundings, TraceReader};
use sim::CpuGuard;
use units::{CpuId, MigrateType, Order, PfnRange};

use super::demand::{Demand, DemandCounts};
use super::fragmentation::{self, FreeBlocks, Sample, SideSample};
use super::machine::{self, Plan, ReplayAllocator, ReplayKernel, ReplayMachine};
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
    pub(super) present: &'a [PfnRange],
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
    pub(super) ours: ListTraffic,
    pub(super) recorded: ListTraffic,
    pub(super) warnings: u64,
    /// Blocks of the inferred state that could not be loaded.
    pub(super) not_loaded: u64,
    /// Free blocks of each zone at the end.
    pub(super) free: Vec<FreeCounts>,
    /// The zone with the most memory, once a second.
    pub(super) samples: Vec<Sample>,
    /// The machine as it was at the end, until it is dropped to save memory.
    pub(super) machine: Option<ReplayMachine>,
}

impl Scenario<'_> {
    /// Replays the recording once.
    pub(super) fn run(&self, phase_ms: u64) -> Result<Run, Failure> {
        let mut reader = self.recording.events()?;
        let nr_cpus = reader.header().nr_cpus;
        let plan = Plan {
            snapshot: &self.surroundings.before,
            present: self.present,
            nr_cpus,
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
        drop(cpus);
        Ok(Run {
            phase_ms,
            complete,
            events,
            cpu_time,
            demand,
            ours,
            recorded,
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
    recorded: ListTraffic,
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
        Self {
            scenario,
            kernel,
            cpus,
            demand: Demand::new(kernel.pages(), cpus, before.end()),
            timers: VmstatTimers::new(cpus.len(), phase_ms, reader.header().start_mono_ns),
            bulk: 0,
            recorded: ListTraffic::default(),
            recorded_lists: GuidedReplay::from_map(free, before.pageblock_order),
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
            self.demand.serve(&event);
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
        for call in due.chunk_by(|a, b| (a.event, a.cpu, a.migrate_type) == (b.event, b.cpu, b.migrate_type)) {
            self.demand.serve_bulk(call);
        }
        self.bulk += due.len();
    }

    /// Counts what the recorded allocator did.
    #[inline]
    fn note_recorded(&mut self, event: &Event) {
        match event.action {
            Action::ZoneLocked { order, refill, .. } if refill => self.recorded.refilled += order.nr_pages(),
            Action::PcpuDrain { order, .. } => self.recorded.drained += order.nr_pages(),
            Action::ExtFrag(_) => self.recorded.fallbacks += 1,
            _ => {}
        }
        self.recorded_lists.apply(event);
    }

    #[cold]
    fn sample(&mut self, time_ns: u64) {
        let zones = self.kernel.pages().zones().iter().zip(&self.scenario.surroundings.before.zones);
        let Some((zone, recorded)) = zones.max_by_key(|(_, recorded)| recorded.managed) else { return };
        let Some(cpu) = self.cpus.first() else { return };
        let mut ours: FreeBlocks = [0; Order::COUNT];
        for (slot, counts) in ours.iter_mut().zip(self.kernel.pages().free_counts(cpu, zone)) {
            *slot = counts.iter().copied().map(u64::from).sum();
        }
        let mut theirs: FreeBlocks = [0; Order::COUNT];
        let limit = self.kernel.pages().map().geometry.max_order;
        for block in self.recorded_lists.free_map().blocks(recorded.span, limit) {
            theirs[block.order.index()] += 1;
        }
        let order = self.kernel.pages().map().geometry.pageblock_order;
        let side = |blocks: &FreeBlocks, traffic: ListTraffic| SideSample {
            free_pages: fragmentation::free_pages(blocks),
            unusable_free_index: fragmentation::unusable_free_index(blocks, order),
            fragmentation_index: fragmentation::fragmentation_index(blocks, order),
            refilled: traffic.refilled,
            drained: traffic.drained,
            fallbacks: traffic.fallbacks,
        };
        self.samples.push(Sample {
            time_ms: time_ns / 1_000_000,
            ours: side(&ours, self.kernel.pages().hooks().traffic()),
            recorded: side(&theirs, self.recorded),
            pcp_pages: self.kernel.pages().pcp_pages(cpu, zone),
        });
    }
}
