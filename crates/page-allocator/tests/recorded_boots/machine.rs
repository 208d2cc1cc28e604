//! What a recorded machine's kernel log and files say about it: the input of the computations, and the kernel's own results.

use std::fs;
use std::path::{Path, PathBuf};

use boot_memory::firmware::BootOptions;
use frame_table::MemoryModel;
use mmkit_page_allocator::Geometry;
use mmkit_page_allocator::layout::{
    ArchRules, ByZone, MemmapCost, MemoryRange, MovableRule, MovableStarts, NodeLayout, Release, ZoneLimits,
    nodes_with_memory,
};
use proc_files::parse::ZoneInfo;
use units::{NodeId, NodeMask, Pfn, PfnRange, PhysAddr, ZoneType};

pub(crate) const PAGE: Geometry = Geometry::FOUR_KIB;

/// Architecture of a recorded machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arch {
    X86,
    X86Old,
    Arm,
}

/// A recorded boot.
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) arch: Arch,
    pub(crate) log: Vec<String>,
    pub(crate) memory: Vec<MemoryRange>,
    pub(crate) zoneinfo: ZoneInfo,
    directory: PathBuf,
    emulator: String,
}

fn boots() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/boots")
}

/// Reads every recorded machine, in the order of their names.
pub(crate) fn all() -> Vec<Machine> {
    let mut names: Vec<String> =
        fs::read_dir(boots()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| boots().join(name).is_dir());
    names.sort();
    assert!(names.len() >= 19, "only {} recorded machines in {}", names.len(), boots().display());
    names.iter().map(|name| Machine::read(name)).collect()
}

impl Machine {
    fn read(name: &str) -> Self {
        let directory = boots().join(name);
        let text = |file: &str| fs::read_to_string(directory.join(file)).unwrap();
        let log: Vec<String> =
            text("dmesg").lines().map(|line| line.split_once("] ").map_or(line, |parts| parts.1).to_owned()).collect();
        let emulator = text("machine.txt");
        let arch = match emulator.split_whitespace().next().unwrap() {
            "qemu-system-x86_64" => Arch::X86,
            "qemu-system-i386" => Arch::X86Old,
            _ => Arch::Arm,
        };
        let memory = log.iter().filter_map(|line| memory_range(line)).collect();
        let zoneinfo = ZoneInfo::parse(&text("zoneinfo")).unwrap();
        Self { name: name.to_owned(), arch, log, memory, zoneinfo, directory, emulator }
    }

    pub(crate) fn memory(&self) -> impl Iterator<Item = MemoryRange> + Clone {
        self.memory.iter().copied()
    }

    pub(crate) fn nodes(&self) -> NodeMask {
        nodes_with_memory(self.memory())
    }

    pub(crate) fn limits(&self) -> ZoneLimits {
        let span = PfnRange::new(self.memory[0].frames.start, self.memory[self.memory.len() - 1].frames.end);
        match self.arch {
            Arch::X86 => ZoneLimits::x86_64(span),
            Arch::X86Old => {
                let end = self.after("  low ram: 0 - ").expect("the end of low memory");
                ZoneLimits::i386(span, hex(end).pfn_down(PAGE.page_shift))
            }
            Arch::Arm => ZoneLimits::arm64(span, 32, PAGE.page_shift),
        }
    }

    pub(crate) fn movable_starts(&self) -> MovableStarts {
        let command_line = self.after("Kernel command line: ").unwrap();
        let rule = MovableRule::from(&BootOptions::parse(command_line).unwrap());
        MovableStarts::compute(self.memory(), &self.limits(), rule, PAGE)
    }

    /// Returns the nodes that have memory or CPUs.
    pub(crate) fn possible_nodes(&self) -> NodeMask {
        let named = |node: &NodeId| self.emulator.contains(&format!("nodeid={node},"));
        NodeMask::ALL.iter().filter(named).fold(self.nodes(), NodeMask::with)
    }

    pub(crate) fn layouts(&self) -> Vec<NodeLayout> {
        let (limits, movable) = (self.limits(), self.movable_starts());
        self.possible_nodes().iter().map(|node| NodeLayout::compute(node, self.memory(), &limits, &movable)).collect()
    }

    pub(crate) fn model(&self) -> MemoryModel {
        if self.arch == Arch::X86Old { MemoryModel::Flat } else { MemoryModel::SPARSE_4K }
    }

    pub(crate) fn arch_rules(&self) -> ArchRules {
        match self.arch {
            Arch::X86 => ArchRules::X86_64,
            Arch::X86Old => ArchRules::I386,
            Arch::Arm => ArchRules::ARM64,
        }
    }

    pub(crate) fn memmap_cost(&self) -> MemmapCost {
        // The kernel reserves the first MiB, and starts at 16 MiB itself.
        let free = PfnRange::new(Pfn::new(0x100), Pfn::new(u64::MAX));
        MemmapCost {
            descriptor_bytes: self.arch_rules().descriptor_bytes,
            page_shift: PAGE.page_shift,
            model: self.model(),
            dma_reserve: self.arch_rules().reserved_low(self.memory(), [free].into_iter()),
        }
    }

    pub(crate) fn distance(&self, from: NodeId, to: NodeId) -> u8 {
        let row = fs::read_to_string(self.directory.join(format!("node-node{from}-distance"))).unwrap();
        // The columns are the nodes that are online, which all of these are.
        row.split_whitespace().nth(to.index()).unwrap().parse().unwrap()
    }

    pub(crate) fn sysctl(&self, name: &str) -> Vec<u64> {
        let text = fs::read_to_string(self.directory.join(format!("sysctl-{name}"))).unwrap();
        text.split_whitespace().map(|value| value.parse().unwrap()).collect()
    }

    /// Returns vm.lowmem_reserve_ratio by zone kind; the file has a column for each kind but the last that was configured.
    pub(crate) fn reserve_ratios(&self) -> ByZone {
        let mut ratios = [0; ZoneType::COUNT];
        for (kind, ratio) in self.limits().configured().iter().zip(self.sysctl("lowmem_reserve_ratio")) {
            ratios[kind.index()] = ratio;
        }
        ratios
    }

    /// Returns the CPUs online, in all or of one node.
    pub(crate) fn nr_cpus(&self, node: Option<NodeId>) -> u64 {
        let total = self.zoneinfo.zones().map(|zone| zone.pagesets().len()).max().unwrap() as u64;
        match node {
            Some(node) if self.emulator.contains("-numa") => {
                self.emulator.matches(&format!("nodeid={node},cpus=")).count() as u64
            }
            _ => total,
        }
    }

    /// Returns the managed pages of the zones when the watermarks were computed: the final ones without what init freed later.
    pub(crate) fn managed_at_init(&self, node: NodeId) -> ByZone {
        let mut managed = [0; ZoneType::COUNT];
        for zone in self.zoneinfo.zones().filter(|zone| zone.node == node) {
            managed[zone.zone.index()] = zone.pages("managed").unwrap();
        }
        for layout in self.layouts().iter().filter(|layout| layout.node == node) {
            for (kind, zone) in layout.populated() {
                managed[kind.index()] -= self.freed_late(zone.span);
            }
        }
        managed
    }

    /// Returns the pages in `span` that the kernel freed after its initcalls had begun.
    fn freed_late(&self, span: PfnRange) -> u64 {
        let initrd = self.after("Allocated new RAMDISK: [mem ").or_else(|| self.after("RAMDISK: [mem "));
        // On the recorded Arm machines both lie in the first zone.
        let initrd = initrd.map_or(self.memory[0].frames.start, |range| hex(range).pfn_down(PAGE.page_shift));
        let image = if self.arch == Arch::Arm { self.memory[0].frames.start } else { Pfn::new(0x1000) };
        let freed = self.log.iter().filter_map(|line| line.strip_prefix("Freeing "));
        let freed = freed.filter_map(|line| line.strip_suffix('K')?.split_once(" memory: "));
        let pages = freed.filter_map(|(what, kib)| {
            let place = match what {
                "SMP alternatives" => return None,
                "initrd" => initrd,
                _ => image,
            };
            span.contains(place).then(|| kib.parse::<u64>().unwrap() / 4)
        });
        pages.sum()
    }

    /// Returns what follows `prefix` in the first line that starts with it.
    pub(crate) fn after(&self, prefix: &str) -> Option<&str> {
        self.log.iter().find_map(|line| line.strip_prefix(prefix))
    }

    pub(crate) fn release(&self) -> Release {
        let version = fs::read_to_string(self.directory.join("version")).unwrap();
        let mut numbers = version.trim_start_matches("Linux version ").split('.').map(|number| number.parse().unwrap());
        Release::of_version(numbers.next().unwrap(), numbers.next().unwrap())
    }
}

/// Reads the hexadecimal number at the start of `text`.
fn hex(text: &str) -> PhysAddr {
    let digits = text.trim_start_matches("0x");
    let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
    PhysAddr::new(u64::from_str_radix(&digits[..end], 16).unwrap())
}

/// Reads a line such as `  node   0: [mem 0x0000000000001000-0x000000000009efff]`.
fn memory_range(line: &str) -> Option<MemoryRange> {
    let (node, range) = line.strip_prefix("  node ")?.split_once(": [mem ")?;
    let (start, last) = range.strip_suffix(']')?.split_once('-')?;
    let start = hex(start).pfn_up(PAGE.page_shift);
    let end = PhysAddr::new(hex(last).raw() + 1).pfn_down(PAGE.page_shift);
    let node = NodeId::try_new(node.trim().parse().ok()?)?;
    Some(MemoryRange::plain(PfnRange::new(start, end), node))
}
