//! The ready machines, machines that cannot be, and random ones.

use proptest::prelude::*;
use units::{Pfn, PhysAddr};

use super::*;

type IsExpected = fn(&Fault) -> bool;

fn usable_frames(machine: &Machine, low: u64, high: u64) -> u64 {
    let mut map = machine.firmware.clone();
    if machine.arch.has_bios_range() {
        map.trim_bios_range().unwrap();
    }
    let shift = machine.arch.page_shift();
    let window = units::PfnRange::new(Pfn::new(low), Pfn::new(high));
    map.of_kind(RangeKind::Usable).map(|entry| entry.range.whole_frames(shift).intersection(window).nr_pages()).sum()
}

fn fault(text: &str) -> (usize, Fault) {
    let error = Machine::parse("test.toml", text).unwrap_err();
    (error.line.unwrap(), error.fault)
}

#[test]
fn every_ready_machine_parses_and_has_memory_in_every_node() {
    for ready in READY_MACHINES {
        let machine = Machine::parse(ready.name, ready.text).unwrap_or_else(|error| panic!("{error}"));
        for node in &machine.nodes {
            assert!(!machine.usable_of(node.id).is_empty(), "{} {:?}", ready.name, node.id);
        }
        let by_node: u64 =
            machine.nodes.iter().flat_map(|node| machine.usable_of(node.id)).map(|range| range.len()).sum();
        assert_eq!(by_node, machine.usable_bytes(), "{}", ready.name);
    }
}

#[test]
fn the_recorded_machine_has_the_recorded_zones() {
    let machine = Machine::ready("recorded-24g").unwrap();
    assert_eq!(usable_frames(&machine, 0, 0x1000), 3998);
    assert_eq!(usable_frames(&machine, 0x1000, 0x10_0000), 782_336);
    assert_eq!(usable_frames(&machine, 0x10_0000, u64::MAX), 5_505_024);
}

#[test]
fn the_arm64_machine_has_the_zones_of_the_report() {
    let machine = Machine::ready("arm64-64k").unwrap();
    assert_eq!(usable_frames(&machine, 0, 0x1_0000) * 64, 3_145_728);
    assert_eq!(usable_frames(&machine, 0x1_0000, u64::MAX) * 64, 5_242_880);
    assert_eq!(machine.arch.max_page_order().raw(), 13);
}

#[test]
fn the_huge_machine_has_64_nodes_and_frame_numbers_below_32_bits() {
    let machine = Machine::ready("huge-16t").unwrap();
    assert_eq!(machine.nodes.len(), 64);
    assert_eq!(machine.cpu_nodes().len(), 256);
    assert!(machine.end_of_memory().pfn_up(12).raw() < u64::from(u32::MAX));
    assert_eq!((machine.distances[0][7], machine.distances[0][8], machine.distances[9][9]), (16, 32, 10));
    assert_eq!(machine.usable_of(machine.nodes[1].id)[0].len(), 256 << 30);
}

#[test]
fn the_node_map_says_what_the_description_says() {
    let machine = Machine::ready("server-8node").unwrap();
    let numa = machine.numa_map();
    assert_eq!(numa.distance(NodeId::ZERO, machine.nodes[4].id), 22);
    assert_eq!(numa.node_of(PhysAddr::new(70 << 30)), Some(machine.nodes[1].id));
    assert_eq!(numa.cpus()[63].node, machine.nodes[7].id);
}

#[test]
fn cpus_may_be_interleaved_over_nodes() {
    let text = "arch = \"x86-64\"\nnodes = [{ cpus = [0, 2], memory = [\"0+1G\"] }, { cpus = [1, 3] }]";
    let machine = Machine::parse("test.toml", text).unwrap();
    let nodes: Vec<_> = machine.cpu_nodes().iter().map(|node| node.raw()).collect();
    assert_eq!(nodes, [0, 1, 0, 1]);
}

#[test]
fn a_misspelt_key_is_refused_with_its_line() {
    let (line, fault) = fault("arch = \"x86-64\"\nnodes = []\ndistance = 3\n");
    assert_eq!(line, 3);
    assert!(matches!(&fault, Fault::Syntax(text) if text.contains("distance") && text.contains("expected")), "{fault}");
}

#[test]
fn a_bad_range_is_refused_with_its_line_and_what_was_expected() {
    let (line, fault) = fault("arch = \"x86-64\"\nnodes = [\n  { cpus = 1, memory = [\"0-\"] },\n]\n");
    assert_eq!(line, 3);
    assert!(fault.to_string().contains("\"1M+511M\""), "{fault}");
}

#[test]
fn machines_that_cannot_be_are_refused() {
    let cases: [(&str, IsExpected); 18] = [
        ("nodes = []", |fault| matches!(fault, Fault::NodeCount(0))),
        ("nodes = [{ cpus = 1 }]", |fault| matches!(fault, Fault::TooLittleMemory { found: 0, .. })),
        ("nodes = [{ memory = [\"0+1G\"] }]", |fault| matches!(fault, Fault::CpuCount(0))),
        ("nodes = [{ cpus = 5000, memory = [\"0+1G\"] }]", |fault| matches!(fault, Fault::CpuCount(_))),
        ("nodes = [{ cpus = [0, 2], memory = [\"0+1G\"] }]", |fault| {
            matches!(fault, Fault::CpuNumber { number: 1, .. })
        }),
        ("nodes = [{ cpus = [0, 0], memory = [\"0+1G\"] }]", |fault| {
            matches!(fault, Fault::CpuNumber { number: 0, last: 1 })
        }),
        ("nodes = [{ cpus = 1, memory = [\"16M+4K\"] }]", |fault| {
            matches!(fault, Fault::TooLittleMemory { found: 4096, .. })
        }),
        ("nodes = [{ cpus = 1, memory = [\"0+1G\"] }, { memory = [\"1023M+1G\"] }]", |fault| {
            matches!(fault, Fault::NodesOverlap(0, 1, _))
        }),
        ("nodes = [{ cpus = 1, memory = [\"0+1E\"] }]", |fault| {
            matches!(fault, Fault::AddressTooHigh { bits: 46, .. })
        }),
        ("nodes = [{ cpus = 1, memory = [\"0+17T\"] }]", |fault| matches!(fault, Fault::TooManyFrames(_))),
        ("nodes = [{ cpus = 1, memory = [\"0+1G\"] }]\ndistances = [[10, 20]]", |fault| {
            matches!(fault, Fault::DistancesNotSquare { .. })
        }),
        ("nodes = [{ cpus = 1, memory = [\"0+1G\"] }]\ndistances = [[11]]", |fault| {
            matches!(fault, Fault::Distance { found: 11, .. })
        }),
        ("nodes = [{ cpus = 1, memory = [\"0+1G\"] }, {}]\ndistances = { remote = 9 }", |fault| {
            matches!(fault, Fault::Distance { found: 9, .. })
        }),
        (
            "nodes = [{ cpus = 1, memory = [\"0+1G\"] }]\nfirmware = [{ range = \"0+2G\", kind = \"usable\" }]",
            |fault| matches!(fault, Fault::NoNode(range) if range.start.raw() == 1 << 30),
        ),
        ("nodes = [{ cpus = 1, memory = [\"0+1G\"] }]\nkernel = { image = \"1G+1M\" }", |fault| {
            matches!(fault, Fault::KernelOutsideMemory(_))
        }),
        ("nodes = [{ cpus = 1, memory = [\"1M+32M\"] }]\nkernel = { image = \"1M+32M\" }", |fault| {
            matches!(fault, Fault::TooLittleMemory { .. })
        }),
        ("nodes = [{ cpus = 1, memory = [\"0+1G\"] }]\ncmdline = \"mem=x\"", |fault| {
            matches!(fault, Fault::CommandLine(_))
        }),
        ("nodes = [{ cpus = 1, memory = [\"0+1G\"] }]\npage-size = \"64K\"", |fault| {
            matches!(fault, Fault::PageSize(_))
        }),
    ];
    for (text, expected) in cases {
        let (_, fault) = fault(&format!("arch = \"x86-64\"\n{text}\n"));
        assert!(expected(&fault), "{text}: {fault}");
    }
}

#[test]
fn memory_with_a_hole_after_every_page_is_refused_when_the_map_is_full_and_else_accepted() {
    let holes = |count: u64| {
        let ranges: Vec<_> = (0..count)
            .map(|index| format!("{{ range = \"{:#x}+64K\", kind = \"usable\" }}", (16 << 20) + index * 0x20000))
            .collect();
        Machine::parse(
            "holes",
            &format!(
                "arch = \"x86-64\"\nnodes = [{{ cpus = 1, memory = [\"0+1G\"] }}]\nfirmware = [{}]",
                ranges.join(", ")
            ),
        )
    };
    assert_eq!(holes(300).map(|machine| machine.usable_bytes()), Ok(300 << 16));
    assert_eq!(holes(400).map_err(|error| error.fault), Err(Fault::TooMany("firmware ranges")));
}

/// Descriptions of which about a quarter can boot: small numbers of everything, at any scale.
fn any_description() -> impl Strategy<Value = String> {
    let arch = prop::sample::select(vec!["x86-64", "x86-64-la57", "i386", "arm64"]);
    let range = (0u64..64, 1u64..64, prop::sample::select(vec![12, 16, 20, 24, 26, 26, 26, 40]))
        .prop_map(|(start, size, shift)| format!("\"{:#x}+{:#x}\"", start << shift, size << shift));
    let node = (0u16..4, prop::collection::vec(range.clone(), 0..3))
        .prop_map(|(cpus, ranges)| format!("{{ cpus = {cpus}, memory = [{}] }}", ranges.join(",")));
    let kind = prop::sample::select(vec!["usable", "reserved", "type 9"]);
    let firmware = prop::collection::vec((range.clone(), kind), 0..3).prop_map(|list| {
        let entries = list.iter().map(|(range, kind)| format!("{{ range = {range}, kind = \"{kind}\" }}"));
        entries.collect::<Vec<_>>().join(",")
    });
    let firmware = prop_oneof![2 => Just(String::new()), 1 => firmware];
    let (remote, image) = (prop::option::weighted(0.5, 8u8..40), prop::option::weighted(0.2, range));
    (arch, prop::collection::vec(node, 1..4), firmware, remote, image).prop_map(
        |(arch, nodes, firmware, remote, image)| {
            let distances = remote.map(|remote| format!("distances = {{ remote = {remote} }}\n")).unwrap_or_default();
            let kernel = image.map(|image| format!("kernel = {{ image = {image} }}\n")).unwrap_or_default();
            format!("arch = \"{arch}\"\nnodes = [{}]\nfirmware = [{firmware}]\n{distances}{kernel}", nodes.join(","))
        },
    )
}

proptest! {
    #[test]
    fn a_random_machine_is_refused_or_keeps_its_invariants(text in any_description()) {
        if let Ok(machine) = Machine::parse("random", &text) {
            prop_assert!(machine.usable_bytes() > 0);
            prop_assert!(machine.numa_map().conflict().is_none());
            let by_node: u64 = machine.nodes.iter().flat_map(|node| machine.usable_of(node.id)).map(|range| range.len()).sum();
            prop_assert_eq!(by_node, machine.usable_bytes());
            prop_assert!(machine.end_of_memory().pfn_up(machine.arch.page_shift()).raw() < 1 << 32);
        }
    }

    #[test]
    fn a_damaged_machine_file_never_panics(which in 0..READY_MACHINES.len(), at in any::<prop::sample::Index>(), byte in 9u8..127) {
        let mut bytes = READY_MACHINES[which].text.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = Machine::parse("damaged", std::str::from_utf8(&bytes).unwrap());
    }
}
