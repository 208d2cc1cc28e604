//! The programs of a machine: the world, the memory manager and the machine together, and the start of init.

use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

use sync::{Cpu, SpinGuard, SpinLock, rank};
use units::CpuId;

use crate::machine::Machine;
use crate::memory::Memory;
use crate::world::World;

/// CPUs that there is a flag for, one a bit of a word.
const MAX_CPUS: usize = 64;

/// The programs of a machine.
pub struct Userland<M: Memory, D: Machine> {
    world: SpinLock<{ rank::USERLAND }, World<M>>,
    machine: D,
    pub(crate) memory: M,
    /// CPUs whose thread has to look at its signals before it runs its program.
    attention: [AtomicBool; MAX_CPUS],
    traces: AtomicBool,
}

impl<M: Memory, D: Machine> core::fmt::Debug for Userland<M, D> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Userland").finish_non_exhaustive()
    }
}

impl<M: Memory, D: Machine> Userland<M, D> {
    /// Puts a machine without programs together.
    pub const fn new(memory: M, machine: D) -> Self {
        Self {
            world: SpinLock::new(World::new()),
            machine,
            memory,
            attention: [const { AtomicBool::new(false) }; MAX_CPUS],
            traces: AtomicBool::new(false),
        }
    }

    /// Returns the memory manager.
    pub const fn memory(&self) -> &M {
        &self.memory
    }

    /// Returns the machine.
    pub const fn machine(&self) -> &D {
        &self.machine
    }

    /// Writes every system call and signal to the console from now on.
    pub fn trace(&self) {
        // Relaxed: only decides what is printed.
        self.traces.store(true, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn traces(&self) -> bool {
        // Relaxed: see `trace`.
        self.traces.load(Ordering::Relaxed)
    }

    /// Makes the thread on a CPU look at its signals before its next instruction.
    pub(crate) fn ask_attention(&self, cpu: CpuId) {
        if let Some(flag) = self.attention.get(cpu.index()) {
            // Release: pairs with the Acquire in `takes_attention`; what the thread is to see was written before.
            flag.store(true, Ordering::Release);
        }
    }

    /// Takes the request for attention of this CPU.
    #[inline]
    pub(crate) fn takes_attention(&self, cpu: CpuId) -> bool {
        let Some(flag) = self.attention.get(cpu.index()) else { return true };
        // Acquire: pairs with the Release in `ask_attention`. The swap comes only after a load that found it set.
        flag.load(Ordering::Relaxed) && flag.swap(false, Ordering::Acquire)
    }

    /// Locks the world, and when it is opened interrupts the CPUs that have to look at something.
    #[inline]
    pub(crate) fn world<'a>(&'a self, cpu: &'a Cpu) -> WorldGuard<'a, M, D> {
        WorldGuard { guard: self.world.lock(cpu), userland: self, cpu }
    }
}

/// Access to the world.
pub(crate) struct WorldGuard<'a, M: Memory, D: Machine> {
    guard: SpinGuard<'a, { rank::USERLAND }, World<M>>,
    userland: &'a Userland<M, D>,
    cpu: &'a Cpu,
}

impl<M: Memory, D: Machine> Deref for WorldGuard<'_, M, D> {
    type Target = World<M>;

    #[inline]
    fn deref(&self) -> &World<M> {
        &self.guard
    }
}

impl<M: Memory, D: Machine> DerefMut for WorldGuard<'_, M, D> {
    #[inline]
    fn deref_mut(&mut self) -> &mut World<M> {
        &mut self.guard
    }
}

impl<M: Memory, D: Machine> Drop for WorldGuard<'_, M, D> {
    #[inline]
    fn drop(&mut self) {
        if self.guard.to_kick != 0 {
            self.kick();
        }
        while let Some(slot) = self.guard.files.take_released_page() {
            if let Some(page) = self.guard.pages.remove(crate::slots::Key::new(slot.0)) {
                self.userland.memory.put_page(self.cpu, page);
            }
        }
        while let Some(file) = self.guard.files.take_released() {
            self.userland.memory.file_put(self.cpu, file);
        }
    }
}

impl<M: Memory, D: Machine> WorldGuard<'_, M, D> {
    #[cold]
    fn kick(&mut self) {
        let mut left = core::mem::take(&mut self.guard.to_kick);
        self.guard.idle &= !left;
        while left != 0 {
            let index = u64::from(left.trailing_zeros());
            left &= left - 1;
            let Some(cpu) = CpuId::try_new(index) else { continue };
            self.userland.ask_attention(cpu);
            if cpu != self.cpu.id() {
                self.userland.machine().kick(cpu);
            }
        }
    }
}
