//! Machine descriptions.

use sim::description::Machine;

use super::firmware_tables::devicetree_seed;
use super::{Target, outcome};
use crate::corpus::Seed;

/// `Machine::from_bytes` with TOML, devicetrees and /proc/iomem, and what is derived from an accepted description.
pub(super) const MACHINE_FILE: Target = Target {
    name: "machine-file",
    seeds: &[
        Seed::File("machines/sim/src/description/ready/small.toml"),
        Seed::File("machines/sim/src/description/ready/server-2node.toml"),
        Seed::File("machines/sim/src/description/ready/arm64-64k.toml"),
        Seed::File("machines/sim/src/description/ready/i386-highmem.toml"),
        Seed::Each("data/boots", "iomem"),
        Seed::Made(devicetree_seed),
    ],
    tokens: &[
        "arch = ",
        "nodes = [",
        "memory = [\"0+33G\"]",
        "cpus = ",
        "distances = [[10]]",
        "firmware = [",
        "kind = \"usable\"",
        "range = ",
        " : System RAM\n",
        "  00100000-001fffff : reserved\n",
        "numa-node-id\0",
        "G",
        "+",
        "-",
    ],
    run: |input| outcome(Machine::from_bytes("fuzzed", input).inspect(derived)),
};

fn derived(machine: &Machine) {
    let cpus = machine.cpu_nodes().len();
    assert_eq!(cpus, machine.nodes.iter().map(|node| node.cpus.len()).sum::<usize>());
    let numa = machine.numa_map();
    assert_eq!(numa.nodes().iter().count(), machine.nodes.len());
    let usable: u64 = machine.nodes.iter().flat_map(|node| machine.usable_of(node.id)).map(|range| range.len()).sum();
    assert!(usable <= machine.usable_bytes(), "nodes have more usable memory than the machine");
}
