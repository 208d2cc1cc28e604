//! Programs in ELF: what of a file goes where. Pure; foreign bytes give a value or an error.
//!
//! System V ABI, AMD64 supplement; Linux 6.12: fs/binfmt_elf.c.

use alloc::vec::Vec;

use address_space::Prot;

use crate::errno::Errno;
use crate::slots::push;

/// Bytes of the file header.
pub(crate) const HEADER_BYTES: usize = 64;
/// Bytes of a program header.
pub(crate) const PROGRAM_HEADER_BYTES: usize = 56;
/// Most program headers: those of a page.
const MAX_HEADERS: u16 = 73;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_GNU_STACK: u32 = 0x6474_e551;
const PAGE: u64 = 4096;
/// End of a program's addresses.
const ADDRESSES_END: u64 = (1 << 47) - PAGE;

/// The file header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) entry: u64,
    pub(crate) headers_offset: u64,
    pub(crate) nr_headers: u16,
    /// Runs at any address (static-pie).
    pub(crate) is_relocatable: bool,
}

/// A part of the file that is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    /// Address, as the file has it.
    pub(crate) addr: u64,
    pub(crate) offset: u64,
    pub(crate) file_bytes: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) prot: Prot,
}

/// Everything that loading needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Program {
    pub(crate) header: Header,
    /// In the order of addresses.
    pub(crate) segments: Vec<Segment>,
    pub(crate) has_executable_stack: bool,
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Errno> {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().ok_or(Errno::ENOEXEC)
}

fn half(bytes: &[u8], at: usize) -> Result<u16, Errno> {
    field(bytes, at).map(u16::from_le_bytes)
}

fn word(bytes: &[u8], at: usize) -> Result<u32, Errno> {
    field(bytes, at).map(u32::from_le_bytes)
}

fn double(bytes: &[u8], at: usize) -> Result<u64, Errno> {
    field(bytes, at).map(u64::from_le_bytes)
}

/// Reads the file header.
///
/// # Errors
/// ENOEXEC for anything but a 64-bit little-endian x86-64 program.
pub(crate) fn header(bytes: &[u8]) -> Result<Header, Errno> {
    const CLASS_64: u8 = 2;
    const LITTLE_ENDIAN: u8 = 1;
    if field(bytes, 0)? != *b"\x7fELF" || field(bytes, 4)? != [CLASS_64, LITTLE_ENDIAN] {
        return Err(Errno::ENOEXEC);
    }
    let kind = half(bytes, 16)?;
    let nr_headers = half(bytes, 56)?;
    let is_program = matches!(kind, ET_EXEC | ET_DYN) && half(bytes, 18)? == EM_X86_64;
    if !is_program || half(bytes, 54)? as usize != PROGRAM_HEADER_BYTES || !(1..=MAX_HEADERS).contains(&nr_headers) {
        return Err(Errno::ENOEXEC);
    }
    Ok(Header {
        entry: double(bytes, 24)?,
        headers_offset: double(bytes, 32)?,
        nr_headers,
        is_relocatable: kind == ET_DYN,
    })
}

/// Reads the program headers.
///
/// # Errors
/// ENOEXEC for segments that overlap, wrap or lie outside of a program's addresses, and for a program that needs an interpreter; ENOMEM.
pub(crate) fn program(header: Header, headers: &[u8]) -> Result<Program, Errno> {
    let mut program = Program { header, segments: Vec::new(), has_executable_stack: true };
    for bytes in headers.chunks_exact(PROGRAM_HEADER_BYTES).take(header.nr_headers.into()) {
        let flags = word(bytes, 4)?;
        match word(bytes, 0)? {
            PT_LOAD => {
                let segment = segment(bytes, flags)?;
                let follows = program.segments.last().is_none_or(|last| last.end() <= segment.addr);
                if !follows {
                    return Err(Errno::ENOEXEC);
                }
                if segment.memory_bytes > 0 {
                    push(&mut program.segments, segment)?;
                }
            }
            // Programs with a dynamic linker are not for this machine.
            PT_INTERP => return Err(Errno::ENOEXEC),
            PT_GNU_STACK => program.has_executable_stack = flags & 1 != 0,
            _ => {}
        }
    }
    if program.segments.is_empty() { Err(Errno::ENOEXEC) } else { Ok(program) }
}

fn segment(bytes: &[u8], flags: u32) -> Result<Segment, Errno> {
    let mut prot = Prot::empty();
    prot.set(Prot::EXEC, flags & 1 != 0);
    prot.set(Prot::WRITE, flags & 2 != 0);
    prot.set(Prot::READ, flags & 4 != 0);
    let segment = Segment {
        addr: double(bytes, 16)?,
        offset: double(bytes, 8)?,
        file_bytes: double(bytes, 32)?,
        memory_bytes: double(bytes, 40)?,
        prot,
    };
    let end = segment.addr.checked_add(segment.memory_bytes);
    let file_end = segment.offset.checked_add(segment.file_bytes);
    let fits = end.is_some_and(|end| end <= ADDRESSES_END) && file_end.is_some();
    let is_congruent = segment.addr % PAGE == segment.offset % PAGE;
    if fits && is_congruent && segment.file_bytes <= segment.memory_bytes { Ok(segment) } else { Err(Errno::ENOEXEC) }
}

impl Segment {
    /// Returns the first address behind the segment.
    pub(crate) const fn end(&self) -> u64 {
        self.addr + self.memory_bytes
    }

    /// Returns the bytes before the segment in its first page.
    pub(crate) const fn slack(&self) -> u64 {
        self.addr % PAGE
    }
}

impl Program {
    /// Returns first and last address, rounded to pages.
    pub(crate) fn span(&self) -> (u64, u64) {
        let start = self.segments.first().map_or(0, |first| first.addr - first.slack());
        let end = self.segments.last().map_or(0, Segment::end);
        (start, end.next_multiple_of(PAGE))
    }

    /// Returns the address of the program headers, where the first segment has them.
    pub(crate) fn headers_addr(&self) -> u64 {
        let holds = |segment: &&Segment| {
            (segment.offset..segment.offset + segment.file_bytes).contains(&self.header.headers_offset)
        };
        let segment = self.segments.iter().find(holds);
        segment.map_or(0, |segment| segment.addr + (self.header.headers_offset - segment.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(kind: u16) -> Vec<u8> {
        let mut bytes = alloc::vec![0; HEADER_BYTES];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[16..18].copy_from_slice(&kind.to_le_bytes());
        bytes[18..20].copy_from_slice(&EM_X86_64.to_le_bytes());
        bytes[24..32].copy_from_slice(&0x40_1234u64.to_le_bytes());
        bytes[32..40].copy_from_slice(&64u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&56u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&2u16.to_le_bytes());
        bytes
    }

    fn load(flags: u32, offset: u64, addr: u64, file_bytes: u64, memory_bytes: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(PT_LOAD.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        for value in [offset, addr, addr, file_bytes, memory_bytes, PAGE] {
            bytes.extend(value.to_le_bytes());
        }
        bytes
    }

    fn parse(headers: &[Vec<u8>]) -> Result<Program, Errno> {
        program(header(&file(ET_EXEC)).unwrap(), &headers.concat())
    }

    #[test]
    fn a_program_of_two_segments_is_read() {
        let program =
            parse(&[load(5, 0, 0x40_0000, 0x1800, 0x1800), load(6, 0x1800, 0x40_2800, 0x100, 0x3000)]).unwrap();
        assert_eq!(program.header.entry, 0x40_1234);
        assert_eq!(program.segments[1].prot, Prot::READ | Prot::WRITE);
        assert_eq!(program.span(), (0x40_0000, 0x40_6000));
        assert_eq!(program.headers_addr(), 0x40_0040);
        assert!(!program.header.is_relocatable);
    }

    #[test]
    fn segments_that_overlap_wrap_or_shrink_are_refused() {
        let first = || load(5, 0, 0x40_0000, 0x1000, 0x1000);
        for second in [
            load(5, 0, 0x40_0000, 0x1000, 0x1000),
            load(5, 0, !0xfff, 0x1000, 0x2000),
            load(5, 0, 0x40_1000, 0x1000, 0x800),
            load(5, 8, 0x40_1000, 0x1000, 0x1000),
            load(5, !0xfff, 0x40_1000, 0x2000, 0x2000),
            load(5, 0, 1 << 47, 0x1000, 0x1000),
        ] {
            assert_eq!(parse(&[first(), second]), Err(Errno::ENOEXEC));
        }
    }

    #[test]
    fn no_prefix_of_a_file_panics() {
        let mut bytes = file(ET_DYN);
        bytes.extend(load(5, 0, 0, 0x1000, 0x1000));
        for length in 0..bytes.len() {
            let cut = &bytes[..length];
            if let Ok(header) = header(cut) {
                let _ = program(header, cut.get(HEADER_BYTES..).unwrap_or_default());
            }
        }
        assert!(header(&bytes).unwrap().is_relocatable);
    }
}
