//! Watermarks, reserves and per-CPU limits of the recorded machine's zones: as recorded, or computed for other settings.

use kernel_mm::Kernel;
use page_allocator::layout::{DEFAULT_SCALE_FACTOR, PcpZone, Release, WatermarkRule, pcp_size};
use page_allocator::{Hooks, PcpLimits, Tunables, ZoneSettings};
use platform::Platform;
use recordings::pages::{CpuNodes, Snapshot, ZoneSnapshot};
use sync::Cpu;
use units::{NodeId, ZoneType};

const PAGE_SHIFT: u32 = 12;

/// Where the settings of the zones come from.
#[derive(Clone, Debug)]
pub(super) enum SettingsSource {
    /// /proc/zoneinfo of the recording; the boost factor is not in it.
    Recorded {
        /// vm.watermark_boost_factor.
        watermark_boost_factor: u64,
    },
    /// The kernel, for other settings; a vm.min_free_kbytes that is not given is the recorded one.
    Computed(Tunables),
}

impl SettingsSource {
    /// Gives every zone of the booted machine its settings.
    pub(super) fn apply<P: Platform, H: Hooks>(
        &self,
        kernel: &Kernel<P, H>,
        cpu: &Cpu,
        snapshot: &Snapshot,
        cpu_nodes: &CpuNodes,
    ) {
        match self {
            Self::Recorded { watermark_boost_factor } => {
                kernel.pages().set_watermark_boost_factor(*watermark_boost_factor);
                let scale = Tunables::default().pcp_batch_scale_max;
                for (zone, recorded) in kernel.pages().zones().iter().zip(&snapshot.zones) {
                    kernel.pages().apply_settings(cpu, zone, &recorded_zone(recorded, cpu_nodes), scale);
                }
            }
            Self::Computed(tunables) => {
                let min_free_kbytes = tunables.min_free_kbytes.unwrap_or_else(|| recorded_min_free_kbytes(snapshot));
                kernel.set_tunables(cpu, &Tunables { min_free_kbytes: Some(min_free_kbytes), ..*tunables });
            }
        }
    }
}

fn recorded_zone(zone: &ZoneSnapshot, cpu_nodes: &CpuNodes) -> ZoneSettings {
    let set = zone.pagesets.first().copied().unwrap_or_default();
    let narrow = |pages: u64| u32::try_from(pages).unwrap_or(u32::MAX);
    // Before 6.13 zoneinfo shows neither bound of the tuned high mark.
    let bounds = if set.high_max == 0 {
        computed_bounds(zone, cpus_of(zone, cpu_nodes), zone.watermarks[1])
    } else {
        (set.high_min, set.high_max)
    };
    ZoneSettings {
        watermarks: zone.watermarks,
        lowmem_reserve: zone.protection,
        pcp: PcpLimits { high_min: narrow(bounds.0), high_max: narrow(bounds.1), batch: narrow(set.batch) },
    }
}

/// Returns the number of CPUs among which the zone's pages are divided: those near its node, or all if there are none.
fn cpus_of(zone: &ZoneSnapshot, cpu_nodes: &CpuNodes) -> u64 {
    let near = |node: Option<NodeId>| node.is_none_or(|node| node == zone.node);
    match zone.pagesets.iter().filter(|set| near(cpu_nodes.node_of(set.cpu))).count() {
        0 => zone.pagesets.len() as u64,
        cpus => cpus as u64,
    }
}

fn computed_bounds(zone: &ZoneSnapshot, cpus: u64, low: u64) -> (u64, u64) {
    let zone = PcpZone { managed: zone.managed, low, cpus };
    let size = pcp_size(zone, 0, PAGE_SHIFT, Release::V6_12);
    (size.high_min, size.high_max)
}

fn lowmem_pages(snapshot: &Snapshot, rule: &WatermarkRule) -> u64 {
    rule.lowmem_pages(snapshot.zones.iter().map(|zone| (zone.zone, zone.managed)))
}

/// Finds the vm.min_free_kbytes from which the recorded min watermarks follow; each zone's share was rounded down.
fn recorded_min_free_kbytes(snapshot: &Snapshot) -> u64 {
    let sum: u64 = snapshot.zones.iter().map(|zone| zone.watermarks[0]).sum();
    let fits = |pages: &u64| {
        let rule = WatermarkRule {
            min_free_kbytes: pages << (PAGE_SHIFT - 10),
            scale_factor: DEFAULT_SCALE_FACTOR,
            page_shift: PAGE_SHIFT,
            movable_source: ZoneType::Normal,
            release: Release::V6_12,
        };
        let lowmem = lowmem_pages(snapshot, &rule);
        snapshot.zones.iter().all(|zone| rule.zone(zone.zone, zone.managed, lowmem).min == zone.watermarks[0])
    };
    (sum..=sum + snapshot.zones.len() as u64).find(fits).unwrap_or(sum) << (PAGE_SHIFT - 10)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use page_allocator::Watermark;
    use recordings::pages::{InitialState, Recording, Surroundings, present_ranges};
    use units::CpuId;

    use super::super::machine::{self, Plan, ReplayMachine};
    use super::super::near;
    use super::*;

    fn recording(name: &str) -> Recording {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../data/pages/{name}.trace.zst"));
        Recording::at(&path).unwrap()
    }

    fn recorded(name: &str) -> Surroundings {
        Surroundings::read(&recording(name)).unwrap()
    }

    /// Boots the machine of a recording with `settings`, all its memory in use.
    fn booted(name: &str, recorded: &Surroundings, settings: &SettingsSource) -> ReplayMachine {
        let present = present_ranges(&recorded.before, &recorded.kinds);
        let plan = Plan {
            snapshot: &recorded.before,
            present: &present,
            cpu_nodes: &near::cpu_nodes(&recording(name), &recorded.before, &[]).unwrap(),
            distances: &recording(name).node_distances().unwrap(),
            settings,
            free_high_rule: page_allocator::FreeHighRule::default(),
        };
        let machine = machine::boot(plan).unwrap();
        let nothing = InitialState {
            free_blocks: Vec::new(),
            pageblock_types: Vec::new(),
            page_sets: Vec::new(),
            bulk: Vec::new(),
        };
        let cpu = machine.cpu(CpuId::ZERO).unwrap();
        assert_eq!(machine::load(&machine, &cpu, plan, &nothing), 0);
        drop(cpu);
        machine
    }

    #[test]
    fn the_default_settings_give_what_was_recorded() {
        // The second kernel's own setting was 26160, from which the same marks follow.
        for (name, min_free_kbytes) in [("cargo", 67_584), ("numa2", 26_156)] {
            let recorded = recorded(name);
            assert_eq!(recorded_min_free_kbytes(&recorded.before), min_free_kbytes);
            let source = SettingsSource::Recorded { watermark_boost_factor: 0 };
            let given = booted(name, &recorded, &source);
            let computed = booted(name, &recorded, &SettingsSource::Computed(Tunables::default()));
            let cpu = (given.cpu(CpuId::ZERO).unwrap(), computed.cpu(CpuId::ZERO).unwrap());
            for (ours, theirs) in computed.pages().zones().iter().zip(given.pages().zones()) {
                let marks = |zone: &page_allocator::Zone| {
                    [Watermark::Min, Watermark::Low, Watermark::High, Watermark::Promo].map(|mark| zone.watermark(mark))
                };
                assert_eq!(marks(ours), marks(theirs));
                // The recorded kernels have no HighMem, whose column they leave out.
                for kind in [ZoneType::Dma32, ZoneType::Normal, ZoneType::Movable] {
                    assert_eq!(ours.lowmem_reserve(kind), theirs.lowmem_reserve(kind), "{kind:?}");
                }
                let limits = |machine: &ReplayMachine, cpu: &Cpu, zone, of| {
                    machine.pages().pcp_counters(cpu, zone, of).map(|counters| counters.limits)
                };
                for of in (0..2).filter_map(CpuId::try_new) {
                    assert_eq!(limits(&computed, &cpu.1, ours, of), limits(&given, &cpu.0, theirs, of), "{name}");
                }
            }
        }
    }

    #[test]
    fn a_larger_reserve_raises_every_watermark() {
        let recorded = recorded("cargo");
        let settings = Tunables { min_free_kbytes: Some(2 * 67_584), ..Tunables::default() };
        let raised = booted("cargo", &recorded, &SettingsSource::Computed(settings));
        for (zone, recorded) in raised.pages().zones().iter().zip(&recorded.before.zones) {
            assert!(zone.watermark(Watermark::Min) > recorded.watermarks[0]);
        }
    }
}
