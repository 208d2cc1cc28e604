//! A hosted machine with its kernel booted.
//!
//! Used by the `mmkit` command, the tests and programs that embed memory management. Plain composition: a description becomes
//! memory and CPUs, memblock, and a `kernel_mm::Kernel`.

use std::fmt;
use std::sync::Arc;

use boot_memory::Nodes;
use boot_memory::firmware::BootOptions;
use boot_memory::memblock::{BootContext, BootLog, Memblock};
use frame_table::{BootArena, MemoryModel, OwnedBlock};
use kernel_mm::{BootConfig, Deferral, HandOver, Kernel, ProcView};
use page_allocator::layout::{ArchRules, MovableRule, Release, ZoneLimits};
use page_allocator::{Checks, Geometry, Hooks, NoPressure, PageAllocator, Tunables, Untraced};
use platform::KernelTables;
use proc_files::{Config, Profile};
use sync::Cpu;
use units::{CpuId, NodeId, PfnRange};

use crate::boot_memblock::{self, direct_map_end};
use crate::description::{Arch, LinuxVersion, Machine, MemoryModel as DescribedModel};
use crate::{
    CpuGuard, CpuUnavailable, HostPages, HostUse, InterruptRate, MachineError, MemoryLayout, Rng, SimPlatform,
};

/// Above this much memory a machine's descriptors are initialised when they are needed, unless the options say otherwise.
const DEFER_ABOVE: u64 = 64 << 30;

/// Bytes of a subsection of the sparse memory model (Linux: SUBSECTION_SIZE).
const SUBSECTION_SHIFT: u32 = 21;

/// Address bits that devices of described arm64 machines reach.
const ARM64_DMA_BITS: u32 = 32;

/// What a machine may be booted with.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// Kernel options behind those of the description.
    pub append: String,
    /// vm.* settings.
    pub tunables: Tunables,
    /// Checks that run on every allocation and free, beside those that kernel options ask for.
    pub checks: Checks,
    /// Record of who owns each block, unless `page_owner=` says: `true` keeps one.
    pub page_owner: bool,
    /// When descriptors are initialised; `None` chooses by the size of the machine.
    pub deferral: Option<Deferral>,
    /// Injected interrupts; `None` has none.
    pub interrupts: Option<InterruptRate>,
    /// Host pages behind memory.
    pub ram_pages: HostPages,
    /// Host pages behind the descriptors.
    pub memmap_pages: HostPages,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            append: String::new(),
            tunables: Tunables::default(),
            checks: Checks::empty(),
            page_owner: false,
            deferral: None,
            interrupts: None,
            ram_pages: HostPages::Small,
            memmap_pages: HostPages::Small,
        }
    }
}

/// A machine whose memory management runs.
///
/// ```
/// use mmkit_sim::description::Machine;
/// use mmkit_sim::{SimMachine, SimOptions};
/// use units::{CpuId, Gfp, Order};
///
/// let description = Machine::ready("small").unwrap();
/// let machine = SimMachine::boot(&description, &SimOptions::default())?;
/// let cpu = machine.cpu(CpuId::ZERO).unwrap();
/// let block = machine.pages().alloc(&cpu, Gfp::KERNEL, Order::ZERO).unwrap();
/// machine.pages().free(&cpu, block);
/// # Ok::<(), mmkit_sim::MachineError>(())
/// ```
#[derive(Debug)]
pub struct SimMachine<H: Hooks = NoPressure> {
    kernel: Arc<Kernel<SimPlatform, H>>,
    memblock: Box<Memblock>,
    boot_log: Vec<String>,
    profile: Profile,
}

impl SimMachine {
    /// Boots the machine of `description` without anything that frees memory or listens.
    ///
    /// # Errors
    /// [`MachineError`] if the host, the options or the kernel refuse.
    pub fn boot(description: &Machine, options: &SimOptions) -> Result<Self, MachineError> {
        Self::boot_with(description, options, Untraced)
    }
}

impl<H: Hooks> SimMachine<H> {
    /// Boots the machine of `description` with `hooks` in its page allocator.
    ///
    /// # Errors
    /// As [`SimMachine::boot`].
    pub fn boot_with(description: &Machine, options: &SimOptions, hooks: H) -> Result<Self, MachineError> {
        let command_line = format!("{} {}", description.cmdline, options.append);
        let boot_options =
            BootOptions::parse(&command_line).map_err(|error| MachineError::CommandLine(error.to_string()))?;
        let platform = platform(description, options)?;
        let mut log = Lines::default();
        if let Some(note) = boot_options.unknown_note() {
            log.line(format_args!("{note}"));
        }
        let (memblock, nodes) = boot_memblock::fill(description, &boot_options, &platform, &mut log)?;
        let mut memblock = Box::new(memblock);
        make_kernel_tables(description, &mut memblock, &platform, &mut log)?;
        let plan = Plan::new(description, &memblock, nodes);
        let config = plan.config(description, options, &boot_options);
        let booted = Self::start(&platform, hooks, &config, BootMemory { memblock, log }, profile(description))?;
        if let Some(fail) = boot_options.debug.fail_page_alloc {
            booted.pages().arm_faults(0, fail.times);
        }
        Ok(booted)
    }

    /// Boots the kernel on a machine that was just made: `memory` is where its tables go.
    pub(crate) fn start(
        platform: &SimPlatform,
        hooks: H,
        config: &BootConfig<'_>,
        memory: BootMemory,
        profile: Profile,
    ) -> Result<Self, MachineError> {
        let BootMemory { mut memblock, mut log } = memory;
        let boot_cpu = platform.cpu(CpuId::ZERO).ok_or(MachineError::CpuCount(0))?;
        // SAFETY: memblock was filled with memory of this machine, nobody but this function has it yet, and the kernel, which alone
        // reaches the tables, holds the platform and with it the memory.
        let arena = unsafe { BootArena::new(&mut memblock, platform, &mut log) };
        let kernel = Kernel::boot(platform.clone(), hooks, arena, config, &boot_cpu)?;
        Ok(Self { kernel: Arc::new(kernel), memblock, boot_log: log.0, profile })
    }

    /// Shows `memblock` as the machine's own from now on.
    pub(crate) fn with_memblock(self, memblock: Box<Memblock>) -> Self {
        Self { memblock, ..self }
    }

    /// Returns the kernel.
    pub fn kernel(&self) -> &Kernel<SimPlatform, H> {
        &self.kernel
    }

    /// Returns the page allocator.
    pub fn pages(&self) -> &PageAllocator<SimPlatform, H> {
        self.kernel.pages()
    }

    /// Returns memory, CPUs and interrupts.
    pub fn platform(&self) -> &SimPlatform {
        self.pages().platform()
    }

    /// Returns the boot allocator as it was at the end of boot.
    pub fn memblock(&self) -> &Memblock {
        &self.memblock
    }

    /// Returns the kernel's log of the boot, without time stamps.
    pub fn boot_log(&self) -> &[String] {
        &self.boot_log
    }

    /// Looks at the machine through its /proc files, in the format of the described Linux, reading from `cpu`.
    pub fn proc<'a>(&'a self, cpu: &'a Cpu) -> ProcView<'a, SimPlatform, H> {
        self.kernel.proc(cpu, self.profile)
    }

    /// Takes the token of a CPU; see [`SimPlatform::cpu`].
    pub fn cpu(&self, id: CpuId) -> Option<CpuGuard<'_>> {
        self.platform().cpu(id)
    }

    /// Runs `work` on the first `nr_cpus` CPUs at once; see [`SimPlatform::run_on_cpus`].
    ///
    /// # Errors
    /// [`CpuUnavailable`]; then nothing ran.
    pub fn run_on_cpus<R: Send>(
        &self,
        nr_cpus: usize,
        work: impl Fn(&Cpu) -> R + Sync,
    ) -> Result<Vec<R>, CpuUnavailable> {
        self.platform().run_on_cpus(nr_cpus, work)
    }

    /// Gives the host's pages behind an owned block back to the host; the block reads as zeros afterwards. Returns the bytes
    /// given back.
    ///
    /// # Errors
    /// What the host said.
    pub fn release(&self, block: &mut OwnedBlock) -> std::io::Result<u64> {
        let range = block.frames().phys(self.pages().map().geometry.page_shift);
        // SAFETY: the block proves that nobody else uses its frames, and the borrow that its owner does not meanwhile.
        unsafe { self.platform().memory().release(range) }
    }

    /// Returns the host memory in use.
    ///
    /// # Errors
    /// The host does not tell.
    pub fn host_use(&self) -> std::io::Result<HostUse> {
        self.platform().memory().host_use()
    }
}

impl<H: Hooks + Send + 'static> SimMachine<H> {
    /// Sets what runs when an interrupt arrives, on the interrupted CPU's token. Does nothing without `SimOptions::interrupts`.
    pub fn on_interrupt(&self, handler: impl Fn(&Kernel<SimPlatform, H>, &Cpu, &mut Rng) + Send + Sync + 'static) {
        let kernel = Arc::downgrade(&self.kernel);
        self.platform().on_interrupt(Arc::new(move |cpu, rng| {
            if let Some(kernel) = kernel.upgrade() {
                handler(&kernel, cpu, rng);
            }
        }));
    }
}

/// Takes a page of memory for the root of the kernel's page tables (Linux: paging_init).
fn make_kernel_tables(
    description: &Machine,
    memblock: &mut Memblock,
    platform: &SimPlatform,
    log: &mut dyn BootLog,
) -> Result<(), MachineError> {
    let page = 1 << description.arch.page_shift();
    let root = memblock.alloc(page, page, &mut BootContext::new(platform, log, "paging_init"))?;
    // Nothing was written to the machine's memory yet, so the page is a table without entries.
    let set = platform.set_kernel_tables(KernelTables { root: root.start, format: description.arch.table_format() });
    debug_assert!(set, "the platform was made for this machine and has no tables yet");
    Ok(())
}

/// Returns whose files the machine shows: the described release, built as a distribution builds it for the architecture.
fn profile(description: &Machine) -> Profile {
    let release = match description.linux {
        LinuxVersion::V6_1 => proc_files::Release::V6_1,
        LinuxVersion::V6_12 => proc_files::Release::V6_12,
        LinuxVersion::V6_18 => proc_files::Release::V6_18,
    };
    let x86_only = Config::DIRECT_MAP | Config::GIGABYTE_PAGES | Config::THP_PUD;
    let config = match description.arch {
        Arch::X86_64 | Arch::X86_64La57 => Config::X86_64,
        Arch::I386 => {
            let large = Config::NUMA | Config::NUMA_BALANCING | Config::ZONE_DMA32 | Config::ZONE_DEVICE;
            (Config::X86_64 - large - Config::GIGABYTE_PAGES - Config::THP_PUD) | Config::HIGHMEM
        }
        Arch::Arm64(_) => Config::X86_64 - x86_only,
    };
    Profile::new(release, config)
}

fn platform(description: &Machine, options: &SimOptions) -> Result<SimPlatform, MachineError> {
    use boot_memory::firmware::RangeKind;
    let layout = MemoryLayout {
        ram: description.firmware.of_kind(RangeKind::Usable).map(|entry| entry.range).collect(),
        direct_map_end: direct_map_end(description.arch),
        ram_pages: options.ram_pages,
        memmap_pages: options.memmap_pages,
    };
    SimPlatform::new(&layout, description.cpu_nodes().len(), options.interrupts)
}

/// What the description says in the kernel's terms, kept while the kernel boots.
struct Plan<'a> {
    limits: ZoneLimits,
    cpu_nodes: Vec<NodeId>,
    distance: Box<dyn Fn(NodeId, NodeId) -> u8 + 'a>,
}

impl<'a> Plan<'a> {
    fn new(description: &'a Machine, memblock: &Memblock, nodes: Nodes) -> Self {
        let shift = description.arch.page_shift();
        let memory = PfnRange::new(memblock.start_of_dram().pfn_down(shift), memblock.end_of_dram().pfn_up(shift));
        let limits = match description.arch {
            Arch::X86_64 | Arch::X86_64La57 => ZoneLimits::x86_64(memory),
            Arch::I386 => {
                let low_end = direct_map_end(Arch::I386).map_or(memory.end, |end| end.pfn_down(shift));
                ZoneLimits::i386(memory, low_end.min(memory.end))
            }
            Arch::Arm64(_) => ZoneLimits::arm64(memory, ARM64_DMA_BITS, shift),
        };
        let mut cpu_nodes = description.cpu_nodes();
        if nodes == Nodes::One {
            cpu_nodes.fill(NodeId::ZERO);
        }
        let distance = |from: NodeId, to: NodeId| {
            let row = description.distances.get(from.index());
            row.and_then(|row| row.get(to.index())).copied().unwrap_or(if from == to { 10 } else { 20 })
        };
        Self { limits, cpu_nodes, distance: Box::new(distance) }
    }

    fn config(&'a self, description: &Machine, options: &SimOptions, boot: &BootOptions<'_>) -> BootConfig<'a> {
        let arch = description.arch;
        let large = description.usable_bytes() > DEFER_ABOVE && description.memory_model == DescribedModel::Sparse;
        let automatic = if large { Deferral::UntilNeeded } else { Deferral::None };
        BootConfig {
            geometry: Geometry {
                page_shift: arch.page_shift(),
                max_order: arch.max_page_order(),
                pageblock_order: arch.pageblock_order(),
            },
            memory_model: match description.memory_model {
                DescribedModel::Flat => MemoryModel::Flat,
                DescribedModel::Sparse => MemoryModel::Sparse {
                    section_order: arch.section_shift() - arch.page_shift(),
                    subsection_order: SUBSECTION_SHIFT - arch.page_shift(),
                },
            },
            arch: match arch {
                Arch::X86_64 | Arch::X86_64La57 => ArchRules::X86_64,
                Arch::I386 => ArchRules::I386,
                Arch::Arm64(_) => ArchRules::ARM64,
            },
            limits: self.limits,
            movable: MovableRule::from(boot),
            cpu_nodes: &self.cpu_nodes,
            distance: &*self.distance,
            tunables: Tunables { transparent_hugepage: boot.transparent_hugepage, ..options.tunables },
            release: if description.linux == LinuxVersion::V6_1 { Release::V6_1 } else { Release::V6_12 },
            checks: options.checks | Checks::from(&boot.debug),
            page_owner: boot.debug.page_owner.unwrap_or(options.page_owner),
            deferral: options.deferral.unwrap_or(automatic),
            hand_over: HandOver::Release,
            slab: object_allocator::SlabOptions::from(boot),
            described: None,
        }
    }
}

/// Memory that boot may use, and the log of it.
pub(crate) struct BootMemory {
    pub(crate) memblock: Box<Memblock>,
    pub(crate) log: Lines,
}

/// Keeps the lines of the boot log.
#[derive(Default)]
pub(crate) struct Lines(Vec<String>);

impl BootLog for Lines {
    fn line(&mut self, args: fmt::Arguments<'_>) {
        self.0.push(args.to_string());
    }
}

#[cfg(test)]
mod tests;
