//! The order of the boot, from the entry code to the end of the run.

use boot_memory::firmware::RangeKind;
use boot_memory::memblock::BootContext;
use page_allocator::Checks;
use units::{CpuId, PhysAddr, PhysRange, VirtAddr};

use crate::console::{ConsoleLog, print_line};
use crate::cpu_area::{self, CpuArea, this_area, this_cpu};
use crate::error::BootError;
use crate::exit::{self, Outcome};
use crate::firmware::{self, Firmware, MAX_COMMAND_LINE};
use crate::kernel::{BareKernel, BootInput};
use crate::machine::Machine;
use crate::options::{Bench, MachineOptions};
use crate::paging::{self, TablePool};
use crate::ram::RamRanges;
use crate::smp::{self, StartPage};
use crate::{
    apic, bench, boot_memblock, idt, kernel, memory_map, programs, reports, ring3_test, self_test, serial, stress,
    timer,
};

/// log2 of the page size.
const PAGE_SHIFT: u32 = 12;

/// Where the image lies in physical memory.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// First byte.
    pub start: PhysAddr,
    /// End of the executable part.
    pub text_end: PhysAddr,
    /// End of the read-only part.
    pub rodata_end: PhysAddr,
    /// End of the image with its zeroed data.
    pub end: PhysAddr,
    /// Top table of the boot page tables.
    pub boot_page_table: PhysAddr,
    /// Low end of the stack that the boot CPU runs on.
    pub boot_stack: VirtAddr,
}

/// What the entry code hands over.
#[derive(Clone, Copy, Debug)]
pub struct BootArguments {
    /// Layout of the image.
    pub image: Image,
    /// Address of hvm_start_info.
    pub start_info: PhysAddr,
}

/// Boots the machine, does what the command line asks for and ends the run.
///
/// # Safety
/// Called once, on the boot CPU, in long mode on the boot page tables, with interrupts off and no other CPU running.
/// `arguments` are true.
pub unsafe fn start(arguments: BootArguments) -> ! {
    serial::init();
    // SAFETY: the caller's contract.
    unsafe { start_boot_cpu() };
    // SAFETY: the boot page tables map the low 4 GiB at the direct map; the emulator caches no device registers.
    unsafe { apic::set_base(paging::direct(apic::PHYS_BASE)) };
    let mut buffer = [0; MAX_COMMAND_LINE];
    let memory = &firmware::read_phys;
    let outcome =
        firmware::read(memory, arguments.start_info, apic::id()).map_err(BootError::from).and_then(|firmware| {
            let command_line = firmware.command_line(memory, &mut buffer)?;
            // SAFETY: the caller's contract.
            unsafe { boot(&arguments.image, firmware, command_line) }
        });
    match outcome {
        Ok(outcome) => exit::exit(outcome),
        Err(error) => exit::die(format_args!("{error}")),
    }
}

/// Gives the boot CPU its area and the interrupt table.
///
/// # Safety
/// Called once, on the boot CPU, with interrupts off and no other CPU running.
unsafe fn start_boot_cpu() {
    let Some(area) = CpuArea::of(CpuId::ZERO) else { exit::die(format_args!("no area for the boot CPU")) };
    // SAFETY: the caller's contract.
    unsafe { area.load() };
    // SAFETY: called once, before any other CPU runs.
    unsafe { idt::fill_table() };
    // SAFETY: filled, and the area is loaded.
    unsafe { idt::load_table() };
}

/// Goes on with what the firmware said.
///
/// # Safety
/// As [`start`].
unsafe fn boot(image: &Image, mut firmware: Firmware, command_line: &str) -> Result<Outcome, BootError> {
    let own = MachineOptions::parse(command_line).map_err(|error| {
        print_line!(this_cpu(), "{error}");
        BootError::BadOption
    })?;
    let options = memory_map::apply_options(&mut firmware.map, command_line, &mut ConsoleLog)?;
    let image_range = PhysRange::new(image.start, image.end);
    let mut memblock = boot_memblock::new(&options);
    boot_memblock::fill(&mut memblock, &firmware.map, [image_range].into_iter().chain(firmware.loaded()))?;
    let early = boot_memblock::take_early(&mut memblock)?;
    let ram = RamRanges::collect(firmware.map.of_kind(RangeKind::Usable).map(|entry| entry.range), PAGE_SHIFT)?;
    // SAFETY: memblock gave the range to nobody else; it lies below what the boot page tables map.
    let pool = unsafe { TablePool::new(early.tables) };
    let guards = || [image.boot_stack].into_iter().chain(cpu_area::stack_guards()).chain(smp::stack_guards());
    let tables = paging::build(pool, image, ram.iter(), guards)?;
    if own.dump_page_tables {
        // The console cannot fail.
        let _ = tables.dump(&mut ConsoleLog);
    }
    // SAFETY: the tables map the image and all of RAM as the boot tables do; nothing else is in use.
    unsafe { paging::activate(&tables) };
    let mut log = ConsoleLog;
    let mut cx = BootContext::new(&(), &mut log, "numa_register_memblks");
    firmware.keep_nodes(memblock.set_nodes(&firmware.numa, options.numa, &mut cx)?);
    let nodes = u64::from(firmware.numa.nodes().len()).max(1);
    // SAFETY: the new tables map the page there, uncached.
    unsafe { apic::set_base(paging::APIC_PAGE) };
    // SAFETY: the tables are active; CPUs that are started load the same ones.
    let machine = unsafe { Machine::new(ram, tables) };
    start_interrupts()?;
    let start_page = StartPage {
        phys: early.start_page.start,
        page: paging::direct_pointer(early.start_page.start),
        boot_page_table: image.boot_page_table,
    };
    // SAFETY: memblock gave the page to nobody else; the boot page tables map it at its own address.
    unsafe { start_other_cpus(start_page, &firmware, nodes) };
    if let Some(death) = own.die {
        death.die();
    }
    let outcome = self_test::run(&own, nodes);
    // What is measured is the path of a kernel without debug options.
    let own_checks = if own.bench.is_some() { Checks::empty() } else { Checks::BAD_PAGE };
    let checks = own_checks | Checks::from(&options.debug);
    let input = BootInput { options: &options, numa: &firmware.numa, cpus: &firmware.cpus, ram: &ram, checks };
    // SAFETY: memblock was filled from the firmware's map, everything in use is reserved, and the direct map shows all of it.
    let kernel = unsafe { kernel::boot(machine, &mut memblock, &input) }?.ok_or(BootError::BootedTwice)?;
    let entry_held = ring3_test::run();
    print_line!(this_cpu(), "self-test: programs: {}", if entry_held { "ok" } else { "FAILED" });
    if outcome != Outcome::Pass || !entry_held {
        return Ok(Outcome::Fail);
    }
    if let Some(fail) = options.debug.fail_page_alloc {
        kernel.pages().arm_faults(0, fail.times);
    }
    match own.init {
        Some(init) => programs::run(kernel, init, &own, firmware.initrd()),
        None => Ok(if work(kernel, &own) { Outcome::Pass } else { Outcome::Fail }),
    }
}

/// Does what the options ask of the booted machine; false if something was found wrong.
fn work(kernel: &BareKernel, own: &MachineOptions<'_>) -> bool {
    reports::print_buddyinfo(kernel);
    match own.bench {
        Some(Bench::Pair) => bench::pairs(kernel),
        Some(Bench::Program) | None => {
            let steps = own.stress.unwrap_or(stress::DEFAULT_STEPS);
            let passed = steps == 0 || stress::run(kernel, steps);
            reports::print_buddyinfo(kernel);
            reports::print_zoneinfo(kernel);
            passed
        }
    }
}

/// Turns the boot CPU's interrupt controller on and calibrates the timer.
fn start_interrupts() -> Result<(), BootError> {
    apic::enable();
    let area = this_area();
    area.set_apic_id(apic::id());
    area.set_online();
    let frequency = timer::calibrate()?;
    print_line!(this_cpu(), "APIC timer calibrated: {} kHz, {} interrupts a second", frequency / 1000, timer::RATE_HZ);
    Ok(())
}

/// Starts every CPU of the firmware's list but the first, which is the boot CPU.
///
/// # Safety
/// As `smp::start_cpu`.
unsafe fn start_other_cpus(start_page: StartPage, firmware: &Firmware, nodes: u64) {
    let cpu = this_cpu();
    print_line!(cpu, "smp: Bringing up secondary CPUs ...");
    for (raw, apic_id) in (0..).zip(firmware.cpus.iter()).skip(1) {
        let Some(id) = CpuId::try_new(raw) else { break };
        // SAFETY: the caller's contract.
        match unsafe { smp::start_cpu(start_page, id, apic_id) } {
            Ok(()) => (),
            Err(error) => print_line!(cpu, "smpboot: CPU {id} (APIC {apic_id}) failed to start: {error:?}"),
        }
    }
    if firmware.cpus.left_out > 0 {
        print_line!(cpu, "smpboot: no room for {} more CPUs", firmware.cpus.left_out);
    }
    let online = cpu_area::online().count();
    print_line!(cpu, "smp: Brought up {nodes} node(s), {online} CPU(s)");
}
