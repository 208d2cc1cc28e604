//! What a kernel log says about the kernel itself, and nothing in memblock's calls would: which architecture and release it was
//! built for, how it was started, which CPUs came up where, and what it freed after boot.
//!
//! Everything else that the log says about memory is computed and compared, never read.

use frame_table::MemoryModel;
use page_allocator::Geometry;
use page_allocator::layout::{ArchRules, Release};
use recordings::boot_log::{self, BootLog};
use units::{MAX_NODES, NodeId, NodeMask, Pfn, PfnRange, PhysAddr};

/// Architecture that a kernel was built for, as far as its zones differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Architecture {
    X86_64,
    /// 32-bit x86 with HighMem; one node, one flat table of descriptors.
    I386,
    Arm64,
}

/// Memory that the kernel gave to the page allocator after boot memory was handed over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FreedLater {
    /// Where it lies, as far as zones are concerned.
    pub(super) at: Pfn,
    /// How much it is.
    pub(super) nr_pages: u64,
    /// When it was freed.
    pub(super) when: FreedWhen,
}

/// Whether memory was freed before or after the watermarks were first set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FreedWhen {
    BeforeWatermarks,
    AfterWatermarks,
}

/// When the kernel writes the Memory: line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MemoryLine {
    /// Right after the hand-over (6.1).
    AtHandOver,
    /// When all descriptors are initialised and the kernel has allocated for itself; the free pages that it shows then (6.12).
    AfterInit(u64),
}

/// Facts about a recorded kernel.
#[derive(Clone, Debug)]
pub(super) struct KernelFacts {
    pub(super) architecture: Architecture,
    pub(super) release: Release,
    pub(super) command_line: String,
    /// End of the memory that the kernel maps for good; all of it but on 32-bit machines.
    pub(super) low_end: Pfn,
    /// CPUs that came up.
    pub(super) nr_cpus: u64,
    /// Node of each CPU that the firmware describes, in the order of the log.
    pub(super) cpu_nodes: Vec<NodeId>,
    /// Nodes that the firmware describes, with or without memory.
    pub(super) described_nodes: NodeMask,
    /// Contiguous memory areas, reserved at first and given to the page allocator by an early initcall.
    pub(super) cma: Vec<PfnRange>,
    pub(super) freed_later: Vec<FreedLater>,
    pub(super) memory_line: MemoryLine,
    /// Pages that the kernel takes for page tables between the hand-over and the Memory: line.
    pub(super) early_tables: u64,
    /// Sizes of the kernel image as the Memory: line prints them.
    pub(super) image_sizes: String,
}

/// Page size of every recorded machine so far.
pub(super) const PAGE: Geometry = Geometry::FOUR_KIB;

impl KernelFacts {
    /// Gathers the facts from the log's messages and the `version` and `iomem` files beside it, which may be empty.
    pub(super) fn gather(log: &BootLog, version: &str, iomem: &str) -> Self {
        let lines = Lines { messages: &log.lines };
        let architecture = lines.architecture(log.architecture);
        let version = lines.rest("Linux version ").unwrap_or_else(|| version.trim_start_matches("Linux version "));
        let image = image_start(iomem, architecture);
        Self {
            architecture,
            release: release(version),
            command_line: lines.rest("Kernel command line: ").unwrap_or_default().to_owned(),
            low_end: lines.rest("  low ram: 0 - ").and_then(hex).map_or(Pfn::new(u64::MAX), pfn),
            nr_cpus: lines.nr_cpus(),
            cpu_nodes: lines.cpu_nodes().collect(),
            described_nodes: lines.described_nodes(),
            cma: lines.cma().collect(),
            freed_later: lines.freed_later(image),
            memory_line: lines.memory_line(),
            early_tables: if architecture == Architecture::X86_64 { lines.vmalloc_tables() } else { 0 },
            image_sizes: lines.image_sizes().unwrap_or_default().to_owned(),
        }
    }

    /// Returns what boot does differently on the architecture.
    pub(super) const fn arch_rules(&self) -> ArchRules {
        match self.architecture {
            Architecture::X86_64 => ArchRules::X86_64,
            Architecture::I386 => ArchRules::I386,
            Architecture::Arm64 => ArchRules::ARM64,
        }
    }

    /// Returns how the kernel's frame descriptors are laid out.
    pub(super) const fn memory_model(&self) -> MemoryModel {
        match self.architecture {
            Architecture::I386 => MemoryModel::Flat,
            Architecture::X86_64 | Architecture::Arm64 => MemoryModel::SPARSE_4K,
        }
    }

    /// Returns the frames of a section whose descriptors may be deferred; `None` if none are.
    pub(super) const fn deferred_section(&self) -> Option<u64> {
        match self.memory_model() {
            model @ MemoryModel::Sparse { .. } => Some(model.section_pages()),
            MemoryModel::Flat => None,
        }
    }

    /// Returns true if the kernel knows several nodes (CONFIG_NUMA).
    pub(super) const fn is_numa(&self) -> bool {
        !matches!(self.architecture, Architecture::I386)
    }

    /// Returns how many CPUs that came up are on `node`; `None` if the log does not say where they are.
    pub(super) fn cpus_on(&self, node: NodeId, nr_nodes: usize) -> Option<u64> {
        if self.cpu_nodes.is_empty() {
            return (nr_nodes <= 1).then_some(self.nr_cpus);
        }
        let online = usize::try_from(self.nr_cpus).unwrap_or(usize::MAX);
        Some(self.cpu_nodes.iter().take(online).filter(|&&on| on == node).count() as u64)
    }

    /// Takes over which node each CPU is on, from outside the log.
    pub(super) fn set_cpu_nodes(&mut self, cpu_nodes: Vec<NodeId>) {
        self.described_nodes = cpu_nodes.iter().fold(self.described_nodes, |nodes, &node| nodes.with(node));
        self.cpu_nodes = cpu_nodes;
    }

    /// Returns the nodes with CPUs.
    pub(super) fn nodes_with_cpus(&self) -> NodeMask {
        self.cpu_nodes.iter().fold(NodeMask::EMPTY, |nodes, &node| nodes.with(node))
    }
}

/// Messages of a log, searched for known beginnings.
struct Lines<'a> {
    messages: &'a [String],
}

impl<'a> Lines<'a> {
    fn all(&self) -> impl Iterator<Item = &'a str> {
        self.messages.iter().map(String::as_str)
    }

    /// Returns what follows `start` in the first message that begins with it.
    fn rest(&self, start: &str) -> Option<&'a str> {
        self.all().find_map(|message| message.strip_prefix(start))
    }

    fn architecture(&self, family: boot_log::Architecture) -> Architecture {
        match family {
            boot_log::Architecture::Other => Architecture::Arm64,
            boot_log::Architecture::X86 if self.all().any(|message| message.ends_with("MB LOWMEM available.")) => {
                Architecture::I386
            }
            boot_log::Architecture::X86 => Architecture::X86_64,
        }
    }

    /// Returns the top-level page-table entries that the vmalloc area of 64-bit x86 takes.
    ///
    /// 32 TiB in steps of 512 GiB, or 12.5 PiB in steps of 256 TiB with 5 levels; one more if it starts at a random place.
    fn vmalloc_tables(&self) -> u64 {
        const FIVE_LEVELS: &str = " max_arch_pfn = 0x10000000000";
        let entries = if self.all().any(|message| message.ends_with(FIVE_LEVELS)) { 50 } else { 64 };
        let command_line = self.rest("Kernel command line: ").unwrap_or_default();
        let fixed = command_line.split_whitespace().any(|option| option == "nokaslr");
        entries + u64::from(!fixed)
    }

    fn nr_cpus(&self) -> u64 {
        let brought_up = self.rest("smp: Brought up ").and_then(|rest| rest.split_once(", "));
        brought_up.and_then(|(_, cpus)| number(cpus)).unwrap_or(1)
    }

    fn memory_line(&self) -> MemoryLine {
        // Patching alternatives comes between the two places.
        let patched = self.all().take_while(|message| !message.starts_with("Memory: "));
        let late = patched.into_iter().any(|message| message.starts_with("Freeing SMP alternatives memory: "));
        match self.rest("Memory: ").and_then(number).filter(|_| late) {
            Some(kib) => MemoryLine::AfterInit(kib >> (PAGE.page_shift - 10)),
            None => MemoryLine::AtHandOver,
        }
    }

    fn cpu_nodes(&self) -> impl Iterator<Item = NodeId> + use<'a> {
        let affinities = self.messages.iter().filter_map(|message| message.strip_prefix("SRAT: PXM "));
        affinities.filter_map(|line| NodeId::try_new(number(line.split_once(" -> Node ")?.1)?))
    }

    fn described_nodes(&self) -> NodeMask {
        let memory = self.all().filter_map(|message| {
            let (_, rest) = message.split_once("SRAT: Node ")?;
            NodeId::try_new(number(rest)?)
        });
        memory.chain(self.cpu_nodes()).fold(NodeMask::EMPTY, NodeMask::with)
    }

    fn cma(&self) -> impl Iterator<Item = PfnRange> + use<'a> {
        let areas = self.messages.iter().filter_map(|message| message.strip_prefix("cma: Reserved "));
        areas.filter_map(|area| {
            let (mib, at) = area.split_once(" MiB at ")?;
            Some(PfnRange::with_len(pfn(hex(at)?), number(mib)? << (20 - PAGE.page_shift)))
        })
    }

    fn freed_later(&self, image: Pfn) -> Vec<FreedLater> {
        let initrd = self.initrd().unwrap_or(image);
        let lines = self.all().filter_map(|message| message.strip_prefix("Freeing ")?.split_once(" memory: "));
        let freed = lines.filter_map(|(what, size)| {
            let nr_pages = number(size)? >> (PAGE.page_shift - 10);
            let (at, when) = match what {
                // Patching alternatives is done before the first initcall, which sets the watermarks.
                "SMP alternatives" => (image, FreedWhen::BeforeWatermarks),
                "initrd" => (initrd, FreedWhen::AfterWatermarks),
                _ => (image, FreedWhen::AfterWatermarks),
            };
            size.ends_with('K').then_some(FreedLater { at, nr_pages, when })
        });
        freed.collect()
    }

    /// Returns where the initial ramdisk lay when it was freed.
    fn initrd(&self) -> Option<Pfn> {
        let freed_by = |message: &&str| message.contains(" free_initrd_mem+");
        let freed = self.all().filter(|message| message.starts_with("memblock_phys_free: [")).find(freed_by);
        let place = freed
            .and_then(|message| message.split_once('[').map(|(_, range)| range))
            .or_else(|| self.rest("Allocated new RAMDISK: [mem "))
            .or_else(|| self.rest("RAMDISK: [mem "));
        place.and_then(hex).map(pfn)
    }

    fn image_sizes(&self) -> Option<&'a str> {
        let (_, rest) = self.rest("Memory: ")?.split_once(" available (")?;
        let reserved = rest.find("K reserved")?;
        let end = rest.get(..reserved)?.rfind(", ")?;
        rest.get(..end)
    }
}

/// Returns the first frame of the kernel image: from /proc/iomem, or where kernels of the architecture are usually put.
fn image_start(iomem: &str, architecture: Architecture) -> Pfn {
    let listed = iomem.lines().find_map(|line| line.trim_start().strip_suffix(" : Kernel code"));
    match (listed.and_then(hex), architecture) {
        (Some(start), _) => pfn(start),
        (None, Architecture::Arm64) => Pfn::new(0x4_0000),
        (None, _) => Pfn::new(0x1000),
    }
}

/// Reads `6.1.0-56-cloud-amd64 ...`; without a number the reference release counts.
fn release(version: &str) -> Release {
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Release::of_version(major, minor),
        _ => Release::default(),
    }
}

/// Reads the decimal number at the start of `text`.
fn number(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

/// Reads the hexadecimal number at the start of `text`, with or without `0x`.
fn hex(text: &str) -> Option<PhysAddr> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
    u64::from_str_radix(digits.get(..end)?, 16).ok().map(PhysAddr::new)
}

fn pfn(addr: PhysAddr) -> Pfn {
    addr.pfn_down(PAGE.page_shift)
}

/// Reads the nodes of the CPUs from the options that a virtual machine was started with (`-numa node,nodeid=1,cpus=2-3`).
///
/// The firmware of Arm machines does not show in the log which CPU is where.
pub(super) fn cpu_nodes_of_emulator(command: &str) -> Vec<NodeId> {
    let mut nodes = [const { None }; MAX_NODES * 4];
    for option in command.split_whitespace().filter(|option| option.starts_with("node,")) {
        let mut node = None;
        for field in option.split(',') {
            match field.split_once('=') {
                Some(("nodeid", value)) => node = number(value).and_then(NodeId::try_new),
                Some(("cpus", value)) => {
                    let first = number(value);
                    let last = value.split_once('-').map_or(first, |(_, last)| number(last));
                    let cpus = first.zip(last).map_or(0..0, |(first, last)| first..last.saturating_add(1));
                    for slot in cpus.filter_map(|cpu| usize::try_from(cpu).ok()).take(nodes.len()) {
                        if let Some(entry) = nodes.get_mut(slot) {
                            *entry = node;
                        }
                    }
                }
                _ => {}
            }
        }
    }
    nodes.into_iter().map_while(|node| node).collect()
}
