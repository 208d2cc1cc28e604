//! The kmalloc family beyond kmalloc and kfree.

extern crate std;

use core::ptr::NonNull;

use units::{Gfp, NodeId};

use super::{Machine, fill, holds};
use crate::ObjectError;

#[test]
fn arrays_are_zeroed_and_their_size_is_checked() {
    let (machine, cpu) = Machine::new(1, 1, 2048);
    let dirty = machine.kmalloc(&cpu, 120, Gfp::KERNEL).unwrap();
    fill(dirty, 120, 0xff);
    // SAFETY: allocated above, freed once.
    unsafe { machine.kfree(&cpu, dirty) };
    let array = machine.kcalloc(&cpu, 10, 12, Gfp::KERNEL).unwrap();
    assert!(holds(array, 120, 0));
    assert_eq!(machine.kcalloc(&cpu, usize::MAX / 8, 16, Gfp::KERNEL), Err(ObjectError::Impossible));
    assert!(holds(machine.kzalloc(&cpu, 9000, Gfp::KERNEL).unwrap(), 9000, 0));
}

#[test]
fn growth_keeps_the_contents_and_moves_only_when_it_must() {
    let (machine, cpu) = Machine::new(1, 1, 2048);
    let mut object = machine.kmalloc(&cpu, 20, Gfp::KERNEL).unwrap();
    fill(object, 20, 7);
    let mut moves = 0;
    for size in 20..20_000 {
        // SAFETY: the old address is not used again.
        let grown = unsafe { machine.krealloc(&cpu, object, size, Gfp::KERNEL) }.unwrap();
        moves += u32::from(grown != object);
        object = grown;
        assert!(machine.ksize(object).unwrap() >= size && holds(object, 20, 7));
    }
    // 32 to 8192 with 96 and 192 between, 16 KiB and 32 KiB.
    assert_eq!(moves, 12);
    // SAFETY: allocated above, freed once.
    unsafe { machine.kfree(&cpu, object) };
}

#[test]
fn a_zeroed_object_grows_by_zeros() {
    let (machine, cpu) = Machine::new(1, 1, 2048);
    let object = machine.kzalloc(&cpu, 50, Gfp::KERNEL).unwrap();
    fill(object, 50, 9);
    // SAFETY: the old address is not used again.
    let shrunk = unsafe { machine.krealloc(&cpu, object, 10, Gfp::KERNEL | Gfp::ZERO) }.unwrap();
    // SAFETY: as above.
    let grown = unsafe { machine.krealloc(&cpu, shrunk, 500, Gfp::KERNEL | Gfp::ZERO) }.unwrap();
    assert!(holds(grown, 10, 9));
    // SAFETY: inside the object.
    assert!(holds(unsafe { grown.add(10) }, 490, 0));
}

#[test]
fn growth_that_fails_leaves_the_object_alone() {
    let (machine, cpu) = Machine::new(1, 1, 512);
    let object = machine.kmalloc(&cpu, 64, Gfp::KERNEL).unwrap();
    fill(object, 64, 3);
    // SAFETY: nothing is returned, so the old address stays good.
    assert_eq!(unsafe { machine.krealloc(&cpu, object, 4 << 20, Gfp::KERNEL) }, Err(ObjectError::OutOfMemory));
    assert!(holds(object, 64, 3));
    let nowhere = NonNull::new(machine.map().page(units::Pfn::new(1500))).unwrap();
    // SAFETY: no object is there, so nothing is touched.
    assert_eq!(unsafe { machine.krealloc(&cpu, nowhere, 10, Gfp::KERNEL) }, Err(ObjectError::Impossible));
    // SAFETY: allocated above, freed once.
    unsafe { machine.kfree_sensitive(&cpu, object) };
    assert!(holds(object, 64, 0));
}

#[test]
fn large_and_small_objects_come_from_the_node_that_was_asked() {
    let (machine, cpu) = Machine::new(2, 2, 2048);
    let one = NodeId::try_new(1).unwrap();
    for size in [8, 100, 8192, 100_000] {
        let object = machine.kmalloc_node(&cpu, size, Gfp::KERNEL | Gfp::THISNODE, one).unwrap();
        let frame = machine.frames().get(machine.map().pfn(object.as_ptr())).unwrap();
        assert_eq!(frame.place().node(), one);
        // SAFETY: allocated above, freed once.
        unsafe { machine.kfree(&cpu, object) };
    }
    machine.check(&cpu);
}
