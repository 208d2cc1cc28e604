//! The files of /proc/sys/vm: what can be set while the machine runs, with Linux's checks.
//!
//! Linux 6.12: kernel/sysctl.c (`vm_table`, `do_proc_dointvec`, `proc_doulongvec_minmax`), mm/page_alloc.c (`page_alloc_sysctl_table`), mm/util.c.

use core::fmt::{self, Write};

use address_space::{CommitSize, MmError, OvercommitMode, Rights};
use page_allocator::{Hooks, Tunables};
use platform::Platform;
use sync::Cpu;
use units::VirtAddr;

use crate::kernel::Kernel;
use crate::mm::MemoryManager;

/// A file of /proc/sys/vm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names are those of the files")]
pub enum VmFile {
    AdminReserveKbytes,
    LowmemReserveRatio,
    MaxMapCount,
    MinFreeKbytes,
    MmapMinAddr,
    OvercommitKbytes,
    OvercommitMemory,
    OvercommitRatio,
    PercpuPagelistHighFraction,
    UserReserveKbytes,
    WatermarkBoostFactor,
    WatermarkScaleFactor,
}

impl VmFile {
    /// All of them with their names, in the order of the names.
    pub const ALL: [(&'static str, Self); 12] = [
        ("admin_reserve_kbytes", Self::AdminReserveKbytes),
        ("lowmem_reserve_ratio", Self::LowmemReserveRatio),
        ("max_map_count", Self::MaxMapCount),
        ("min_free_kbytes", Self::MinFreeKbytes),
        ("mmap_min_addr", Self::MmapMinAddr),
        ("overcommit_kbytes", Self::OvercommitKbytes),
        ("overcommit_memory", Self::OvercommitMemory),
        ("overcommit_ratio", Self::OvercommitRatio),
        ("percpu_pagelist_high_fraction", Self::PercpuPagelistHighFraction),
        ("user_reserve_kbytes", Self::UserReserveKbytes),
        ("watermark_boost_factor", Self::WatermarkBoostFactor),
        ("watermark_scale_factor", Self::WatermarkScaleFactor),
    ];

    /// Returns the values that the file takes: those of an int from `.0` to `.1`, or of an unsigned long for `None`.
    const fn range(self) -> Option<(i32, i32)> {
        match self {
            Self::AdminReserveKbytes | Self::MmapMinAddr | Self::OvercommitKbytes | Self::UserReserveKbytes => None,
            Self::OvercommitMemory => Some((0, 2)),
            Self::OvercommitRatio => Some((i32::MIN, i32::MAX)),
            Self::WatermarkScaleFactor => Some((1, 3000)),
            _ => Some((0, i32::MAX)),
        }
    }
}

/// Characters of which a number has fewer (TMPBUFLEN).
const LONGEST: usize = 21;
/// Smallest vm.percpu_pagelist_high_fraction that is not 0 (MIN_PERCPU_PAGELIST_HIGH_FRACTION).
const LEAST_FRACTION: u64 = 8;

/// The settings of a machine, as its files have them.
#[derive(Clone, Copy)]
pub struct VmSettings<'a, 'k, P: Platform, H: Hooks + Sync> {
    /// The machine.
    pub kernel: &'a Kernel<P, H>,
    /// Its address spaces.
    pub manager: &'a MemoryManager<'k, P, H>,
    /// The CPU that this runs on.
    pub cpu: &'a Cpu,
}

impl<P: Platform, H: Hooks + Sync> fmt::Debug for VmSettings<'_, '_, P, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VmSettings").finish_non_exhaustive()
    }
}

impl<P: Platform, H: Hooks + Sync> VmSettings<'_, '_, P, H> {
    /// Writes the text of a file.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, file: VmFile, out: &mut dyn Write) -> fmt::Result {
        let tunables = self.kernel.tunables(self.cpu);
        let overcommit = self.manager.spaces().overcommit();
        let value = match file {
            VmFile::AdminReserveKbytes => overcommit.kib(CommitSize::AdminReserve),
            VmFile::UserReserveKbytes => overcommit.kib(CommitSize::UserReserve),
            VmFile::OvercommitKbytes => overcommit.kib(CommitSize::Fixed),
            VmFile::OvercommitMemory => overcommit.mode() as u64,
            // It is an int.
            VmFile::OvercommitRatio => return writeln!(out, "{}", overcommit.rules().ratio as i32),
            VmFile::MaxMapCount => self.manager.spaces().max_map_count() as u64,
            VmFile::MmapMinAddr => self.manager.spaces().privileged_below().raw(),
            VmFile::MinFreeKbytes => self.kernel.min_free_kbytes(self.cpu),
            VmFile::PercpuPagelistHighFraction => tunables.percpu_pagelist_high_fraction,
            VmFile::WatermarkBoostFactor => tunables.watermark_boost_factor,
            VmFile::WatermarkScaleFactor => tunables.watermark_scale_factor,
            VmFile::LowmemReserveRatio => return self.write_ratios(&tunables, out),
        };
        writeln!(out, "{value}")
    }

    fn write_ratios(&self, tunables: &Tunables, out: &mut dyn Write) -> fmt::Result {
        for (index, kind) in self.kernel.configured().iter().enumerate() {
            let tab = if index == 0 { "" } else { "\t" };
            write!(out, "{tab}{}", tunables.lowmem_reserve_ratio.get(kind.index()).copied().unwrap_or(0))?;
        }
        writeln!(out)
    }

    /// Takes what was written to a file by somebody with `rights`; returns how many bytes of it were taken.
    ///
    /// # Errors
    /// [`MmError::Invalid`] for what is no number or out of range, [`MmError::NotPermitted`]; then all is as before.
    pub fn set(&self, file: VmFile, text: &[u8], rights: Rights) -> Result<usize, MmError> {
        let mut numbers = Numbers { rest: text, range: file.range() };
        if file == VmFile::MmapMinAddr && !rights.contains(Rights::SYS_RAWIO) {
            return Err(MmError::NotPermitted);
        }
        if file == VmFile::LowmemReserveRatio {
            self.set_ratios(&mut numbers);
            return Ok(text.len());
        }
        let value = numbers.next()?;
        self.apply(file, value)?;
        numbers.skip_spaces();
        Ok(text.len() - numbers.rest.len())
    }

    /// Sets as many as there are; the first that is none ends it and is no error, as in Linux.
    fn set_ratios(&self, numbers: &mut Numbers<'_>) {
        let mut tunables = self.kernel.tunables(self.cpu);
        for kind in self.kernel.configured().iter() {
            let (Ok(value), Some(ratio)) = (numbers.next(), tunables.lowmem_reserve_ratio.get_mut(kind.index())) else {
                break;
            };
            *ratio = value;
        }
        self.kernel.set_tunables(self.cpu, &tunables);
    }

    /// Sets a value that is in its range.
    fn apply(&self, file: VmFile, value: u64) -> Result<(), MmError> {
        let spaces = self.manager.spaces();
        let mut tunables = self.kernel.tunables(self.cpu);
        match file {
            VmFile::AdminReserveKbytes => spaces.overcommit().set_kib(CommitSize::AdminReserve, value),
            VmFile::UserReserveKbytes => spaces.overcommit().set_kib(CommitSize::UserReserve, value),
            VmFile::OvercommitKbytes => spaces.overcommit().set_kib(CommitSize::Fixed, value),
            VmFile::OvercommitMemory => spaces.overcommit().set_mode(match value {
                0 => OvercommitMode::Guess,
                1 => OvercommitMode::Always,
                _ => OvercommitMode::Never,
            }),
            VmFile::OvercommitRatio => spaces.overcommit().set_ratio(value as i32),
            VmFile::MaxMapCount => spaces.set_max_map_count(value as usize),
            VmFile::MmapMinAddr => spaces.set_privileged_below(VirtAddr::new(value)),
            VmFile::PercpuPagelistHighFraction if (1..LEAST_FRACTION).contains(&value) => return Err(MmError::Invalid),
            VmFile::PercpuPagelistHighFraction => tunables.percpu_pagelist_high_fraction = value,
            VmFile::MinFreeKbytes => tunables.min_free_kbytes = Some(value),
            VmFile::WatermarkBoostFactor => tunables.watermark_boost_factor = value,
            VmFile::WatermarkScaleFactor => tunables.watermark_scale_factor = value,
            VmFile::LowmemReserveRatio => {}
        }
        if tunables != self.kernel.tunables(self.cpu) {
            self.kernel.set_tunables(self.cpu, &tunables);
        }
        Ok(())
    }
}

/// Numbers of a text, with white space between them.
struct Numbers<'t> {
    rest: &'t [u8],
    range: Option<(i32, i32)>,
}

impl Numbers<'_> {
    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    /// Takes the next number, in the range: the bits of an int, extended, or an unsigned long.
    fn next(&mut self) -> Result<u64, MmError> {
        self.skip_spaces();
        let (is_negative, digits) = match self.rest {
            [b'-', rest @ ..] if !rest.is_empty() => (true, rest),
            rest => (false, rest),
        };
        let (value, length) = unsigned(digits).ok_or(MmError::Invalid)?;
        let length = length + usize::from(is_negative);
        let (number, behind) = self.rest.split_at_checked(length).ok_or(MmError::Invalid)?;
        let ends = behind.first().is_none_or(|byte| matches!(byte, b' ' | b'\t' | b'\n'));
        if number.len() >= LONGEST || !ends {
            return Err(MmError::Invalid);
        }
        self.rest = behind;
        let Some((least, most)) = self.range else {
            return if is_negative { Err(MmError::Invalid) } else { Ok(value) };
        };
        let value = i64::try_from(value).map_err(|_| MmError::Invalid)?;
        let value = if is_negative { -value } else { value };
        let is_inside = (i64::from(least)..=i64::from(most)).contains(&value);
        if is_inside { Ok(value as u64) } else { Err(MmError::Invalid) }
    }
}

/// Reads a number at the start of a text, in the base that its prefix says; returns it with its length.
fn unsigned(text: &[u8]) -> Option<(u64, usize)> {
    let is_hex = |digit: Option<&u8>| digit.is_some_and(u8::is_ascii_hexdigit);
    let (base, prefix) = match text {
        [b'0', b'x' | b'X', rest @ ..] if is_hex(rest.first()) => (16, 2),
        [b'0', ..] => (8, 0),
        [b'1'..=b'9', ..] => (10, 0),
        _ => return None,
    };
    let digits = text.get(prefix..)?.iter().map_while(|&digit| char::from(digit).to_digit(base));
    let (mut value, mut length) = (0_u64, prefix);
    for digit in digits {
        value = value.checked_mul(base.into())?.checked_add(digit.into())?;
        length += 1;
    }
    Some((value, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(text: &[u8], range: Option<(i32, i32)>) -> Result<(u64, usize), MmError> {
        let mut numbers = Numbers { rest: text, range };
        numbers.next().map(|value| (value, numbers.rest.len()))
    }

    #[test]
    fn numbers_have_bases_signs_and_ends() {
        assert_eq!(first(b"  12\n", None), Ok((12, 1)));
        assert_eq!(
            (first(b"0x1F", None), first(b"017 5", None), first(b"0", None)),
            (Ok((31, 0)), Ok((15, 2)), Ok((0, 0)))
        );
        for bad in [&b""[..], b" \n", b"x", b"12k", b"08", b"-", b"-1", b"1\x00", b"18446744073709551616", b"0x"] {
            assert_eq!(first(bad, None), Err(MmError::Invalid), "{bad:?}");
        }
        assert_eq!(first(b"18446744073709551615", None), Ok((u64::MAX, 0)));
        assert_eq!(first(b"000000000000000000001", None), Err(MmError::Invalid), "too long");
    }

    #[test]
    fn ints_keep_to_their_range() {
        assert_eq!(first(b"2", VmFile::OvercommitMemory.range()), Ok((2, 0)));
        for bad in [&b"3"[..], b"-1", b"4294967296"] {
            assert_eq!(first(bad, VmFile::OvercommitMemory.range()), Err(MmError::Invalid));
        }
        assert_eq!(first(b"-5", VmFile::OvercommitRatio.range()).map(|(value, _)| value as i32), Ok(-5));
        assert_eq!(first(b"0", VmFile::WatermarkScaleFactor.range()), Err(MmError::Invalid));
    }

    #[test]
    fn files_are_in_the_order_of_their_names() {
        assert!(VmFile::ALL.is_sorted_by_key(|(name, _)| *name));
    }
}
