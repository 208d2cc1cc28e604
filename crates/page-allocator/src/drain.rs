//! Emptying per-CPU lists: by age, by zone, on all CPUs, and of a CPU that goes away.
//!
//! Linux 6.12: `drain_local_pages`, `drain_all_pages`, `drain_zone_pages`, `decay_pcp_high`, `page_alloc_cpu_dead`.

use platform::Platform;
use sync::Cpu;
use units::{CpuId, NodeMask};

use crate::allocator::PageAllocator;
use crate::pcp::PcpLists;
use crate::pressure::Hooks;
use crate::zone::Zone;

impl<P: Platform, H: Hooks> PageAllocator<P, H> {
    /// Empties the lists of this CPU.
    pub fn drain_local_pages(&self, cpu: &Cpu) {
        for zone in self.zones() {
            self.drain_cpu_in_zone(cpu, zone, cpu.id());
        }
    }

    /// Empties the lists of all CPUs, for the zones of `nodes`.
    pub fn drain_all_pages(&self, cpu: &Cpu, nodes: NodeMask) {
        for zone in self.zones().iter().filter(|zone| nodes.contains(zone.node())) {
            self.drain_zone(cpu, zone);
        }
    }

    /// Empties the lists of all CPUs for one zone.
    pub fn drain_zone(&self, cpu: &Cpu, zone: &Zone) {
        self.with_every_pcp(cpu, zone, |pcp| self.drain_pcp(cpu, zone, pcp));
    }

    /// Empties the lists of a CPU that went offline, from another one.
    pub fn cpu_dead(&self, cpu: &Cpu, dead: CpuId) {
        for zone in self.zones() {
            self.drain_cpu_in_zone(cpu, zone, dead);
        }
    }

    fn drain_cpu_in_zone(&self, cpu: &Cpu, zone: &Zone, of: CpuId) {
        let Some(cell) = self.pcp(zone, of) else { return };
        self.with_pcp(cpu, cell, |pcp| self.drain_pcp(cpu, zone, pcp));
    }

    fn drain_pcp(&self, cpu: &Cpu, zone: &Zone, pcp: &mut PcpLists) {
        let count = pcp.counters.count();
        if count > 0 {
            pcp.drain(&mut self.lock(zone, cpu), count, 0);
        }
    }

    /// Does what Linux's vmstat worker does to a CPU's lists once per vm.stat_interval: lowers their high marks and gives back
    /// what is above, and a batch of those of another node's zone that were not used for three intervals: pages there are out of the reach of the CPUs
    /// that would use them. Returns how many sets had something to give back or may have at a later interval.
    pub fn decay_pcp_high(&self, cpu: &Cpu) -> u64 {
        let (mut busy, node) = (0, self.node_of_cpu(cpu.id()));
        for zone in self.zones() {
            let Some(cell) = self.pcp(zone, cpu.id()) else { continue };
            self.with_pcp(cpu, cell, |pcp| {
                let surplus = pcp.counters.decay();
                if surplus > 0 {
                    pcp.drain(&mut self.lock(zone, cpu), surplus, 0);
                }
                let is_remote = zone.node() != node && pcp.counters.count() > 0;
                let unused = if is_remote { pcp.end_idle_interval(&self.map.geometry) } else { 0 };
                if unused > 0 {
                    pcp.drain(&mut self.lock(zone, cpu), unused, 0);
                }
                let may_decay = pcp.counters.high() > pcp.counters.limits.high_min;
                busy += u64::from(surplus > 0 || is_remote || may_decay);
            });
        }
        busy
    }
}
