//! What areas are called in /proc.
//!
//! Linux 6.12: fs/proc/task_mmu.c (`get_vma_name`), include/linux/mm.h (`vma_is_initial_heap`, `vma_is_initial_stack`).

use core::fmt::{self, Write};

use address_space::{AreaName, FileId, Process, ProgramRanges, Vma};
use object_allocator::mmu::PageKind;
use page_allocator::Hooks;
use platform::Platform;
use proc_files::maps::Device;

use super::ProcMm;

/// A file as lines of maps show it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FileLabel<'a> {
    /// Device of the file system.
    pub device: Device,
    /// Number in it.
    pub inode: u64,
    /// Path as it is to be shown: ` (deleted)` behind that of a file that is in no directory any more, newlines as `\012`.
    pub name: &'a str,
}

/// What an embedder calls areas. Called with the address space locked; `show` may be called once, with whatever locks the name needs.
pub trait AreaNames {
    /// Shows a file. `None`, without a call of `show`, of a file that lies in no file system of the embedder: it is called as the page cache calls it.
    fn with_file(&self, file: FileId, show: &mut dyn FnMut(&FileLabel<'_>) -> fmt::Result) -> Option<fmt::Result>;

    /// Returns what an area without a file was put there for: `[vdso]`, `[vvar]`.
    fn special(&self, vma: &Vma) -> Option<&str>;

    /// Shows a name that the process gave (PR_SET_VMA_ANON_NAME), at most 80 bytes; `None` of a number that is no name of the embedder's: the memory
    /// manager has names of its own ([`MemoryManager::name_areas`](crate::MemoryManager::name_areas)).
    fn with_anon_name(&self, name: AreaName, show: &mut dyn FnMut(&str) -> fmt::Result) -> Option<fmt::Result>;
}

/// No file systems, no special areas, no names given: files are called as the page cache calls them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheNames;

impl AreaNames for CacheNames {
    fn with_file(&self, _: FileId, _: &mut dyn FnMut(&FileLabel<'_>) -> fmt::Result) -> Option<fmt::Result> {
        None
    }

    fn special(&self, _: &Vma) -> Option<&str> {
        None
    }

    fn with_anon_name(&self, _: AreaName, _: &mut dyn FnMut(&str) -> fmt::Result) -> Option<fmt::Result> {
        None
    }
}

/// Device of the mount that files without a directory are on; the first that a kernel makes.
const INTERNAL_MOUNT: Device = Device { major: 0, minor: 1 };
/// Bytes of the longest name of the page cache, if each is a newline, with what stands around it.
const ROOM: usize = 4 * 255 + 16;

/// Text that is put together.
struct Text {
    bytes: [u8; ROOM],
    len: usize,
}

impl Text {
    const fn new() -> Self {
        Self { bytes: [0; ROOM], len: 0 }
    }

    fn as_str(&self) -> &str {
        // Only whole strings were written.
        self.bytes.get(..self.len).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// Writes bytes as a path: newlines in octal, and a question mark for what is no UTF-8.
    fn write_path(&mut self, bytes: &[u8]) -> fmt::Result {
        for chunk in bytes.utf8_chunks() {
            for part in chunk.valid().split_inclusive('\n') {
                match part.strip_suffix('\n') {
                    Some(line) => write!(self, "{line}\\012")?,
                    None => self.write_str(part)?,
                }
            }
            if !chunk.invalid().is_empty() {
                self.write_char('?')?;
            }
        }
        Ok(())
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// Returns true if the area is of the heap as it began.
pub(super) fn is_heap(program: &ProgramRanges, vma: &Vma) -> bool {
    vma.start() < program.brk && vma.end() > program.start_brk
}

/// Returns true if the area is of the first thread's stack.
pub(super) fn is_stack(program: &ProgramRanges, vma: &Vma) -> bool {
    vma.start() <= program.start_stack && vma.end() >= program.start_stack
}

impl<P: Platform, H: Hooks + Sync> ProcMm<'_, '_, P, H> {
    /// Calls `show` with what the area is called.
    pub(super) fn with_label(
        &self,
        program: &ProgramRanges,
        vma: &Vma,
        show: &mut dyn FnMut(&FileLabel<'_>) -> fmt::Result,
    ) -> fmt::Result {
        if let Some(file) = vma.file {
            return self.with_file_label(file, &mut |label| match self.given_name("anon_shmem", vma) {
                Some(text) => show(&FileLabel { name: text.as_str(), ..*label }),
                None => show(label),
            });
        }
        let mut show_name = |name: &str| show(&FileLabel { name, ..FileLabel::default() });
        match self.names.special(vma) {
            Some(name) => show_name(name),
            None if is_heap(program, vma) => show_name("[heap]"),
            None if is_stack(program, vma) => show_name("[stack]"),
            None => show_name(self.given_name("anon", vma).as_ref().map_or("", Text::as_str)),
        }
    }

    fn with_file_label(&self, file: FileId, show: &mut dyn FnMut(&FileLabel<'_>) -> fmt::Result) -> fmt::Result {
        if let Some(shown) = self.names.with_file(file, show) {
            return shown;
        }
        let process = Process::default();
        let files = self.manager.files(self.cpu, &process);
        let mut text = Text::new();
        if let Ok(Some(name)) = files.name(file) {
            text.write_char('/')?;
            text.write_path(name.as_bytes())?;
            text.write_str(" (deleted)")?;
        }
        let is_shmem = files.stat(file).is_ok_and(|stat| stat.kind == PageKind::Shmem);
        let device = if is_shmem { INTERNAL_MOUNT } else { Device::default() };
        show(&FileLabel { device, inode: file.raw(), name: text.as_str() })
    }

    /// Returns the name that the process gave the area, in brackets.
    fn given_name(&self, kind: &str, vma: &Vma) -> Option<Text> {
        let mut text = Text::new();
        let mut show = |name: &str| write!(text, "[{kind}:{name}]");
        let own = self.names.with_anon_name(vma.name?, &mut show);
        let shown = own.or_else(|| self.manager.names.show(self.cpu, vma.name?, &mut show));
        shown.filter(Result::is_ok).map(|_| text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_any_bytes_is_one_line_of_text() {
        let mut text = Text::new();
        text.write_path(b"a\n\xffb\n").unwrap();
        assert_eq!(text.as_str(), "a\\012?b\\012");
    }

    #[test]
    fn the_longest_name_fits() {
        let mut text = Text::new();
        text.write_char('/').unwrap();
        text.write_path(&[b'\n'; 255]).unwrap();
        text.write_str(" (deleted)").unwrap();
        assert_eq!(text.as_str().len(), 4 * 255 + 11);
    }
}
