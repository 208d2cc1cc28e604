//! Objects that stay of their type.

use core::sync::atomic::{AtomicU64, Ordering};

use units::Gfp;

use super::Machine;
use crate::TypeStable;

struct Counter(AtomicU64);

impl TypeStable for Counter {
    fn fresh() -> Self {
        Self(AtomicU64::new(7))
    }
}

#[test]
fn a_freed_object_stays_an_object_while_its_cache_is_shrunk() {
    let (machine, cpu) = Machine::new(1, 1, 4096);
    let cache = machine.create_stable_cache::<Counter>(&cpu, "counter").unwrap();
    let mut objects = [const { None }; 2000];
    for slot in &mut objects {
        let object = cache.alloc(&cpu, Gfp::KERNEL).unwrap();
        assert_eq!(object.0.swap(1, Ordering::Relaxed), 7);
        *slot = Some(object);
    }
    for object in objects.iter().flatten() {
        cache.free(&cpu, *object);
    }
    machine.shrink_caches(&cpu);
    machine.check(&cpu);
    assert!(objects.iter().flatten().all(|object| object.0.load(Ordering::Relaxed) == 1));
    let again = cache.alloc(&cpu, Gfp::KERNEL | Gfp::ZERO).unwrap();
    assert!(objects.contains(&Some(again)) && again.0.load(Ordering::Relaxed) == 1);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "the cache that it came from")]
fn an_object_goes_back_to_its_own_cache_only() {
    let (machine, cpu) = Machine::new(1, 1, 4096);
    let first = machine.create_stable_cache::<Counter>(&cpu, "first").unwrap();
    let second = machine.create_stable_cache::<Counter>(&cpu, "second").unwrap();
    second.free(&cpu, first.alloc(&cpu, Gfp::KERNEL).unwrap());
}
