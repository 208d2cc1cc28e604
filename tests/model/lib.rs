//! Holder of the tests in `tests/`: the hosted machine with a page allocator of an awkward shape.
//!
//! Two nodes, three zones, a first and a last pageblock that are not whole, and watermarks high enough to be met.

use std::sync::Arc;
use std::time::Duration;

use fixture::{Fixture, Shape, ZoneShape};
use page_allocator::{DebugOptions, Geometry, PcpLimits, ZoneSettings};
use sim::{Handler, InterruptRate, MachineError, MemoryLayout, SimPlatform};
use units::{NodeId, Pfn, PfnRange, ZoneType};

/// The machine of these tests.
pub type Machine = Fixture<SimPlatform>;

/// Returns the shape that every test here uses, with `scale` times 4,096 frames, more or less.
pub fn shape(scale: u64, nr_cpus: usize) -> Shape {
    let one = NodeId::try_new(1).unwrap_or_default();
    let zone = |node, kind, start, end| ZoneShape { node, kind, span: PfnRange::new(Pfn::new(start), Pfn::new(end)) };
    Shape {
        geometry: Geometry::FOUR_KIB,
        zones: vec![
            zone(NodeId::ZERO, ZoneType::Dma32, 16, 1024 * scale),
            zone(NodeId::ZERO, ZoneType::Normal, 1024 * scale, 2560 * scale),
            zone(one, ZoneType::Normal, 2560 * scale, 4096 * scale + 37),
        ],
        nr_cpus,
        settings: ZoneSettings {
            watermarks: [24, 30, 36, 42],
            pcp: PcpLimits { high_min: 16, high_max: 64, batch: 8 },
            ..ZoneSettings::default()
        },
    }
}

/// Makes the machine of `shape` with every frame free.
///
/// # Errors
/// What the host refuses.
pub fn machine(shape: Shape, rate: Option<InterruptRate>, debug: DebugOptions) -> Result<Machine, MachineError> {
    let ram = shape.zones.iter().map(|zone| zone.span.phys(shape.geometry.page_shift)).collect();
    let platform = SimPlatform::new(&MemoryLayout { ram, ..MemoryLayout::default() }, shape.nr_cpus, rate)?;
    let number = platform.number();
    let machine = Fixture::new(platform, number, shape, debug);
    if let Some(cpu) = machine.pages().platform().cpu(units::CpuId::ZERO) {
        machine.start(&cpu);
    }
    Ok(machine)
}

/// Runs `handler` on every interrupt.
pub fn on_interrupt(machine: &Machine, handler: Arc<Handler>) {
    machine.pages().platform().on_interrupt(handler);
}

/// Returns how long a stress test runs: MMKIT_STRESS_SECONDS, or a second.
pub fn stress_time() -> Duration {
    let seconds = std::env::var("MMKIT_STRESS_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}
