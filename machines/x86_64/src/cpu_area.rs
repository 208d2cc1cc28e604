//! What belongs to one CPU: its token, descriptor tables, interrupt stacks and counters, found through the GS base.
//!
//! Each CPU writes its own area when it starts; others reach only the atomics.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use sync::{Cpu, IrqControl};
use units::{CpuId, VirtAddr};
use userland::Registers;

use crate::exit::die;
use crate::fence::Requests;
use crate::gdt::{Gdt, INTERRUPT_STACKS, TaskState};
use crate::instructions::{interrupts_enable, interrupts_save, write_msr};
use crate::stress::InterruptWork;
use crate::user_entry;

/// Most CPUs that the machine starts.
pub(crate) const MAX_CPUS: usize = 8;

/// Number of this machine in CPU tokens; there is one machine in the address space.
const MACHINE: u32 = 0;
const INTERRUPT_STACK_SIZE: usize = 32 << 10;
const MSR_GS_BASE: u32 = 0xc000_0101;

/// Interrupts of a CPU are its interrupt flag; they arrive by themselves, so there is no window to open.
const IRQ_CONTROL: IrqControl = IrqControl {
    save: |_| interrupts_save(),
    restore: |_, enabled| {
        if enabled {
            interrupts_enable();
        }
    },
    window: |_| (),
};

/// Memory of an interrupt stack.
///
/// # Invariants
/// Only the CPU that the stack belongs to uses it, as its stack.
#[repr(C, align(4096))]
struct Stack(UnsafeCell<[u8; INTERRUPT_STACK_SIZE]>);

impl Stack {
    const fn new() -> Self {
        Self(UnsafeCell::new([0; INTERRUPT_STACK_SIZE]))
    }

    /// Returns the lowest page, which is left unmapped.
    fn guard(&self) -> VirtAddr {
        VirtAddr::new(self.0.get().addr() as u64)
    }

    fn top(&self) -> u64 {
        (self.0.get().addr() + INTERRUPT_STACK_SIZE) as u64
    }
}

// SAFETY: by the type invariant nobody shares it.
unsafe impl Sync for Stack {}

/// What the code that enters and leaves programs finds through gs, at the distances of its constants.
#[repr(C)]
pub(crate) struct ProgramSlots {
    /// Registers of the program that runs.
    registers: *mut Registers,
    /// The kernel's stack while a program runs.
    kernel_stack: u64,
    /// A register while the others are put away.
    scratch: u64,
}

impl ProgramSlots {
    const fn new() -> Self {
        Self { registers: ptr::null_mut(), kernel_stack: 0, scratch: 0 }
    }

    /// Distance of `registers` from the gs base.
    pub(crate) const REGISTERS: usize = offset_of!(CpuArea, program) + offset_of!(Self, registers);
    /// Distance of `kernel_stack` from the gs base.
    pub(crate) const KERNEL_STACK: usize = offset_of!(CpuArea, program) + offset_of!(Self, kernel_stack);
    /// Distance of `scratch` from the gs base.
    pub(crate) const SCRATCH: usize = offset_of!(CpuArea, program) + offset_of!(Self, scratch);
}

/// One CPU's own data.
///
/// # Invariants
/// After `load` the GS base of the CPU points to its area, and nobody but that CPU uses `token`. `gdt` and `task_state` are
/// written by `load` only.
#[repr(C)]
pub(crate) struct CpuArea {
    /// Address of this area; first, so that `gs:0` reads it.
    this: UnsafeCell<*const CpuArea>,
    /// What the code that enters and leaves programs keeps here; second, so that it is at a known distance.
    pub(crate) program: UnsafeCell<ProgramSlots>,
    id: CpuId,
    token: Cpu,
    gdt: UnsafeCell<Gdt>,
    task_state: UnsafeCell<TaskState>,
    apic_id: AtomicU32,
    online: AtomicBool,
    /// Root table of the address space that it runs; 0 for the kernel's.
    pub(crate) root: AtomicU64,
    /// Barriers that other CPUs asked of this one.
    pub(crate) fence: Requests,
    /// Flushes of its TLB that other CPUs asked of this one.
    pub(crate) flush: Requests,
    /// Number of the last job that `smp::run_on_all` gave this CPU and that is done.
    pub(crate) finished_jobs: AtomicU64,
    /// Timer interrupts handled.
    pub(crate) timer_interrupts: AtomicU64,
    /// What the timer's handler allocates under stress.
    pub(crate) interrupt_work: InterruptWork,
}

// SAFETY: by the type invariant only the CPU itself uses the fields that are not atomic.
unsafe impl Sync for CpuArea {}

/// Interrupt stacks, apart from the areas so that they take no room in the image's file.
static STACKS: [[Stack; INTERRUPT_STACKS]; MAX_CPUS] = [const { [const { Stack::new() }; INTERRUPT_STACKS] }; MAX_CPUS];

static AREAS: [CpuArea; MAX_CPUS] = [
    CpuArea::new(0),
    CpuArea::new(1),
    CpuArea::new(2),
    CpuArea::new(3),
    CpuArea::new(4),
    CpuArea::new(5),
    CpuArea::new(6),
    CpuArea::new(7),
];

impl CpuArea {
    const fn new(index: u64) -> Self {
        let Some(id) = CpuId::try_new(index) else { panic!("CPU index above units::MAX_CPUS") };
        Self {
            this: UnsafeCell::new(ptr::null()),
            program: UnsafeCell::new(ProgramSlots::new()),
            id,
            // SAFETY: one token for each index, in the only machine of this address space.
            token: unsafe { Cpu::new(MACHINE, id, IRQ_CONTROL) },
            gdt: UnsafeCell::new(Gdt::new()),
            task_state: UnsafeCell::new(TaskState::new()),
            apic_id: AtomicU32::new(0),
            online: AtomicBool::new(false),
            root: AtomicU64::new(0),
            fence: Requests::new(),
            flush: Requests::new(),
            finished_jobs: AtomicU64::new(0),
            timer_interrupts: AtomicU64::new(0),
            interrupt_work: InterruptWork::new(),
        }
    }

    /// Returns the area of CPU `id`, if the machine has room for it.
    pub(crate) fn of(id: CpuId) -> Option<&'static Self> {
        AREAS.get(id.index())
    }

    /// Returns the CPU's number.
    pub(crate) fn id(&self) -> CpuId {
        self.id
    }

    /// Returns the CPU's token.
    ///
    /// # Safety
    /// The caller runs on this CPU.
    pub(crate) unsafe fn token(&self) -> &Cpu {
        &self.token
    }

    /// Returns the number of the CPU's interrupt controller.
    pub(crate) fn apic_id(&self) -> u32 {
        // Relaxed: set before the CPU is online, and read of online CPUs only.
        self.apic_id.load(Ordering::Relaxed)
    }

    /// Says which interrupt controller the CPU has.
    pub(crate) fn set_apic_id(&self, apic_id: u32) {
        self.apic_id.store(apic_id, Ordering::Relaxed);
    }

    /// Returns true once the CPU can take interrupts.
    pub(crate) fn is_online(&self) -> bool {
        // Acquire: pairs with the Release store in `set_online`.
        self.online.load(Ordering::Acquire)
    }

    /// Says that this CPU can take interrupts: its area and the interrupt table are loaded.
    pub(crate) fn set_online(&self) {
        // Release: pairs with the Acquire load in `is_online`.
        self.online.store(true, Ordering::Release);
    }

    /// Makes this the area of the CPU that executes the call: segments, interrupt stacks, GS base.
    ///
    /// # Safety
    /// Called once for each area, with interrupts off, on the CPU that is to own it.
    pub(crate) unsafe fn load(&'static self) {
        // SAFETY: nobody else looks at the field before the GS base is set.
        unsafe { self.this.get().write(self) };
        // SAFETY: called once, so this is the only reference.
        let task_state = unsafe { &mut *self.task_state.get() };
        let Some(stacks) = STACKS.get(self.id.index()) else { die(format_args!("CPU without interrupt stacks")) };
        task_state.set_stacks(stacks.each_ref().map(Stack::top));
        // SAFETY: called once, so this is the only reference.
        let gdt = unsafe { &mut *self.gdt.get() };
        gdt.set_task_state(self.task_state.get().addr() as u64);
        // SAFETY: the area is static and the tables are not written again.
        unsafe { gdt.load() };
        // SAFETY: compiled code does not use gs.
        unsafe { write_msr(MSR_GS_BASE, (&raw const *self).addr() as u64) };
        user_entry::enable_system_calls();
    }
}

/// Iterates over the pages below the interrupt stacks; touching one means that a stack is used up.
pub(crate) fn stack_guards() -> impl Iterator<Item = VirtAddr> {
    STACKS.iter().flatten().map(Stack::guard)
}

/// Iterates over the areas of the CPUs that run, in the order of their numbers.
pub(crate) fn online() -> impl Iterator<Item = &'static CpuArea> {
    AREAS.iter().filter(|area| area.is_online())
}

/// Returns the token of the CPU that runs this.
///
/// The caller stays on its CPU: nothing here moves code between CPUs.
pub(crate) fn this_cpu() -> &'static Cpu {
    // SAFETY: the area is the one of the CPU that runs this.
    unsafe { this_area().token() }
}

/// Returns the area of the CPU that runs this.
pub(crate) fn this_area() -> &'static CpuArea {
    let area: *const CpuArea;
    // SAFETY: every CPU loads its area before it runs anything that calls this.
    unsafe { asm!("mov {}, gs:[0]", out(reg) area, options(pure, readonly, nostack, preserves_flags)) };
    // SAFETY: by the type invariant gs:0 holds the address of a static area.
    unsafe { &*area }
}
