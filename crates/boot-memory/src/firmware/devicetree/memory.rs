//! Memory nodes, /reserved-memory, /memreserve/ and /chosen of a devicetree.

use units::{PhysAddr, PhysRange};

use super::super::error::{FirmwareError, Problem};
use super::super::memory_map::{MapEntry, MemoryMap, RangeFlags, RangeKind};
use super::blob::{Devicetree, TreeNode, TreeProperty, be_u32, error};

/// Numbers of cells that an address and a size take in a node's children.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cells {
    pub(super) address: usize,
    pub(super) size: usize,
}

impl Cells {
    /// Reads `#address-cells` and `#size-cells`, each 1 or 2; `sizes` may be 0 where only addresses are listed.
    pub(super) fn of(node: &TreeNode<'_>) -> Result<Self, FirmwareError> {
        let read = |name, least| {
            let missing = error(node.place(), Problem::Expected("#address-cells and #size-cells of at most 2"));
            let cells = node.property(name).ok_or(missing)?.cell()?;
            if (least..=2).contains(&cells) { Ok(cells as usize) } else { Err(missing) }
        };
        Ok(Self { address: read("#address-cells", 1)?, size: read("#size-cells", 0)? })
    }
}

/// Ranges of a `reg` property; see [`RangeList::iter`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RangeList<'a> {
    property: Option<TreeProperty<'a>>,
    cells: Cells,
}

impl<'a> RangeList<'a> {
    pub(super) fn new(property: Option<TreeProperty<'a>>, cells: Cells) -> Result<Self, FirmwareError> {
        let list = Self { property, cells };
        let Some(property) = property else { return Ok(list) };
        if property.value.len() % list.stride() != 0 {
            return Err(error(property.at as usize, Problem::Expected("whole pairs of address and size")));
        }
        for (index, range) in list.raw().enumerate() {
            let place = property.at as usize + index * list.stride();
            range.ok_or(error(place, Problem::Expected("a range that ends below 2^64")))?;
        }
        Ok(list)
    }

    /// Iterates over the ranges.
    pub fn iter(&self) -> impl Iterator<Item = PhysRange> + use<'a> {
        self.raw().flatten()
    }

    fn stride(&self) -> usize {
        4 * (self.cells.address + self.cells.size).max(1)
    }

    fn raw(&self) -> impl Iterator<Item = Option<PhysRange>> + use<'a> {
        let (cells, stride) = (self.cells, self.stride());
        let value = self.property.map(|property| property.value).unwrap_or_default();
        value.chunks_exact(stride).map(move |pair| {
            let start = number(pair, 0, cells.address);
            let end = start.checked_add(number(pair, cells.address, cells.size))?;
            Some(PhysRange::new(PhysAddr::new(start), PhysAddr::new(end)))
        })
    }
}

/// Returns the big-endian number of `cells` cells from cell `first` on.
pub(super) fn number(bytes: &[u8], first: usize, cells: usize) -> u64 {
    let cells = (first..first + cells).map(|index| be_u32(bytes, index * 4).unwrap_or(0));
    cells.fold(0, |number, cell| number << 32 | u64::from(cell))
}

/// Where a reservation lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement<'a> {
    /// At these ranges (`reg`).
    Fixed(RangeList<'a>),
    /// Anywhere in `within`, or anywhere at all if that is empty.
    Dynamic {
        /// Bytes (`size`).
        size: u64,
        /// Alignment in bytes, 0 if none is asked for (`alignment`).
        alignment: u64,
        /// Where it may lie (`alloc-ranges`).
        within: RangeList<'a>,
    },
}

/// A node of /reserved-memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReservedMemory<'a> {
    /// The node's name.
    pub name: &'a str,
    /// Where it lies.
    pub placement: Placement<'a>,
    /// `no-map`: must not be in the direct map.
    pub no_map: bool,
    /// `reusable`: the kernel may use it for movable pages until the owner wants it.
    pub reusable: bool,
    /// `linux,cma-default`: the default contiguous area.
    pub cma_default: bool,
}

/// What /chosen says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Chosen<'a> {
    /// The kernel command line; empty if there is none.
    pub boot_arguments: &'a str,
    /// The initrd, if there is one.
    pub initrd: Option<PhysRange>,
}

impl<'a> Devicetree<'a> {
    /// Reads memory nodes as usable, and fixed reservations as reserved, in the order of the blob; not sanitized.
    ///
    /// A reservation without [`RangeFlags::NOMAP`] is still memory: on arm64 it is reserved in memblock, not taken out of it. Memory of a
    /// node marked `hotpluggable` has [`RangeFlags::HOTPLUG`]. Reservations that are to be placed are left to
    /// [`Devicetree::reserved_memory`].
    ///
    /// # Errors
    /// A property of another form, more ranges than a map has room for, no memory node.
    pub fn memory_map(&self) -> Result<MemoryMap, FirmwareError> {
        let mut map = MemoryMap::new();
        let mut full = Ok(());
        self.memory_nodes(|node, ranges| {
            let flags = if node.property("hotpluggable").is_some() { RangeFlags::HOTPLUG } else { RangeFlags::empty() };
            let mut entries = ranges.iter().map(|range| MapEntry { range, kind: RangeKind::Usable, flags });
            entries
                .try_for_each(|entry| map.push_entry(entry))
                .map_err(|_| error(node.place(), Problem::TooMany("memory ranges")))
        })?;
        if map.entries().is_empty() {
            return Err(error(0, Problem::Expected("a memory node with a range")));
        }
        self.reservations(|range| full = full.and(map.push(range, RangeKind::Reserved)))?;
        self.reserved_memory(|reserved| {
            let Placement::Fixed(ranges) = reserved.placement else { return };
            let flags = if reserved.no_map { RangeFlags::NOMAP } else { RangeFlags::empty() };
            let mut entries = ranges.iter().map(|range| MapEntry { range, kind: RangeKind::Reserved, flags });
            full = full.and(entries.try_for_each(|entry| map.push_entry(entry)));
        })?;
        full.map_err(|_| error(0, Problem::TooMany("memory ranges")))?;
        Ok(map)
    }

    /// Calls `visit` for every child of /reserved-memory that is not disabled.
    ///
    /// # Errors
    /// A property of another form; cells of /reserved-memory that differ from the root's.
    pub fn reserved_memory(&self, mut visit: impl FnMut(ReservedMemory<'a>)) -> Result<(), FirmwareError> {
        let Some(root) = self.root() else { return Ok(()) };
        let Some(parent) = root.child("reserved-memory") else { return Ok(()) };
        let cells = Cells::of(&parent)?;
        if cells != Cells::of(&root)? {
            return Err(error(
                parent.place(),
                Problem::Expected("the same #address-cells and #size-cells as in the root node"),
            ));
        }
        for node in parent.children().filter(is_enabled) {
            visit(read_reserved(&node, cells)?);
        }
        Ok(())
    }

    /// Reads /chosen.
    ///
    /// # Errors
    /// A property of another form.
    pub fn chosen(&self) -> Result<Chosen<'a>, FirmwareError> {
        let Some(chosen) = self.root().and_then(|root| root.child("chosen")) else { return Ok(Chosen::default()) };
        let boot_arguments = match chosen.property("bootargs") {
            Some(property) => {
                property.string().ok_or(error(property.at as usize, Problem::Expected("a string in UTF-8")))?
            }
            None => "",
        };
        let address = |name| chosen.property(name).map(|property| any_width(&property)).transpose();
        let initrd = match (address("linux,initrd-start")?, address("linux,initrd-end")?) {
            (Some(start), Some(end)) if start < end => Some(PhysRange::new(PhysAddr::new(start), PhysAddr::new(end))),
            _ => None,
        };
        Ok(Chosen { boot_arguments, initrd })
    }

    /// Calls `visit` for every memory node that is not disabled, with its ranges.
    pub(super) fn memory_nodes(
        &self,
        mut visit: impl FnMut(TreeNode<'a>, RangeList<'a>) -> Result<(), FirmwareError>,
    ) -> Result<(), FirmwareError> {
        let Some(root) = self.root() else { return Ok(()) };
        let cells = Cells::of(&root)?;
        for node in root.children().filter(is_enabled) {
            if node.property("device_type").is_some_and(|kind| kind.has_string("memory")) {
                let ranges = node.property("linux,usable-memory").or_else(|| node.property("reg"));
                visit(node, RangeList::new(ranges, cells)?)?;
            }
        }
        Ok(())
    }
}

fn is_enabled(node: &TreeNode<'_>) -> bool {
    node.property("status").is_none_or(|status| status.has_string("okay") || status.has_string("ok"))
}

fn read_reserved<'a>(node: &TreeNode<'a>, cells: Cells) -> Result<ReservedMemory<'a>, FirmwareError> {
    let has = |name| node.property(name).is_some();
    let placement = match (node.property("reg"), node.property("size")) {
        (Some(reg), _) => Placement::Fixed(RangeList::new(Some(reg), cells)?),
        (None, Some(size)) => Placement::Dynamic {
            size: any_width(&size)?,
            alignment: node.property("alignment").map_or(Ok(0), |alignment| power_of_two(&alignment))?,
            within: RangeList::new(node.property("alloc-ranges"), cells)?,
        },
        (None, None) => return Err(error(node.place(), Problem::Expected("reg or size in a reserved-memory node"))),
    };
    let (no_map, reusable, cma_default) = (has("no-map"), has("reusable"), has("linux,cma-default"));
    if no_map && reusable {
        return Err(error(node.place(), Problem::Expected("no-map or reusable, not both")));
    }
    Ok(ReservedMemory { name: node.name, placement, no_map, reusable, cma_default })
}

/// Reads an alignment; 0 asks for none.
fn power_of_two(property: &TreeProperty<'_>) -> Result<u64, FirmwareError> {
    match any_width(property)? {
        alignment if alignment == 0 || alignment.is_power_of_two() => Ok(alignment),
        _ => Err(error(property.at as usize, Problem::Expected("an alignment that is a power of two"))),
    }
}

/// Reads a number of one or two cells.
fn any_width(property: &TreeProperty<'_>) -> Result<u64, FirmwareError> {
    match property.value.len() {
        4 | 8 => Ok(number(property.value, 0, property.value.len() / 4)),
        _ => Err(error(property.at as usize, Problem::Expected("a number of one or two cells"))),
    }
}
