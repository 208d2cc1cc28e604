//! Events of a page-allocator trace, and how one line spells one event.
//!
//! Linux 6.12: include/trace/events/kmem.h. The letters are the recording's own; data/README.md lists them.

use units::{CpuId, Gfp, MigrateType, Order, Pfn};

use crate::fields::{FieldError, Fields, wrong};

/// What kind of code an event happened in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Context {
    /// A task.
    Task,
    /// A soft interrupt.
    SoftIrq,
    /// A hard interrupt.
    HardIrq,
}

/// One event of a trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// Nanoseconds since the first event of the trace.
    pub time_ns: u64,
    /// CPU on which it happened.
    pub cpu: CpuId,
    /// Task, numbered by first appearance; 0 is the idle task.
    pub task: u32,
    /// Context on that CPU.
    pub context: Context,
    /// What happened.
    pub action: Action,
}

/// What an event says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// A block was handed out (mm_page_alloc), or could not be: then `pfn` is `None`.
    Alloc {
        /// First frame.
        pfn: Option<Pfn>,
        /// Size.
        order: Order,
        /// Flags of the request.
        gfp: Gfp,
        /// Migratetype of the request.
        migrate_type: MigrateType,
    },
    /// A block was given back (mm_page_free), alone or as a member of a batch.
    Free {
        /// First frame.
        pfn: Pfn,
        /// Size.
        order: Order,
        /// How it was given back.
        batch: Batch,
    },
    /// A page was given back in a batch without an event of its own (mm_page_free_batched).
    FreeBatched {
        /// The page.
        pfn: Pfn,
    },
    /// A block was taken off a buddy list under the zone lock (mm_page_alloc_zone_locked).
    ZoneLocked {
        /// First frame.
        pfn: Pfn,
        /// Size.
        order: Order,
        /// Migratetype that the taker asked for.
        migrate_type: MigrateType,
        /// True if the order is one that per-CPU lists hold.
        refill: bool,
    },
    /// A block went from a per-CPU list back to the buddy lists (mm_page_pcpu_drain).
    PcpuDrain {
        /// First frame.
        pfn: Pfn,
        /// Size.
        order: Order,
        /// Migratetype of the list that it joined.
        migrate_type: MigrateType,
    },
    /// An allocation fell back to blocks of another migratetype (mm_page_alloc_extfrag).
    ExtFrag(ExtFrag),
    /// An event of reclaim, compaction or migration; only its existence is kept.
    Reclaim,
}

impl Action {
    /// Returns the first frame of the block that the event is about, if it is about one.
    pub const fn pfn(&self) -> Option<Pfn> {
        match self {
            Self::Alloc { pfn, .. } => *pfn,
            Self::Free { pfn, .. }
            | Self::FreeBatched { pfn }
            | Self::ZoneLocked { pfn, .. }
            | Self::PcpuDrain { pfn, .. }
            | Self::ExtFrag(ExtFrag { pfn, .. }) => Some(*pfn),
            Self::Reclaim => None,
        }
    }
}

/// How a block was given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Batch {
    /// By a call of its own.
    Single,
    /// Together with others (mm_page_free_batched followed).
    Member,
}

/// A fallback to another migratetype.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExtFrag {
    /// First frame of the block that was found.
    pub pfn: Pfn,
    /// Order of the request.
    pub alloc_order: Order,
    /// Order of the block that was found.
    pub fallback_order: Order,
    /// Migratetype of the request.
    pub alloc_type: MigrateType,
    /// Migratetype of the list on which the block was found.
    pub fallback_type: MigrateType,
    /// True if the whole pageblock changed its type.
    pub change_ownership: bool,
}

/// What one line says: an event whose time is relative to the line before.
pub(crate) struct RawEvent {
    pub(crate) delta_ns: u64,
    pub(crate) cpu: CpuId,
    pub(crate) task: u32,
    pub(crate) context: Context,
    pub(crate) action: Action,
}

/// Reads one event line.
#[inline]
pub(crate) fn parse_event(line: &[u8]) -> Result<RawEvent, FieldError> {
    let mut fields = Fields::new(line);
    let letter = fields.word();
    let delta_ns = fields.decimal("nanoseconds since the line before")?;
    let cpu = cpu(&mut fields)?;
    let (task, context) = task(fields.word())?;
    let action = action(letter, &mut fields)?;
    Ok(RawEvent { delta_ns, cpu, task, context, action })
}

fn cpu(fields: &mut Fields<'_>) -> Result<CpuId, FieldError> {
    const EXPECTED: &str = "a CPU number";
    let raw = fields.decimal(EXPECTED)?;
    CpuId::try_new(raw).ok_or_else(|| wrong(raw.to_string().as_bytes(), EXPECTED))
}

fn task(word: &[u8]) -> Result<(u32, Context), FieldError> {
    let (digits, context) = match word {
        [digits @ .., b's'] => (digits, Context::SoftIrq),
        [digits @ .., b'h'] => (digits, Context::HardIrq),
        digits => (digits, Context::Task),
    };
    let mut fields = Fields::new(digits);
    match fields.decimal("").ok().and_then(|raw| u32::try_from(raw).ok()) {
        Some(task) => Ok((task, context)),
        None => Err(wrong(word, "a task number, then s, h or nothing")),
    }
}

#[inline]
fn action(letter: &[u8], fields: &mut Fields<'_>) -> Result<Action, FieldError> {
    let action = match letter {
        b"A" => alloc(fields)?,
        b"F" => free(fields, Batch::Single)?,
        b"G" => free(fields, Batch::Member)?,
        b"B" => Action::FreeBatched { pfn: fields.pfn()? },
        b"Z" => {
            let (pfn, order, migrate_type) = block(fields)?;
            Action::ZoneLocked { pfn, order, migrate_type, refill: fields.flag()? }
        }
        b"D" => {
            let (pfn, order, migrate_type) = block(fields)?;
            Action::PcpuDrain { pfn, order, migrate_type }
        }
        b"X" => ext_frag(fields)?,
        b"V" => {
            if fields.word().is_empty() {
                return Err(wrong(b"", "the name of an event"));
            }
            return Ok(Action::Reclaim);
        }
        _ => return Err(wrong(letter, "one of the event letters A F G B Z D X V")),
    };
    fields.end()?;
    Ok(action)
}

#[inline]
fn alloc(fields: &mut Fields<'_>) -> Result<Action, FieldError> {
    let pfn = fields.pfn_or_dash()?;
    let order = fields.order_of(pfn.unwrap_or(Pfn::ZERO))?;
    let gfp = Gfp::from_bits_retain(fields.hex32("gfp flags in hex")?);
    Ok(Action::Alloc { pfn, order, gfp, migrate_type: fields.migrate_type()? })
}

#[inline]
fn free(fields: &mut Fields<'_>, batch: Batch) -> Result<Action, FieldError> {
    let pfn = fields.pfn()?;
    Ok(Action::Free { pfn, order: fields.order_of(pfn)?, batch })
}

#[inline]
fn block(fields: &mut Fields<'_>) -> Result<(Pfn, Order, MigrateType), FieldError> {
    let pfn = fields.pfn()?;
    Ok((pfn, fields.order_of(pfn)?, fields.migrate_type()?))
}

fn ext_frag(fields: &mut Fields<'_>) -> Result<Action, FieldError> {
    let pfn = fields.pfn()?;
    Ok(Action::ExtFrag(ExtFrag {
        pfn,
        alloc_order: fields.order_of(Pfn::ZERO)?,
        fallback_order: fields.order_of(pfn)?,
        alloc_type: fields.migrate_type()?,
        fallback_type: fields.migrate_type()?,
        change_ownership: fields.flag()?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action_of(line: &str) -> Action {
        parse_event(line.as_bytes()).unwrap().action
    }

    fn refused(line: &str) -> (String, &'static str) {
        let Err(error) = parse_event(line.as_bytes()) else { panic!("{line} was accepted") };
        (error.found, error.expected)
    }

    #[test]
    fn an_allocation_keeps_its_request() {
        let raw = parse_event(b"A 22093 1 7s 581da0 3 140cca 1").unwrap();
        assert_eq!((raw.delta_ns, raw.cpu.raw(), raw.task, raw.context), (22093, 1, 7, Context::SoftIrq));
        let Action::Alloc { pfn, order, gfp, migrate_type } = raw.action else { panic!("{:?}", raw.action) };
        assert_eq!((pfn, order.raw()), (Some(Pfn::new(0x581da0)), 3));
        assert_eq!((gfp.bits(), migrate_type), (0x140cca, MigrateType::Movable));
    }

    #[test]
    fn a_failed_allocation_has_no_frame() {
        assert!(matches!(action_of("A 1 0 2 - 9 3d24ca 1"), Action::Alloc { pfn: None, .. }));
    }

    #[test]
    fn frees_tell_single_from_batched() {
        assert!(matches!(action_of("F 1 0 0 40 2"), Action::Free { batch: Batch::Single, .. }));
        assert!(matches!(action_of("G 1 0 0 40 2"), Action::Free { batch: Batch::Member, .. }));
    }

    #[test]
    fn list_operations_and_fallbacks_read_back() {
        assert!(matches!(action_of("Z 1 0 0 40 2 1 1"), Action::ZoneLocked { refill: true, .. }));
        assert!(matches!(action_of("D 1 0 0 40 2 4"), Action::PcpuDrain { migrate_type: MigrateType::Isolate, .. }));
        let Action::ExtFrag(fallback) = action_of("X 3626 1 3 2c0800 8 10 1 0 1") else { panic!() };
        assert_eq!((fallback.alloc_order.raw(), fallback.fallback_order.raw()), (8, 10));
        assert!(fallback.change_ownership);
        assert_eq!(action_of("V 1 0 0 mm_vmscan_kswapd_sleep nid=0"), Action::Reclaim);
    }

    #[test]
    fn each_damage_is_refused_with_what_was_expected() {
        assert_eq!(refused("Q 1 0 0 40").1, "one of the event letters A F G B Z D X V");
        assert_eq!(refused("F 1 0 0 41 2").1, "an order to which the page frame number is aligned");
        assert_eq!(refused("F 1 0 0 40"), ("the end of the line".into(), "an order from 0 to 13"));
        assert_eq!(refused("F 1 0 0 40 2 9"), ("\"9\"".into(), "the end of the line"));
        assert_eq!(refused("F x 0 0 40 2").1, "nanoseconds since the line before");
        assert_eq!(refused("F 1 9999 0 40 2").1, "a CPU number");
        assert_eq!(refused("F 1 0 0q 40 2").1, "a task number, then s, h or nothing");
        assert_eq!(refused("Z 1 0 0 40 2 5 1").1, "a migratetype from 0 to 4");
        assert_eq!(refused("Z 1 0 0 40 2 1 2").1, "0 or 1");
        assert_eq!(refused("").0, "the end of the line");
    }
}
