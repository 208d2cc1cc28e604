//! One host thread that steps the tasks of many CPUs in an order drawn from a seed: the same seed gives the same run.
//!
//! Used by tests and experiments. A task is a function that does a little work each time it is called; between two steps the
//! scheduler may pick any task that can go on, and an interrupt may arrive at the CPU that was just stepped.
//! Locking: none; the scheduler holds the token of every CPU that has a task, so nobody else can act as one of them.

use std::fmt;

use sync::Cpu;
use units::CpuId;

use crate::rng::Rng;
use crate::{CpuGuard, CpuUnavailable, SimPlatform};

/// What a task's step came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Did something and wants to go on.
    Progress,
    /// Found nothing to do; wants to be called again after another task made progress.
    Idle,
    /// Has ended.
    Done,
}

/// Why a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunEnd {
    /// Every task is done.
    AllDone,
    /// Every task that is not done is idle, so nothing can make progress; carries how many there are.
    Stalled(usize),
    /// The limit of steps was reached.
    StepLimit,
}

type StepFn<'a> = dyn FnMut(&Cpu, &mut Rng) -> Step + 'a;

struct Task<'a> {
    cpu: usize,
    step: Box<StepFn<'a>>,
    rng: Rng,
}

/// Tasks on the CPUs of one machine.
///
/// # Invariants
/// `ready`, `idle` and the tasks that are done share no task and cover `tasks`; each task's `cpu` indexes `cpus`.
pub struct Scheduler<'a> {
    machine: &'a SimPlatform,
    seed: u64,
    draws: Rng,
    cpus: Vec<CpuGuard<'a>>,
    tasks: Vec<Task<'a>>,
    ready: Vec<usize>,
    idle: Vec<usize>,
    steps: u64,
    digest: u64,
}

impl<'a> Scheduler<'a> {
    /// Makes a scheduler without tasks, whose order comes from `seed`.
    pub fn new(machine: &'a SimPlatform, seed: u64) -> Self {
        Self {
            machine,
            seed,
            draws: Rng::for_part(seed, u64::MAX),
            cpus: Vec::new(),
            tasks: Vec::new(),
            ready: Vec::new(),
            idle: Vec::new(),
            steps: 0,
            digest: 0,
        }
    }

    /// Adds a task on CPU `id`. A CPU may have several; they take turns between steps, never inside one.
    ///
    /// The step function gets the CPU's token and random numbers of its own, which depend on the seed and on how many tasks were
    /// added before.
    ///
    /// # Errors
    /// [`CpuUnavailable`] if the machine has no such CPU or someone else holds its token.
    pub fn spawn(&mut self, id: CpuId, step: impl FnMut(&Cpu, &mut Rng) -> Step + 'a) -> Result<(), CpuUnavailable> {
        let cpu = match self.cpus.iter().position(|cpu| cpu.id() == id) {
            Some(held) => held,
            None => {
                self.cpus.push(self.machine.cpu(id).ok_or(CpuUnavailable(id))?);
                self.cpus.len() - 1
            }
        };
        let index = self.tasks.len();
        // INVARIANT: `cpu` indexes `cpus`, and the task is in `ready` alone.
        self.tasks.push(Task { cpu, step: Box::new(step), rng: Rng::for_part(self.seed, index as u64) });
        self.ready.push(index);
        Ok(())
    }

    /// Steps tasks until all are done, all are idle, or `max_steps` more steps were made.
    pub fn run(&mut self, max_steps: u64) -> RunEnd {
        for _ in 0..max_steps {
            if self.ready.is_empty() {
                break;
            }
            let drawn = self.draws.index(self.ready.len());
            self.step(drawn);
        }
        match (self.ready.is_empty(), self.idle.len()) {
            (true, 0) => RunEnd::AllDone,
            (true, idle) => RunEnd::Stalled(idle),
            (false, _) => RunEnd::StepLimit,
        }
    }

    /// Makes one step of the ready task at `drawn`.
    fn step(&mut self, drawn: usize) {
        let index = self.ready.swap_remove(drawn);
        let task = &mut self.tasks[index];
        let cpu = &self.cpus[task.cpu];
        let outcome = (task.step)(cpu, &mut task.rng);
        self.steps += 1;
        // FNV-1a over the order of the tasks.
        self.digest = (self.digest ^ index as u64).wrapping_mul(0x0100_0000_01b3);
        match outcome {
            Step::Progress => self.ready.push(index),
            Step::Idle => self.idle.push(index),
            Step::Done => {}
        }
        if outcome != Step::Idle {
            self.ready.append(&mut self.idle);
        }
        self.machine.interrupt_point(cpu);
    }

    /// Returns the number of steps made so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Returns a number that two runs share only if they stepped the same tasks in the same order, but for chance.
    pub fn digest(&self) -> u64 {
        self.digest
    }
}

impl fmt::Debug for Scheduler<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler")
            .field("seed", &self.seed)
            .field("cpus", &self.cpus.len())
            .field("ready", &self.ready)
            .field("idle", &self.idle)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::sync::Arc;

    use units::{PhysAddr, PhysRange};

    use super::*;
    use crate::{InterruptRate, MemoryLayout};

    fn machine(nr_cpus: usize, rate: Option<InterruptRate>) -> SimPlatform {
        let ram = vec![PhysRange::with_len(PhysAddr::ZERO, 1 << 20)];
        SimPlatform::new(&MemoryLayout { ram, ..MemoryLayout::default() }, nr_cpus, rate).unwrap()
    }

    fn id(raw: u64) -> CpuId {
        CpuId::try_new(raw).unwrap()
    }

    /// Runs three tasks of ten steps each; returns who was stepped with which random number.
    fn history(seed: u64) -> (Vec<(u16, u64)>, u64, u64) {
        let machine = machine(3, Some(InterruptRate { one_in: 3, seed }));
        machine.on_interrupt(Arc::new(|_, _| ()));
        let log = RefCell::new(Vec::new());
        let mut scheduler = Scheduler::new(&machine, seed);
        for raw in 0..3 {
            let (log, mut left) = (&log, 10);
            let step = move |cpu: &Cpu, rng: &mut Rng| {
                log.borrow_mut().push((cpu.id().raw(), rng.next_u64()));
                left -= 1;
                if left == 0 { Step::Done } else { Step::Progress }
            };
            scheduler.spawn(id(raw), step).unwrap();
        }
        assert_eq!(scheduler.run(1000), RunEnd::AllDone);
        let digest = scheduler.digest();
        drop(scheduler);
        (log.into_inner(), digest, machine.interrupts_delivered())
    }

    #[test]
    fn one_seed_is_one_run_and_another_seed_another() {
        assert_eq!(history(1), history(1));
        assert_ne!(history(1).0, history(2).0);
        assert_ne!(history(1).1, history(2).1);
        assert_eq!(history(1).0.len(), 30);
    }

    #[test]
    fn an_idle_task_waits_for_progress_elsewhere() {
        let machine = machine(2, None);
        let (produced, polls, woken) = (Cell::new(0), Cell::new(0), Cell::new(false));
        let mut scheduler = Scheduler::new(&machine, 9);
        let consumer = |_: &Cpu, _: &mut Rng| {
            polls.set(polls.get() + 1);
            woken.set(produced.get() >= 5);
            if woken.get() { Step::Done } else { Step::Idle }
        };
        let producer = |_: &Cpu, _: &mut Rng| {
            produced.set(produced.get() + 1);
            if produced.get() == 5 { Step::Done } else { Step::Progress }
        };
        scheduler.spawn(id(0), consumer).unwrap();
        scheduler.spawn(id(1), producer).unwrap();
        assert_eq!(scheduler.run(1000), RunEnd::AllDone);
        drop(scheduler);
        assert!(woken.get());
        assert!(polls.get() <= 6, "polled {} times for 5 steps of progress", polls.get());
    }

    #[test]
    fn tasks_that_wait_for_each_other_are_reported() {
        let machine = machine(2, None);
        let mut scheduler = Scheduler::new(&machine, 9);
        scheduler.spawn(id(0), |_, _| Step::Idle).unwrap();
        scheduler.spawn(id(1), |_, _| Step::Idle).unwrap();
        assert_eq!(scheduler.run(1000), RunEnd::Stalled(2));
    }

    #[test]
    fn a_run_stops_at_its_limit_and_goes_on_from_there() {
        let machine = machine(1, None);
        let mut scheduler = Scheduler::new(&machine, 9);
        let mut left = 10;
        let step = move |_: &Cpu, _: &mut Rng| {
            left -= 1;
            if left == 0 { Step::Done } else { Step::Progress }
        };
        scheduler.spawn(id(0), step).unwrap();
        assert_eq!(scheduler.run(4), RunEnd::StepLimit);
        assert_eq!(scheduler.run(100), RunEnd::AllDone);
        assert_eq!(scheduler.steps(), 10);
    }

    #[test]
    fn a_cpu_of_the_scheduler_is_taken() {
        let machine = machine(2, None);
        let mut scheduler = Scheduler::new(&machine, 9);
        scheduler.spawn(id(1), |_, _| Step::Done).unwrap();
        scheduler.spawn(id(1), |_, _| Step::Done).unwrap();
        assert!(machine.cpu(id(1)).is_none());
        assert_eq!(scheduler.spawn(id(2), |_, _| Step::Done), Err(CpuUnavailable(id(2))));
        drop(scheduler);
        assert!(machine.cpu(id(1)).is_some());
    }
}
