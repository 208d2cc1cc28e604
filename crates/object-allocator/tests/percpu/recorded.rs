//! The first chunk's sizes against what recorded kernels of three architectures printed.

use std::fs;
use std::path::Path;

use mmkit_object_allocator::percpu::{EmbedRule, UnitSizes, write_embedded, write_unit_map};
use units::NodeId;

/// Static bytes of the recorded kernel, as its log line says.
fn static_size(line: &str) -> usize {
    line.split_whitespace().find_map(|word| word.strip_prefix('s')?.parse().ok()).unwrap()
}

fn rule(name: &str) -> EmbedRule {
    if name.starts_with("i386") {
        EmbedRule::I386
    } else if name.starts_with("arm64") {
        EmbedRule::generic(12)
    } else {
        EmbedRule::X86_64
    }
}

/// Reads the node of each CPU from the log's map of units: `[node] cpu cpu [node] cpu`.
fn cpu_nodes(map: &str) -> Vec<NodeId> {
    let mut group = 0;
    let mut nodes = Vec::new();
    for word in map.split_whitespace().skip(1) {
        match word.strip_prefix('[').and_then(|word| word.strip_suffix(']')) {
            Some(number) => group = number.parse().unwrap(),
            None if word.starts_with('-') => {}
            None => nodes.push((word.parse::<usize>().unwrap(), NodeId::try_new(group).unwrap())),
        }
    }
    nodes.sort_unstable();
    nodes.into_iter().map(|(_, node)| node).collect()
}

#[test]
fn the_lines_of_recorded_boots_come_out() {
    let boots = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/boots");
    let mut compared = 0;
    for boot in fs::read_dir(boots).unwrap() {
        let boot = boot.unwrap();
        let name = boot.file_name().into_string().unwrap();
        let Ok(log) = fs::read(boot.path().join("dmesg")) else { continue };
        let log = String::from_utf8_lossy(&log).into_owned();
        let message = |line: &str| line.split_once("] ").map_or(line, |(_, message)| message).to_owned();
        let lines: Vec<String> = log.lines().map(message).collect();
        let Some(embedded) = lines.iter().find(|line| line.starts_with("percpu: Embedded ")) else { continue };
        let recorded: Vec<&str> =
            lines.iter().map(String::as_str).filter(|line| line.starts_with("pcpu-alloc: ")).collect();
        let Some(map) = recorded.iter().find(|line| line.starts_with("pcpu-alloc: [")) else { continue };
        let cpu_nodes = cpu_nodes(map);
        let sizes = UnitSizes::compute(rule(&name), static_size(embedded), 12, &cpu_nodes);
        let mut ours = String::new();
        write_embedded(&mut ours, &sizes, 12).unwrap();
        write_unit_map(&mut ours, &sizes, &cpu_nodes).unwrap();
        let trimmed = |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
        let theirs: Vec<String> =
            std::iter::once(embedded.as_str()).chain(recorded).map(|line| line.trim_end().to_owned()).collect();
        assert_eq!(trimmed(&ours), theirs, "{name}");
        compared += 1;
    }
    assert!(compared >= 15, "{compared} boots compared");
}

#[test]
fn units_share_allocations_where_that_wastes_little() {
    let nodes = |counts: &[usize]| -> Vec<NodeId> {
        let each = counts.iter().enumerate();
        each.flat_map(|(node, &count)| vec![NodeId::try_new(node as u64).unwrap(); count]).collect()
    };
    let sizes = |counts: &[usize]| UnitSizes::compute(EmbedRule::X86_64, 212_992, 12, &nodes(counts));
    assert_eq!(sizes(&[8]).unit_size, 256 << 10);
    assert_eq!(sizes(&[9]).unit_size, 512 << 10, "16 units for 9 CPUs would waste more than a third");
    assert_eq!(sizes(&[4, 4]).unit_size, 512 << 10);
    let huge = UnitSizes::compute(EmbedRule::generic(16), 100, 16, &nodes(&[2]));
    assert_eq!((huge.unit_size, huge.used()), (64 << 10, 64 << 10));
    let mut map = String::new();
    write_unit_map(&mut map, &sizes(&[9]), &nodes(&[9])).unwrap();
    assert!(map.contains("[0] 0 1 2 3 [0] 4 5 6 7 [0] 8 - - -"), "{map}");
}
