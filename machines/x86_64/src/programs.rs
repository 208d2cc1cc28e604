//! Running programs on every CPU: the loop around `userland`, and what programs need of this machine.
//!
//! A CPU without a program is on the kernel's page tables, so an address space that ends is on no CPU.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use address_space::Access;
use page_allocator::Untraced;
use sync::SetOnce;
use units::{CpuId, PhysRange, VirtAddr};
use userland::{InitError, Leaving, Next, Program, Step, Thread, Trap, Userland};

use crate::apic::{self, Message};
use crate::console::{print_line, write_bytes};
use crate::cpu_area::{self, CpuArea, this_cpu};
use crate::error::BootError;
use crate::exit::Outcome;
use crate::idt::{SPURIOUS_VECTOR, TIMER_VECTOR, WAKE_UP_VECTOR};
use crate::instructions::{interrupts_enable, interrupts_save, read_cr2, wait_for_interrupt, write_msr};
use crate::kernel::BareKernel;
use crate::machine::Machine;
use crate::options::MachineOptions;
use crate::user_entry::{self, Left, SYSTEM_CALL};
use crate::{heap, paging, smp, timer, tlb};

const MSR_FS_BASE: u32 = 0xc000_0100;
/// The gs base that `swapgs` brings: the program's, while the kernel runs.
const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;
const PAGE_FAULT: u8 = 14;
/// Bits of a page fault's error code.
const FAULT_PRESENT: u64 = 1;
const FAULT_WRITE: u64 = 2;
const FAULT_FETCH: u64 = 16;
/// Environment of the first program.
const ENVIRONMENT: [&[u8]; 3] = [b"PATH=/sbin:/bin:/usr/sbin:/usr/bin", b"HOME=/root", b"TERM=dumb"];
/// 2020-01-01, where the machine's calendar begins: it reads no clock with a battery.
const BOOT_TIME_NS: u64 = 1_577_836_800 * 1_000_000_000;

/// Memory of this machine's programs.
type Memory = userland::ManagedMemory<'static, Machine, Untraced>;
type Programs = Userland<Memory, BareMachine>;

static PROGRAMS: SetOnce<Programs> = SetOnce::new();
/// Code that init ended with.
static EXIT_CODE: AtomicU64 = AtomicU64::new(0);

/// What programs need of the machine beside memory.
struct BareMachine {
    random: AtomicU64,
}

impl userland::Machine for BareMachine {
    fn console_write(&self, bytes: &[u8]) {
        write_bytes(this_cpu(), bytes);
    }

    fn now_ns(&self) -> u64 {
        timer::now_ns()
    }

    fn boot_time_ns(&self) -> u64 {
        BOOT_TIME_NS
    }

    /// SplitMix64.
    fn random(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        // Relaxed: each number is used once, whoever gets it.
        let mut value = self.random.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ value >> 31
    }

    fn processor_features(&self) -> u64 {
        core::arch::x86_64::__cpuid(1).edx.into()
    }

    fn nr_cpus(&self) -> usize {
        cpu_area::online().count()
    }

    fn kick(&self, cpu: CpuId) {
        if let Some(area) = CpuArea::of(cpu).filter(|area| area.is_online()) {
            apic::send(area.apic_id(), Message::Vector(WAKE_UP_VECTOR));
        }
    }
}

/// Unpacks the initrd, starts `init` and runs programs on all CPUs until it ends.
///
/// # Errors
/// [`BootError::Program`]: there is no initrd or no such program.
pub(crate) fn run(
    kernel: &'static BareKernel,
    init: &str,
    options: &MachineOptions<'_>,
    initrd: Option<PhysRange>,
) -> Result<Outcome, BootError> {
    let cpu = this_cpu();
    kernel.start_objects(cpu)?;
    heap::set(kernel.objects());
    let memory = Memory::new(cpu, kernel).map_err(|error| InitError::Failed(error.into()))?;
    let machine = BareMachine { random: AtomicU64::new(options.seed) };
    PROGRAMS.set(Userland::new(memory, machine)).map_err(|_| BootError::BootedTwice)?;
    let programs = PROGRAMS.get().ok_or(BootError::BootedTwice)?;
    if options.strace {
        programs.trace();
    }
    let initrd = initrd.ok_or(InitError::Archive("the loader brought no module", 0))?;
    programs.unpack(cpu, module_bytes(initrd))?;
    let words = match options.argv {
        Some(path) => programs.read_file(cpu, path.as_bytes())?,
        None => Vec::new(),
    };
    let mut arguments = Vec::new();
    // A file of arguments ends with a zero, which is no argument more.
    for word in words.strip_suffix(&[0]).unwrap_or(init.as_bytes()).split(|&byte| byte == 0) {
        arguments.try_reserve(1).map_err(|_| BootError::from(InitError::Failed(userland::Errno::ENOMEM)))?;
        arguments.push(word);
    }
    let program = Program { path: init.as_bytes(), arguments: &arguments, environment: &ENVIRONMENT };
    programs.start_init(cpu, &program)?;
    smp::run_on_all(run_on_cpu);
    // Relaxed: written by a job, which synchronises.
    let code = EXIT_CODE.load(Ordering::Relaxed) as u8;
    print_line!(cpu, "init: exit code {code}");
    Ok(Outcome::Program(code))
}

/// Returns the bytes of a module that the loader brought.
fn module_bytes(module: PhysRange) -> &'static [u8] {
    let start = paging::direct_pointer(module.start);
    // SAFETY: memblock keeps the loader's modules reserved for good, the direct map shows them, and nobody writes there.
    unsafe { core::slice::from_raw_parts(start.as_ptr(), module.len() as usize) }
}

/// Runs programs until all have ended.
fn run_on_cpu(area: &'static CpuArea) {
    let Some(programs) = PROGRAMS.get() else { return };
    let cpu = this_cpu();
    timer::start();
    let enabled = interrupts_save();
    loop {
        match programs.next(cpu) {
            Next::Run(mut thread) => {
                let leaving = run_thread(programs, area, &mut thread);
                programs.put_back(cpu, thread, leaving);
            }
            Next::Idle => wait_for_interrupt(),
            Next::Finished(code) => {
                // Relaxed: read after the job, which synchronises; every CPU stores the same.
                EXIT_CODE.store(code.into(), Ordering::Relaxed);
                break;
            }
        }
    }
    timer::stop();
    if enabled {
        interrupts_enable();
    }
}

/// Runs a thread until it leaves this CPU, with interrupts off outside of its program.
fn run_thread(programs: &Programs, area: &'static CpuArea, thread: &mut Thread<Memory>) -> Leaving {
    let cpu = this_cpu();
    let Some(root) = programs.memory().root(thread.mm()) else { return Leaving::Ends };
    // SAFETY: the tables have the kernel's addresses as every root, and live while the thread has its address space.
    unsafe { tlb::enter_space(area, root) };
    let registers = &thread.registers;
    for (register, base) in [(MSR_FS_BASE, registers.fs_base), (MSR_KERNEL_GS_BASE, registers.gs_base)] {
        // SAFETY: the kernel uses neither; both are addresses of a program.
        unsafe { write_msr(register, base) };
    }
    let mut step = programs.resume(cpu, thread);
    let leaving = loop {
        match step {
            Step::Run => {
                // SAFETY: interrupts are off, tables and bases are the program's, and `userland` has checked the address.
                let left = unsafe { user_entry::enter(&raw mut thread.registers) };
                step = programs.trap(cpu, thread, trap_of(left));
            }
            Step::Leave(leaving) => break leaving,
        }
    };
    tlb::leave_space(area);
    leaving
}

/// Says why a program was left; handles the interrupts of the machine.
#[inline]
pub(crate) fn trap_of(left: Left) -> Trap {
    if left.vector == SYSTEM_CALL {
        return Trap::SystemCall;
    }
    match left.vector as u8 {
        PAGE_FAULT => Trap::PageFault {
            addr: VirtAddr::new(read_cr2()),
            access: if left.error_code & FAULT_WRITE != 0 { Access::Write } else { Access::Read },
            is_fetch: left.error_code & FAULT_FETCH != 0,
            is_present: left.error_code & FAULT_PRESENT != 0,
        },
        TIMER_VECTOR => {
            timer::interrupt();
            Trap::Interrupt { is_timer: true }
        }
        WAKE_UP_VECTOR => {
            apic::end_of_interrupt();
            Trap::Interrupt { is_timer: false }
        }
        SPURIOUS_VECTOR => Trap::Interrupt { is_timer: false },
        vector => Trap::Exception { vector, error_code: left.error_code },
    }
}
