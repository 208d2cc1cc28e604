//! Sections in which a CPU looks at what others may take away and free.
//!
//! Protocol, asymmetric as in [`OwnerCell`](crate::OwnerCell): a reader stores that it is inside and looks; whoever takes something away unlinks it first,
//! makes every other CPU execute a barrier, and waits for each CPU that is inside. A section that began before the barrier is seen; one that began
//! after it cannot find what was unlinked. Readers never wait. Linux: `local_irq_save` around lockless walks of page tables, and `rcu_read_lock`.

use crate::Cpu;
use crate::atomic::{AtomicU64, Ordering, light_fence, relax};

/// Depth of nested sections, in the low half of the state; the high half counts outermost sections that ended.
const DEPTH: u64 = u32::MAX as u64;
const ENDED: u64 = 1 << 32;

/// Whether one CPU is in a section.
///
/// # Invariants
/// `state` is written by the CPU that `tag` names only.
#[derive(Debug)]
pub struct ReaderCell {
    tag: u64,
    state: AtomicU64,
}

impl ReaderCell {
    /// Makes the cell of the CPU that [`Cpu::tag_of`] names `tag`.
    pub fn new(tag: u64) -> Self {
        Self { tag, state: AtomicU64::new(0) }
    }

    /// Begins a section, which may lie within another one; `None` if the cell is another CPU's.
    #[inline(always)]
    pub fn enter<'a>(&'a self, cpu: &'a Cpu) -> Option<ReadSection<'a>> {
        if cpu.tag() != self.tag {
            return None;
        }
        // Relaxed: written by this CPU only, whose store below is made visible to a waiting CPU by its barrier on this one. A handler that arrives in between leaves
        // the depth as it was, so at worst a count of ended sections is lost, and somebody waits for this section too.
        let state = self.state.load(Ordering::Relaxed);
        cpu.interrupt_window();
        // Release: pairs with the Acquire loads in `wait`, of which one may see this store instead of the one that ended the section before.
        self.state.store(state + 1, Ordering::Release);
        light_fence();
        Some(ReadSection { cell: self, cpu })
    }

    /// Returns true if `cpu` owns the cell and is in a section.
    pub fn is_inside(&self, cpu: &Cpu) -> bool {
        // Relaxed: of its own CPU.
        cpu.tag() == self.tag && self.state.load(Ordering::Relaxed) & DEPTH != 0
    }

    /// Waits until the section that the CPU is in, if it is in one, has ended. The caller made that CPU execute a barrier before.
    pub fn wait(&self) {
        // Acquire, here and below: pairs with the Release stores at both ends of a section, so what sections before read they have read.
        let state = self.state.load(Ordering::Acquire);
        if state & DEPTH == 0 {
            return;
        }
        loop {
            relax();
            let later = self.state.load(Ordering::Acquire);
            if later & DEPTH == 0 || later / ENDED != state / ENDED {
                return;
            }
        }
    }
}

/// A CPU is inside. Nothing that it finds is freed before this is dropped. It must not wait for anything meanwhile.
#[derive(Debug)]
pub struct ReadSection<'a> {
    cell: &'a ReaderCell,
    /// Keeps the section on its CPU: the token is not `Sync`.
    cpu: &'a Cpu,
}

impl Drop for ReadSection<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // Relaxed: of this CPU.
        let state = self.cell.state.load(Ordering::Relaxed) - 1;
        let ended = if state & DEPTH == 0 { state.wrapping_add(ENDED) } else { state };
        self.cpu.interrupt_window();
        // Release: pairs with the Acquire loads in `wait`.
        self.cell.state.store(ended, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;

    use units::CpuId;

    use super::*;
    use crate::IrqControl;

    #[test]
    fn sections_nest_and_the_outermost_ends_them() {
        // SAFETY: the only token of this machine.
        let cpu = unsafe { Cpu::new(90, CpuId::ZERO, IrqControl::NONE) };
        let cell = ReaderCell::new(cpu.tag());
        let outer = cell.enter(&cpu).unwrap();
        drop(cell.enter(&cpu).unwrap());
        assert!(cell.is_inside(&cpu));
        drop(outer);
        assert!(!cell.is_inside(&cpu));
        cell.wait();
    }

    /// What a handler enters that arrives in the middle of a section's ends.
    static INTERRUPTED: std::sync::OnceLock<ReaderCell> = std::sync::OnceLock::new();

    #[test]
    fn handlers_in_between_leave_the_section_as_it_was() {
        fn handler(cpu: &Cpu) {
            std::thread_local!(static BUSY: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
            if !BUSY.replace(true) {
                let section = INTERRUPTED.get().unwrap().enter(cpu).unwrap();
                assert!(INTERRUPTED.get().unwrap().is_inside(cpu));
                drop(section);
                BUSY.set(false);
            }
        }
        // SAFETY: the only token of this machine.
        let cpu = unsafe { Cpu::new(92, CpuId::ZERO, IrqControl { window: handler, ..IrqControl::NONE }) };
        let cell = INTERRUPTED.get_or_init(|| ReaderCell::new(cpu.tag()));
        let outer = cell.enter(&cpu).unwrap();
        let inner = cell.enter(&cpu).unwrap();
        assert!(cell.is_inside(&cpu));
        drop(inner);
        assert!(cell.is_inside(&cpu), "the handler's end ended the inner section only");
        drop(outer);
        assert!(!cell.is_inside(&cpu));
        cell.wait();
    }

    #[test]
    fn a_cell_serves_its_own_cpu_only() {
        // SAFETY: the only token of this machine.
        let cpu = unsafe { Cpu::new(91, CpuId::ZERO, IrqControl::NONE) };
        let other = ReaderCell::new(cpu.tag() + 1);
        assert!(other.enter(&cpu).is_none());
        assert!(!other.is_inside(&cpu));
    }
}
