//! Starting the other CPUs, and running one function on all of them.
//!
//! The boot CPU starts them one at a time. After that a CPU waits, with interrupts on, for a job; the boot CPU publishes a job
//! by counting up `JOB_NUMBER` and raises a wake-up interrupt, so no wait is busy.

use core::cell::UnsafeCell;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use units::{CpuId, PhysAddr, VirtAddr};

use crate::apic::{self, Message};
use crate::cpu_area::{self, CpuArea, MAX_CPUS, this_area};
use crate::idt::{self, WAKE_UP_VECTOR};
use crate::instructions::{interrupts_enable, interrupts_save, wait_for_interrupt};
use crate::paging;
use crate::pit::{self, NoTimer};
use crate::trampoline::{self, StartUp};

const STACK_SIZE: usize = 128 << 10;
const INIT_DELAY_MICROS: u64 = 10_000;
const START_UP_DELAY_MICROS: u64 = 200;
/// Waits of [`INIT_DELAY_MICROS`] until a CPU that does not come up is given up.
const MAX_WAITS: u32 = 200;

/// Stack of a CPU other than the boot CPU.
///
/// # Invariants
/// Only the CPU that it was given to uses it.
#[repr(C, align(4096))]
struct Stack(UnsafeCell<[u8; STACK_SIZE]>);

// SAFETY: by the type invariant nobody shares it.
unsafe impl Sync for Stack {}

static STACKS: [Stack; MAX_CPUS - 1] = [const { Stack(UnsafeCell::new([0; STACK_SIZE])) }; MAX_CPUS - 1];

/// Iterates over the lowest pages of the stacks, which are left unmapped.
pub(crate) fn stack_guards() -> impl Iterator<Item = VirtAddr> {
    STACKS.iter().map(|stack| VirtAddr::new(stack.0.get().addr() as u64))
}

/// Job that waiting CPUs run, a [`Job`]; meaningful once `JOB_NUMBER` is not 0.
static JOB: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());
static JOB_NUMBER: AtomicU64 = AtomicU64::new(0);

/// What a CPU can be told to do.
pub(crate) type Job = fn(&'static CpuArea);

/// Why a CPU was not started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StartError {
    /// There is no area or no stack for one more CPU.
    TooManyCpus,
    /// It does not answer.
    NoAnswer,
    /// There is no timer to wait with.
    Timer,
}

impl From<NoTimer> for StartError {
    fn from(NoTimer: NoTimer) -> Self {
        Self::Timer
    }
}

/// A page below 1 MiB for the start-up code, and the page tables to start on and to run on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartPage {
    pub(crate) phys: PhysAddr,
    pub(crate) page: NonNull<u8>,
    pub(crate) boot_page_table: PhysAddr,
}

/// Starts the CPU whose interrupt controller has number `apic_id` as CPU `id`, on the current page tables of the boot CPU.
///
/// # Errors
/// [`StartError`]; the CPU is then halted or absent.
///
/// # Safety
/// Called on the boot CPU. The page is usable memory that nobody else uses; the boot page tables map it at its own address.
pub(crate) unsafe fn start_cpu(start: StartPage, id: CpuId, apic_id: u32) -> Result<(), StartError> {
    let area = CpuArea::of(id).ok_or(StartError::TooManyCpus)?;
    let stack = id.index().checked_sub(1).and_then(|index| STACKS.get(index)).ok_or(StartError::TooManyCpus)?;
    area.set_apic_id(apic_id);
    let start_up = StartUp {
        page_table: start.boot_page_table,
        stack_top: (stack.0.get().addr() + STACK_SIZE) as u64,
        argument: ptr::from_ref(area).addr() as u64,
        entry: first_rust as *const () as u64,
    };
    // SAFETY: the caller's contract.
    unsafe { trampoline::install(start.page, start.phys, &start_up) };
    let page_number = u8::try_from(start.phys.raw() >> 12).map_err(|_| StartError::TooManyCpus)?;
    apic::send(apic_id, Message::Init);
    pit::wait(INIT_DELAY_MICROS)?;
    for _ in 0..2 {
        apic::send(apic_id, Message::StartUp(page_number));
        pit::wait(START_UP_DELAY_MICROS)?;
        if area.is_online() {
            return Ok(());
        }
    }
    for _ in 0..MAX_WAITS {
        pit::wait(INIT_DELAY_MICROS)?;
        if area.is_online() {
            return Ok(());
        }
    }
    Err(StartError::NoAnswer)
}

/// First Rust code of a CPU, called by the start-up code on the boot page tables with interrupts off.
extern "C" fn first_rust(area: &'static CpuArea) -> ! {
    // SAFETY: CPUs are started after the boot CPU activated its tables.
    unsafe { paging::activate_again() };
    // SAFETY: this CPU was started for this area, once.
    unsafe { area.load() };
    // SAFETY: the boot CPU filled the table before it started another; the area is loaded.
    unsafe { idt::load_table() };
    apic::enable();
    area.set_online();
    wait_for_jobs(area)
}

fn wait_for_jobs(area: &'static CpuArea) -> ! {
    let mut finished = 0;
    loop {
        interrupts_save();
        // Acquire: pairs with the Release addition in `run_on_all`, which makes the job visible.
        let number = JOB_NUMBER.load(Ordering::Acquire);
        if number == finished {
            wait_for_interrupt();
            continue;
        }
        interrupts_enable();
        let job = JOB.load(Ordering::Relaxed);
        // SAFETY: `run_on_all` stored a `Job` before it counted up.
        let job: Job = unsafe { core::mem::transmute::<*mut (), Job>(job) };
        job(area);
        finished = number;
        // Release: pairs with the Acquire load in `run_on_all`; what the job did is visible to its caller.
        area.finished_jobs.store(finished, Ordering::Release);
    }
}

/// Runs `job` on every CPU, this one included, and waits until all are done.
///
/// Called on the boot CPU only, one job at a time.
pub(crate) fn run_on_all(job: Job) {
    let myself = this_area();
    JOB.store(job as *mut (), Ordering::Relaxed);
    // Release: pairs with the Acquire load in `wait_for_jobs`.
    let number = JOB_NUMBER.fetch_add(1, Ordering::Release) + 1;
    let others = || cpu_area::online().filter(|area| !ptr::eq(*area, myself));
    for area in others() {
        apic::send(area.apic_id(), Message::Vector(WAKE_UP_VECTOR));
    }
    job(myself);
    for area in others() {
        // Acquire: pairs with the Release store in `wait_for_jobs`.
        while area.finished_jobs.load(Ordering::Acquire) < number {
            core::hint::spin_loop();
        }
    }
}
