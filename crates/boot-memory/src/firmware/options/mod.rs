//! The kernel options that change the memory map or the zones, parsed from a command line.
//!
//! `mem=`, `memmap=`, `numa=`, `movable_node`, `kernelcore=`, `movablecore=`, `memblock=debug`, `cma=`, and those of `memory_debug`; all
//! others are kept and can be listed. Values are checked when the line is parsed, so that a typing error stops the boot instead of being skipped.
//! Linux 6.12: kernel/params.c (next_arg), arch/x86/kernel/e820.c (parse_memopt, parse_memmap_one), mm/mm_init.c
//! (cmdline_parse_core), mm/memblock.c (early_memblock), kernel/dma/contiguous.c (early_cma).

mod memmap;
mod memory_debug;
mod token;

use core::fmt;

use units::PhysRange;

use super::memory_map::{MapFull, MemoryMap};
use super::text::{take_number, take_size};
pub use memmap::MapChange;
pub use memory_debug::{FailPageAlloc, MemoryDebug, SlabDebug, TransparentHugepage};
pub use token::{OptionToken, option_tokens};

/// An option whose value cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OptionError<'a> {
    /// The option as written.
    pub text: &'a str,
    /// Its byte offset in the command line.
    pub offset: usize,
    /// What was expected.
    pub expected: &'static str,
}

impl fmt::Display for OptionError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command line, byte {}: `{}`: expected {}", self.offset, self.text, self.expected)
    }
}

impl core::error::Error for OptionError<'_> {}

/// Size of the memory that `kernelcore=` keeps, or `movablecore=` gives up, for movable use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CoreSize {
    /// That many bytes of all nodes together.
    Bytes(u64),
    /// That share of all memory, at most 100.
    Percent(u8),
    /// All mirrored memory (`kernelcore=mirror` only).
    Mirror,
}

/// `numa=`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NumaOption {
    /// Use what the firmware says.
    #[default]
    Firmware,
    /// One node, whatever the firmware says.
    Off,
    /// Do not read ACPI's tables.
    NoAcpi,
    /// Do not read ACPI's memory attributes; affinity is read.
    NoHmat,
}

/// `cma=SIZE[@BASE[-LIMIT]]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CmaOption {
    /// Size of the default contiguous area; 0 turns it off.
    pub size: u64,
    /// Where it may lie: an empty range if the option does not say; a range of `size` bytes if only the base is given.
    pub window: PhysRange,
}

/// Whose map is in use after the options were applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapOrigin {
    /// The firmware's, unchanged.
    Firmware,
    /// Changed by an option; the kernel log shows it as "user-defined physical RAM map".
    User,
}

/// The options of a command line that concern boot memory.
///
/// Where an option is given twice the last one counts, except `memmap=` and `mem=` on x86, which apply one after the other.
///
/// ```
/// use mmkit_boot_memory::firmware::{BootOptions, CoreSize};
///
/// let options = BootOptions::parse("quiet mem=1500M kernelcore=50% memmap=64M$256M").unwrap();
/// assert_eq!(options.mem, Some(1500 << 20));
/// assert_eq!(options.kernelcore, Some(CoreSize::Percent(50)));
/// assert!(options.unknown().map(|token| token.text).eq(["quiet"]));
///
/// let error = BootOptions::parse("quiet mem=lots").unwrap_err();
/// assert_eq!(error.to_string(), "command line, byte 6: `mem=lots`: expected a size above 0, such as 512M");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BootOptions<'a> {
    command_line: &'a str,
    /// `mem=`: use no memory above this address (x86), or no more than this many bytes (arm64).
    pub mem: Option<u64>,
    /// `numa=`.
    pub numa: NumaOption,
    /// `movable_node`: hot-pluggable nodes hold movable memory only.
    pub movable_node: bool,
    /// `kernelcore=`.
    pub kernelcore: Option<CoreSize>,
    /// `movablecore=`.
    pub movablecore: Option<CoreSize>,
    /// `memblock=debug`: log every memblock call.
    pub memblock_debug: bool,
    /// `cma=`.
    pub cma: Option<CmaOption>,
    /// `transparent_hugepage=`.
    pub transparent_hugepage: TransparentHugepage,
    /// `page_poison=` and the like.
    pub debug: MemoryDebug,
    /// `slab_debug=`, which older kernels call `slub_debug=`.
    pub slab_debug: SlabDebug,
    /// `slab_nomerge`: like caches share no slabs.
    pub slab_nomerge: bool,
}

impl<'a> BootOptions<'a> {
    /// Parses a kernel command line; what follows `--` belongs to init and is not read.
    ///
    /// # Errors
    /// The first option of the list above whose value is not of its form.
    pub fn parse(command_line: &'a str) -> Result<Self, OptionError<'a>> {
        let mut options = Self { command_line, ..Self::default() };
        for token in option_tokens(command_line) {
            if let Err(expected) = options.take(token) {
                return Err(OptionError { text: token.text, offset: token.offset, expected });
            }
        }
        Ok(options)
    }

    /// Returns the command line as given.
    pub fn command_line(&self) -> &'a str {
        self.command_line
    }

    /// Iterates over the options that change nothing: those that this type knows nothing about, and `cma=`, which is checked, though no
    /// area is set aside yet.
    pub fn unknown(&self) -> impl Iterator<Item = OptionToken<'a>> + use<'a> {
        let known = |token: &OptionToken<'_>| KNOWN.iter().chain(&memory_debug::NAMES).any(|known| token.is(known));
        option_tokens(self.command_line).filter(move |token| !known(token))
    }

    /// Returns the line of the kernel log that names the options of [`Self::unknown`] which are no machine's own, or `None` if there are none.
    pub fn unknown_note(&self) -> Option<UnknownNote<'a>> {
        let note = UnknownNote(*self);
        note.options().next().is_some().then_some(note)
    }

    /// Iterates over what `mem=` and `memmap=` do to the map, in the order of the command line.
    pub fn map_changes(&self) -> impl Iterator<Item = MapChange> + use<'a> {
        option_tokens(self.command_line).flat_map(memmap::changes).filter_map(Result::ok)
    }

    /// Changes `map` as `mem=` and `memmap=` say, and sanitizes it if one did.
    ///
    /// This is x86's use of `mem=`; arm64 limits memblock instead (`enforce_memory_limit`).
    ///
    /// # Errors
    /// [`MapFull`] if the pieces are too many.
    pub fn apply_to(&self, map: &mut MemoryMap) -> Result<MapOrigin, MapFull> {
        let mut origin = MapOrigin::Firmware;
        for change in self.map_changes() {
            change.apply_to(map)?;
            origin = MapOrigin::User;
        }
        if origin == MapOrigin::User {
            map.sanitize()?;
        }
        Ok(origin)
    }

    fn take(&mut self, token: OptionToken<'a>) -> Result<(), &'static str> {
        if token.is("mem") || token.is("memmap") {
            memmap::changes(token).try_for_each(|change| change.map(drop))?;
            if let (true, Some(value)) = (token.is("mem"), token.value) {
                self.mem = take_size(value).map(|(size, _)| size).or(self.mem);
            }
        } else if token.is("numa") {
            self.numa = parse_numa(token.value)?;
        } else if token.is("movable_node") {
            self.movable_node = true;
        } else if token.is("kernelcore") {
            self.kernelcore =
                Some(if token.value == Some("mirror") { CoreSize::Mirror } else { parse_core(token.value)? });
        } else if token.is("movablecore") {
            self.movablecore = Some(parse_core(token.value)?);
        } else if token.is("memblock") {
            self.memblock_debug |= token.value == Some("debug");
            token.value.filter(|&value| value == "debug").ok_or("memblock=debug")?;
        } else if token.is("transparent_hugepage") {
            self.transparent_hugepage = TransparentHugepage::parse(token.value)?;
        } else if token.is("slab_debug") || token.is("slub_debug") {
            self.slab_debug = SlabDebug::parse(token.value)?;
        } else if token.is("slab_nomerge") {
            self.slab_nomerge = true;
        } else if token.is("cma") {
            self.cma = Some(
                token.value.and_then(parse_cma).ok_or("cma=SIZE[@BASE[-LIMIT]], with BASE + SIZE not above LIMIT")?,
            );
        } else {
            self.debug.take(token)?;
        }
        Ok(())
    }
}

const KNOWN: [&str; 7] = ["mem", "memmap", "numa", "movable_node", "kernelcore", "movablecore", "memblock"];

/// Says in the kernel log's words which options do nothing (Linux: print_unknown_bootoptions).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownNote<'a>(BootOptions<'a>);

impl<'a> UnknownNote<'a> {
    fn options(&self) -> impl Iterator<Item = OptionToken<'a>> + use<'a> {
        self.0.unknown().filter(|token| token.name != "init" && !token.name.starts_with("mmkit."))
    }
}

impl fmt::Display for UnknownNote<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unknown kernel command line parameters \"")?;
        for (index, token) in self.options().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { " " }, token.text)?;
        }
        write!(f, "\", will be passed to user space.")
    }
}

fn parse_numa(value: Option<&str>) -> Result<NumaOption, &'static str> {
    match value {
        Some("off") => Ok(NumaOption::Off),
        Some("noacpi") => Ok(NumaOption::NoAcpi),
        Some("nohmat") => Ok(NumaOption::NoHmat),
        _ => Err("numa=off, numa=noacpi or numa=nohmat"),
    }
}

fn parse_core(value: Option<&str>) -> Result<CoreSize, &'static str> {
    const EXPECTED: &str = "a size such as 512M or a share such as 50%";
    let value = value.ok_or(EXPECTED)?;
    if let Some((share, "%")) = take_number(value) {
        let percent = u8::try_from(share).ok().filter(|&percent| percent <= 100);
        return percent.map(CoreSize::Percent).ok_or("a share of at most 100%");
    }
    match take_size(value) {
        Some((bytes, "")) => Ok(CoreSize::Bytes(bytes)),
        _ => Err(EXPECTED),
    }
}

fn parse_cma(value: &str) -> Option<CmaOption> {
    let (size, rest) = take_size(value)?;
    let Some(place) = rest.strip_prefix('@') else {
        return rest.is_empty().then_some(CmaOption { size, window: PhysRange::default() });
    };
    let (base, rest) = take_size(place)?;
    let lowest_end = base.checked_add(size)?;
    let end = match rest.strip_prefix('-') {
        Some(limit) => take_size(limit).filter(|&(end, rest)| rest.is_empty() && end >= lowest_end)?.0,
        None => rest.is_empty().then_some(lowest_end)?,
    };
    Some(CmaOption { size, window: PhysRange::new(units::PhysAddr::new(base), units::PhysAddr::new(end)) })
}

#[cfg(test)]
mod tests;
