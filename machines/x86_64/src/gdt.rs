//! Segments and the task-state segment of one CPU: flat 64-bit code and data, and the interrupt stacks.
//!
//! Owned by the CPU's `CpuArea`. Intel SDM volume 3, 3.4.5 and 8.7.

use core::arch::asm;
use core::mem::size_of;

/// Selector of the kernel's code segment.
pub(crate) const KERNEL_CODE: u16 = 0x08;
/// Selector of the kernel's data segment.
const KERNEL_DATA: u16 = 0x10;
/// Selector of the task-state segment; its descriptor takes two slots.
const TASK_STATE: u16 = 0x18;

/// Selector of a program's data and stack, as Linux numbers it.
pub(crate) const USER_DATA: u16 = 0x2b;
/// Selector of a program's code, as Linux numbers it.
pub(crate) const USER_CODE: u16 = 0x33;
/// Bases of the selectors that `syscall` and `sysret` load, for the register that holds them (MSR_STAR): code and data of the kernel from
/// bit 32, of programs from bit 48, where `sysret` adds 16 and 8.
pub(crate) const SYSTEM_CALL_SELECTORS: u64 = (KERNEL_CODE as u64) << 32 | (USER_CODE as u64 - 16) << 48;

/// The kinds of interrupt stacks. Each kind interrupts the ones before it, never itself, so one stack each is enough.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum InterruptStack {
    /// Maskable interrupts; handlers run with interrupts off.
    Interrupt = 1,
    /// NMIs, which are blocked until the handler's `iretq`.
    Nmi = 2,
    /// Exceptions, of which the kernel's own end the machine.
    Exception = 3,
    /// Double faults, for instance of an exception on a broken exception stack.
    DoubleFault = 4,
}

/// Number of interrupt stacks of a CPU.
pub(crate) const INTERRUPT_STACKS: usize = 4;

/// Task-state segment; split into halves because the format is not aligned to its quadwords.
#[repr(C)]
pub(crate) struct TaskState {
    halves: [u32; 26],
}

/// Descriptor table of one CPU.
#[repr(C)]
pub(crate) struct Gdt {
    descriptors: [u64; 7],
}

impl TaskState {
    pub(crate) const fn new() -> Self {
        Self { halves: [0; 26] }
    }

    /// Sets the tops of the interrupt stacks, in the order of [`InterruptStack`], and an empty I/O permission map.
    pub(crate) fn set_stacks(&mut self, tops: [u64; INTERRUPT_STACKS]) {
        // IST1 starts at byte 36, the I/O map base is the upper word at byte 100.
        for (index, top) in tops.into_iter().enumerate() {
            self.halves[9 + 2 * index] = top as u32;
            self.halves[10 + 2 * index] = (top >> 32) as u32;
        }
        self.halves[25] = (size_of::<Self>() as u32) << 16;
    }
}

impl Gdt {
    pub(crate) const fn new() -> Self {
        Self {
            descriptors: [
                0,
                0x00af_9a00_0000_ffff,
                0x00cf_9200_0000_ffff,
                0,
                0,
                0x00cf_f200_0000_ffff,
                0x00af_fa00_0000_ffff,
            ],
        }
    }

    /// Describes the task-state segment at `address`.
    pub(crate) fn set_task_state(&mut self, address: u64) {
        let limit = size_of::<TaskState>() as u64 - 1;
        let available_tss = 0x89 << 40;
        self.descriptors[3] = limit | (address & 0xff_ffff) << 16 | available_tss | (address >> 24 & 0xff) << 56;
        self.descriptors[4] = address >> 32;
    }

    /// Makes this CPU use the table and its task-state segment.
    ///
    /// # Safety
    /// The table and the task-state segment it names stay where they are, unchanged, as long as the CPU runs; the segment's
    /// stacks are valid and used by this CPU only.
    pub(crate) unsafe fn load(&self) {
        let pointer = TablePointer { limit: size_of::<Self>() as u16 - 1, base: (&raw const *self).addr() as u64 };
        // SAFETY: the table holds valid flat descriptors; the far return reloads cs with the same kind of segment, the data
        // segments are flat or null, and gs is left alone because its base is in use.
        unsafe {
            asm!(
                "lgdt [{pointer}]",
                "push {code}",
                "lea {scratch}, [rip + 2f]",
                "push {scratch}",
                "retfq",
                "2:",
                "mov ss, {data:e}",
                "mov ds, {data:e}",
                "mov es, {data:e}",
                "ltr {task:x}",
                pointer = in(reg) &raw const pointer,
                code = in(reg) u64::from(KERNEL_CODE),
                data = in(reg) u32::from(KERNEL_DATA),
                task = in(reg) TASK_STATE,
                scratch = out(reg) _,
            );
        }
    }
}

/// Operand of `lgdt` and `lidt`.
#[repr(C, packed)]
pub(crate) struct TablePointer {
    pub(crate) limit: u16,
    pub(crate) base: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_state_descriptor_spreads_the_address_over_its_fields() {
        let mut gdt = Gdt::new();
        gdt.set_task_state(0xffff_ffff_8123_4568);
        assert_eq!(gdt.descriptors[3], 0x8100_8923_4568_0067);
        assert_eq!(gdt.descriptors[4], 0xffff_ffff);
    }

    #[test]
    fn selectors_of_programs_have_their_privilege_level() {
        let gdt = Gdt::new();
        for (selector, is_code) in [(USER_DATA, false), (USER_CODE, true)] {
            let descriptor = gdt.descriptors[usize::from(selector >> 3)];
            assert_eq!((selector & 3, descriptor >> 45 & 3, descriptor >> 43 & 1 != 0), (3, 3, is_code));
        }
        assert_eq!(SYSTEM_CALL_SELECTORS >> 48, u64::from(USER_DATA - 8));
        assert_eq!(SYSTEM_CALL_SELECTORS >> 32 & 0xffff, u64::from(KERNEL_DATA - 8));
    }

    #[test]
    fn interrupt_stacks_land_at_their_offsets() {
        let mut state = TaskState::new();
        state.set_stacks([0x1_0000_0001, 2, 3, 4]);
        assert_eq!(size_of::<TaskState>(), 104);
        assert_eq!((state.halves[9], state.halves[10], state.halves[15]), (1, 1, 4));
    }
}
