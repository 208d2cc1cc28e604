//! Newtypes that every other crate speaks in: frame numbers, addresses, orders, gfp flags, ids.
//!
//! No unsafe code, no dependency but `bitflags`. Arithmetic between quantities lives here and nowhere else,
//! so a page count, a frame number and a byte address cannot be mixed up.
//! Linux 6.12: include/linux/pfn.h, gfp_types.h, mmzone.h, nodemask.h.
#![no_std]
#![forbid(unsafe_code)]

mod addr;
mod gfp;
mod ids;
mod migrate_type;
mod order;
mod pfn;
mod vm_flags;
mod zone_type;

pub use addr::{PhysAddr, PhysRange, VirtAddr, VirtRange};
pub use gfp::Gfp;
pub use ids::{CpuId, MAX_CPUS, MAX_NODES, NodeId, NodeMask};
pub use migrate_type::MigrateType;
pub use order::{Order, TooLargeOrder};
pub use pfn::{Pfn, PfnRange};
pub use vm_flags::VmFlags;
pub use zone_type::ZoneType;
