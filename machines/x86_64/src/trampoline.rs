//! The code that a starting CPU runs from real mode to Rust, in one page below 1 MiB.
//!
//! Position independent: it finds its page from cs and everything else in the mailbox at the end of the page. Uses the boot
//! page tables, which map that page at its own address. Intel SDM volume 3, 9.4.

use core::arch::global_asm;
use core::ptr::NonNull;

use units::PhysAddr;

/// Bytes of the page before the mailbox.
const MAILBOX: usize = 0xf00;
const PROTECTED_MODE: u64 = 0x40;
const LONG_MODE: u64 = 0xc0;
const CODE_64: u64 = 0x08;
const CODE_32: u64 = 0x18;

global_asm!(
    ".pushsection .rodata.trampoline, \"a\", @progbits",
    ".balign 16",
    ".globl trampoline_start",
    ".globl trampoline_end",
    "trampoline_start:",
    ".code16",
    "cli",
    "cld",
    "xorl %ebx, %ebx",
    "movw %cs, %bx",
    "movw %bx, %ds",
    "shll $4, %ebx",
    "lgdtl 0xf20",
    "movl %cr0, %eax",
    "orb $1, %al",
    "movl %eax, %cr0",
    "ljmpl *0xf28",
    ".org trampoline_start + 0x40",
    ".code32",
    "movw $0x10, %ax",
    "movw %ax, %ds",
    "movw %ax, %ss",
    // CR4: PAE, OSFXSR, OSXMMEXCPT.
    "movl %cr4, %eax",
    "orl $0x620, %eax",
    "movl %eax, %cr4",
    "movl 0xf38(%ebx), %eax",
    "movl %eax, %cr3",
    // EFER: SCE, LME, NXE.
    "movl $0xc0000080, %ecx",
    "rdmsr",
    "orl $0x901, %eax",
    "wrmsr",
    // CR0: PG, WP, NE, MP, PE.
    "movl $0x80010023, %eax",
    "movl %eax, %cr0",
    "ljmpl *0xf30(%ebx)",
    ".org trampoline_start + 0xc0",
    ".code64",
    "movl %ebx, %ebx",
    "movq 0xf40(%rbx), %rsp",
    "movq 0xf48(%rbx), %rdi",
    "movq 0xf50(%rbx), %rax",
    "xorl %ebp, %ebp",
    "callq *%rax",
    "ud2",
    "trampoline_end:",
    ".popsection",
    options(att_syntax),
);

unsafe extern "C" {
    static trampoline_start: u8;
    static trampoline_end: u8;
}

/// What a starting CPU needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartUp {
    /// Page tables that map the page at its own address, below 4 GiB.
    pub(crate) page_table: PhysAddr,
    /// Top of the CPU's stack.
    pub(crate) stack_top: u64,
    /// First argument of `entry`.
    pub(crate) argument: u64,
    /// Address of an `extern "C"` function that does not return.
    pub(crate) entry: u64,
}

impl StartUp {
    /// Returns the mailbox of a page at `page`: four descriptors, the operands of `lgdt` and the two far jumps, and the rest.
    fn mailbox(&self, page: PhysAddr) -> [u64; 11] {
        let page = page.raw();
        let limit = 4 * 8 - 1;
        [
            0,
            0x00af_9a00_0000_ffff,
            0x00cf_9200_0000_ffff,
            0x00cf_9a00_0000_ffff,
            limit | (page + MAILBOX as u64) << 16,
            (page + PROTECTED_MODE) | CODE_32 << 32,
            (page + LONG_MODE) | CODE_64 << 32,
            self.page_table.raw(),
            self.stack_top,
            self.argument,
            self.entry,
        ]
    }
}

/// Writes the code and the mailbox into the page at physical address `phys`, which `page` points to.
///
/// # Safety
/// `page` is valid for writes of 4,096 bytes, aligned, and nobody else uses it.
pub(crate) unsafe fn install(page: NonNull<u8>, phys: PhysAddr, start_up: &StartUp) {
    let start = &raw const trampoline_start;
    let bytes = (&raw const trampoline_end).addr() - start.addr();
    debug_assert!(bytes <= MAILBOX, "the code reaches into the mailbox");
    // SAFETY: source and length are the assembled code; the page has room for it and is the caller's.
    unsafe { page.as_ptr().copy_from_nonoverlapping(start, bytes) };
    // SAFETY: inside the page, aligned to 8.
    let mailbox = unsafe { page.add(MAILBOX) }.cast();
    // SAFETY: 88 bytes at 0xf00 are inside the page.
    unsafe { mailbox.write(start_up.mailbox(phys)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_pointers_and_the_descriptor_table_lie_in_the_page() {
        let start_up = StartUp { page_table: PhysAddr::new(0x1000), stack_top: 2, argument: 3, entry: 4 };
        let mailbox = start_up.mailbox(PhysAddr::new(0x8000));
        assert_eq!(mailbox[4], 0x8f00_001f);
        assert_eq!(mailbox[5], 0x18_0000_8040);
        assert_eq!(mailbox[6], 0x08_0000_80c0);
        assert_eq!(mailbox[7..], [0x1000, 2, 3, 4]);
    }

    #[test]
    fn the_code_fits_below_the_mailbox() {
        let bytes = (&raw const trampoline_end).addr() - (&raw const trampoline_start).addr();
        assert!(bytes > LONG_MODE as usize && bytes < MAILBOX, "{bytes}");
    }
}
