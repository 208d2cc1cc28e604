//! The numbers of /proc/zoneinfo that boot computes: sizes, watermarks, reserves, per-CPU list sizes, counter thresholds.

use page_allocator::layout::{
    ByZone, PcpSize, PcpZone, Watermarks, ZoneSet, lowmem_reserve, normal_threshold, pcp_size,
};
use units::{NodeId, PfnRange, ZoneType};

use super::hand_over::HandOver;
use super::kernel_facts::{FreedWhen, KernelFacts, PAGE};
use super::settings::Settings;
use super::zone_plan::ZonePlan;

/// Numbers of one zone with memory.
#[derive(Clone, Debug)]
pub(super) struct ZoneNumbers {
    pub(super) node: NodeId,
    pub(super) kind: ZoneType,
    /// Kinds of zones that the kernel was built with.
    pub(super) configured: ZoneSet,
    pub(super) span: PfnRange,
    pub(super) present: u64,
    pub(super) managed: u64,
    pub(super) marks: Watermarks,
    /// What the zone keeps from allocations that may use a higher one, by kind of zone.
    pub(super) reserve: ByZone,
    /// Sizes of the per-CPU lists; `None` if it is not known which CPUs are on the node.
    pub(super) pcp: Option<PcpSize>,
    pub(super) stat_threshold: u64,
}

/// Numbers of a machine.
#[derive(Clone, Debug)]
pub(super) struct MachineNumbers {
    pub(super) min_free_kbytes: u64,
    pub(super) zones: Vec<ZoneNumbers>,
}

/// Zone with the pages that it managed when the watermarks were set.
struct SizedZone {
    node: NodeId,
    kind: ZoneType,
    span: PfnRange,
    managed: u64,
}

impl MachineNumbers {
    /// Computes the numbers after boot: watermarks and reserves from what was managed when they were set.
    pub(super) fn compute(plan: &ZonePlan, facts: &KernelFacts, hand_over: &HandOver<'_>, settings: &Settings) -> Self {
        // Someone who sets min_free_kbytes does so on the running machine.
        let when = match settings.tunables.min_free_kbytes {
            Some(_) => FreedWhen::AfterWatermarks,
            None => FreedWhen::BeforeWatermarks,
        };
        let sized: Vec<SizedZone> = plan
            .zones()
            .map(|(node, kind, span)| SizedZone { node, kind, span, managed: hand_over.managed(node, span, when) })
            .collect();
        let sizes = sized.iter().map(|zone| (zone.kind, zone.managed));
        let movable_source = plan.limits.movable_source().unwrap_or(ZoneType::Normal);
        let rule = settings.tunables.watermark_rule(sizes, movable_source, PAGE, facts.release);
        let lowmem = rule.lowmem_pages(sized.iter().map(|zone| (zone.kind, zone.managed)));
        let zones = sized
            .iter()
            .map(|zone| {
                let marks = rule.zone(zone.kind, zone.managed, lowmem);
                let of_node = sized.iter().filter(|other| other.node == zone.node);
                let mut managed: ByZone = [0; ZoneType::COUNT];
                of_node.for_each(|other| managed[other.kind.index()] = other.managed);
                let layout = plan.nodes.iter().find(|node| node.node == zone.node);
                ZoneNumbers {
                    node: zone.node,
                    kind: zone.kind,
                    configured: plan.limits.configured(),
                    span: zone.span,
                    present: layout.map_or(0, |node| node.zone(zone.kind).present),
                    managed: hand_over.managed(zone.node, zone.span, FreedWhen::AfterWatermarks),
                    marks,
                    reserve: lowmem_reserve(zone.kind, &managed, &settings.tunables.lowmem_reserve_ratio),
                    pcp: pcp(plan, facts, settings, zone, marks.low),
                    stat_threshold: normal_threshold(zone.managed, facts.nr_cpus, PAGE.page_shift),
                }
            })
            .collect();
        Self { min_free_kbytes: rule.min_free_kbytes, zones }
    }
}

fn pcp(plan: &ZonePlan, facts: &KernelFacts, settings: &Settings, zone: &SizedZone, low: u64) -> Option<PcpSize> {
    let nr_nodes = plan.nodes.iter().filter(|node| !node.span.is_empty()).count();
    let cpus = match facts.cpus_on(zone.node, nr_nodes)? {
        0 => facts.nr_cpus,
        cpus => cpus,
    };
    let fraction = settings.tunables.percpu_pagelist_high_fraction;
    Some(pcp_size(PcpZone { managed: zone.managed, low, cpus }, fraction, PAGE.page_shift, facts.release))
}
