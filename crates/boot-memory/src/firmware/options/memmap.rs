//! `mem=` and `memmap=`: what they do to a [`MemoryMap`].
//!
//! Linux 6.12: arch/x86/kernel/e820.c (parse_memopt, parse_memmap_one, parse_memmap_opt).

use units::{PhysAddr, PhysRange};

use super::super::memory_map::{MapFull, MemoryMap, RangeKind};
use super::super::reshape::RangeChange;
use super::super::text::{take_number, take_size};
use super::token::OptionToken;

/// One step that an option does to the firmware's map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapChange {
    /// `memmap=exactmap`: forget the firmware's map.
    Clear,
    /// `memmap=nn@ss`, `nn#ss`, `nn$ss`, `nn!ss`: add a range.
    Add(PhysRange, RangeKind),
    /// `mem=nn`, `memmap=nn` (no usable memory from there up) and `memmap=nn%ss-from+to`: retype or remove.
    Change(RangeChange),
}

impl MapChange {
    /// Changes `map`; overlaps stay for [`MemoryMap::sanitize`].
    ///
    /// # Errors
    /// [`MapFull`].
    pub fn apply_to(self, map: &mut MemoryMap) -> Result<(), MapFull> {
        match self {
            Self::Clear => map.clear(),
            Self::Add(range, kind) => map.push(range, kind)?,
            Self::Change(change) => map.change(change)?,
        }
        Ok(())
    }
}

const MEM: &str = "a size above 0, such as 512M";
const MEMMAP: &str = "exactmap, SIZE, SIZE@START, SIZE#START, SIZE$START, SIZE!START or SIZE%START[-FROM][+TO]";

/// Iterates over the changes of one option; nothing if it is neither `mem=` nor `memmap=`.
pub(super) fn changes(token: OptionToken<'_>) -> impl Iterator<Item = Result<MapChange, &'static str>> {
    let mem = token.is("mem").then(|| parse_mem(token.value)).flatten();
    let list = token.is("memmap").then(|| token.value.unwrap_or_default());
    mem.into_iter().chain(list.into_iter().flat_map(|list| list.split(',')).map(|one| parse_memmap(one).ok_or(MEMMAP)))
}

/// `mem=nopentium` once turned off 4 MiB pages on i386 and changes no map.
fn parse_mem(value: Option<&str>) -> Option<Result<MapChange, &'static str>> {
    match value {
        Some("nopentium") => None,
        _ => Some(match value.and_then(take_size) {
            Some((limit @ 1.., "")) => Ok(limit_change(limit)),
            _ => Err(MEM),
        }),
    }
}

fn limit_change(limit: u64) -> MapChange {
    let range = PhysRange::new(PhysAddr::new(limit), PhysAddr::new(u64::MAX));
    MapChange::Change(RangeChange { range, from: Some(RangeKind::Usable), to: None })
}

fn parse_memmap(value: &str) -> Option<MapChange> {
    if value == "exactmap" {
        return Some(MapChange::Clear);
    }
    let (size, rest) = take_size(value)?;
    let Some(sign) = rest.bytes().next() else { return Some(limit_change(size)) };
    let (start, rest) = take_size(rest.get(1..)?)?;
    let range = PhysRange::new(PhysAddr::new(start), PhysAddr::new(start.checked_add(size)?));
    if sign == b'%' {
        return parse_retype(range, rest);
    }
    let kind = match sign {
        b'@' => RangeKind::Usable,
        b'#' => RangeKind::AcpiData,
        b'$' => RangeKind::Reserved,
        b'!' => RangeKind::LegacyPersistent,
        _ => return None,
    };
    rest.is_empty().then_some(MapChange::Add(range, kind))
}

/// Reads `[-FROM][+TO]`: retype FROM as TO; add TO; remove FROM; or remove whatever is there.
fn parse_retype(range: PhysRange, text: &str) -> Option<MapChange> {
    let (from, rest) = take_kind(text, '-')?;
    let (to, rest) = take_kind(rest, '+')?;
    if !rest.is_empty() {
        return None;
    }
    Some(match (from, to) {
        (None, Some(kind)) => MapChange::Add(range, kind),
        _ => MapChange::Change(RangeChange { range, from, to }),
    })
}

/// Splits `SIGN NUMBER` off the front; type 0 and a missing sign mean that no kind is named.
fn take_kind(text: &str, sign: char) -> Option<(Option<RangeKind>, &str)> {
    let Some(number) = text.strip_prefix(sign) else { return Some((None, text)) };
    let (number, rest) = take_number(number)?;
    let number = u32::try_from(number).ok()?;
    Some(((number != 0).then(|| RangeKind::from_e820(number)), rest))
}
