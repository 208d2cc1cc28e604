//! Areas that execve itself makes: the recording has them as lines of maps only.
//!
//! Flags follow from permissions and names as Linux's loader and architecture set them. Linux 6.12: fs/exec.c (`setup_arg_pages`),
//! fs/binfmt_elf.c, arch/x86/entry/vdso/vma.c (`map_vdso`).

use proc_files::maps::{MapsLine, Permissions};
use recordings::processes::Counts;
use units::{VirtAddr, VmFlags};

use address_space::ProgramRanges;

/// Name of the page that is no area: it shows in maps but belongs to the kernel.
pub(super) const VSYSCALL: &str = "[vsyscall]";
/// Name of the main stack.
const STACK: &str = "[stack]";
/// Prefix of areas with data that the kernel changes (`[vvar]`, `[vvar_vclock]`).
const VVAR: &str = "[vvar";
/// Name of the area with code that the kernel provides.
const VDSO: &str = "[vdso]";

/// What stands behind an area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Behind {
    /// Nothing: anonymous memory.
    Nothing,
    /// A file.
    File,
    /// Pages of the kernel, which count as a file's (the vDSO).
    KernelPages,
    /// Frames that are not counted (the vDSO's data).
    KernelFrames,
}

/// Returns the flags of an area as execve made it, and what stands behind it.
pub(super) fn area(line: &MapsLine<String>) -> (VmFlags, Behind) {
    let mut flags = VmFlags::empty();
    flags.set(VmFlags::READ, line.permissions.contains(Permissions::READ));
    flags.set(VmFlags::WRITE, line.permissions.contains(Permissions::WRITE));
    flags.set(VmFlags::EXEC, line.permissions.contains(Permissions::EXEC));
    let name = line.name.as_str();
    if name.starts_with(VVAR) {
        let vvar = VmFlags::MAYREAD | VmFlags::IO | VmFlags::DONTDUMP | VmFlags::PFNMAP | VmFlags::DONTEXPAND;
        return (flags | vvar, Behind::KernelFrames);
    }
    flags |= VmFlags::MAYACCESS;
    if name == VDSO {
        return (flags | VmFlags::DONTEXPAND, Behind::KernelPages);
    }
    if line.permissions.contains(Permissions::SHARED) {
        // No loader maps anything shared; a file that is must be writable to be mapped so.
        return (flags | VmFlags::SHARED | VmFlags::MAYSHARE, Behind::File);
    }
    if name == STACK {
        flags |= VmFlags::GROWSDOWN | VmFlags::ACCOUNT;
    }
    flags.set(VmFlags::ACCOUNT, flags.is_accountable());
    let is_anonymous = line.inode == 0 || name.is_empty();
    (flags, if is_anonymous { Behind::Nothing } else { Behind::File })
}

/// Returns the addresses that execve set, or the name of one that is missing. Code, data and arguments are recorded at exits only.
pub(super) fn program(counts: &Counts) -> Result<ProgramRanges, &'static str> {
    let addr = |name: &'static str| counts.get(name).map(VirtAddr::new).ok_or(name);
    let start_brk = addr("start_brk")?;
    // Before the program's first instruction the heap is empty.
    Ok(ProgramRanges { start_stack: addr("startstack")?, start_brk, brk: start_brk, ..ProgramRanges::default() })
}

#[cfg(test)]
mod tests {
    use proc_files::parse::Maps;

    use super::*;

    fn flags(line: &str) -> (String, Behind) {
        let maps = Maps::parse(&format!("{line}\n")).unwrap();
        let (flags, behind) = area(maps.areas().next().unwrap());
        (flags.to_string().trim_end().to_owned(), behind)
    }

    #[test]
    fn flags_follow_from_permissions_and_names() {
        let cases = [
            ("1000-2000 r-xp 00002000 fe:00 7 /bin/a", "rd ex mr mw me", Behind::File),
            ("1000-2000 rw-p 00002000 fe:00 7 /bin/a", "rd wr mr mw me ac", Behind::File),
            ("1000-2000 rw-p 00000000 00:00 0 ", "rd wr mr mw me ac", Behind::Nothing),
            ("1000-2000 rw-p 00000000 00:00 0 [heap]", "rd wr mr mw me ac", Behind::Nothing),
            ("1000-2000 rw-p 00000000 00:00 0 [stack]", "rd wr mr mw me gd ac", Behind::Nothing),
            ("1000-2000 r--p 00000000 00:00 0 [vvar_vclock]", "rd mr pf io de dd", Behind::KernelFrames),
            ("1000-2000 r-xp 00000000 00:00 0 [vdso]", "rd ex mr mw me de", Behind::KernelPages),
        ];
        for (line, expected, behind) in cases {
            assert_eq!(flags(line), (expected.to_owned(), behind), "{line}");
        }
    }
}
