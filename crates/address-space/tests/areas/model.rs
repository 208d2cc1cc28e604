//! Random calls against a map from page to what is mapped there.

use std::collections::BTreeMap;

use proptest::prelude::*;
use units::{VirtAddr, VmFlags};

use crate::{Space, Spaces, fixed, objects};
use mmkit_address_space::*;

const BASE: u64 = 0x7000_0000_0000;

/// Page number in the arena -> permissions and whether it is locked.
type Pages = BTreeMap<u64, (Prot, bool)>;

#[derive(Clone, Copy, Debug)]
enum Step {
    Map(u64, u64, Prot),
    Unmap(u64, u64),
    Protect(u64, u64, Prot),
    Lock(u64, u64),
    Unlock(u64, u64),
    Move(u64, u64, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let prot = prop_oneof![Just(Prot::READ), Just(Prot::READ | Prot::WRITE), Just(Prot::READ | Prot::EXEC)];
    let one = (0..6u8, 0..24u64, 1..9u64, 0..24u64, prot).prop_map(|(kind, at, len, to, prot)| match kind {
        0 | 1 => Step::Map(at, len, prot),
        2 => Step::Unmap(at, len),
        3 => Step::Protect(at, len, prot),
        4 if to % 2 == 0 => Step::Lock(at, len),
        4 => Step::Unlock(at, len),
        _ => Step::Move(at, len, 40 + to),
    });
    prop::collection::vec(one, 1..60)
}

/// Does to the pages what the manual says; returns whether the call succeeds.
fn model(pages: &mut Pages, step: Step) -> bool {
    let mapped_run =
        |pages: &Pages, at: u64, len: u64| (at..at + len).take_while(|page| pages.contains_key(page)).count() as u64;
    match step {
        Step::Map(at, len, prot) => {
            pages.extend((at..at + len).map(|page| (page, (prot, false))));
            true
        }
        Step::Unmap(at, len) => {
            pages.retain(|page, _| !(at..at + len).contains(page));
            true
        }
        Step::Protect(at, len, prot) => {
            let run = mapped_run(pages, at, len);
            pages.range_mut(at..at + run).for_each(|(_, page)| page.0 = prot);
            run == len
        }
        Step::Lock(at, len) | Step::Unlock(at, len) => {
            let run = mapped_run(pages, at, len);
            pages.range_mut(at..at + run).for_each(|(_, page)| page.1 = matches!(step, Step::Lock(..)));
            run == len
        }
        Step::Move(at, len, to) => {
            // A move needs one area; the caller makes only those that have.
            let moved: Vec<_> = (at..at + len).map(|page| pages.remove(&page)).collect();
            pages.retain(|page, _| !(to..to + len).contains(page));
            pages.extend((to..).zip(moved).filter_map(|(page, what)| Some((page, what?))));
            true
        }
    }
}

fn run(space: &mut Space<'_, '_>, step: Step) -> Result<(), MmError> {
    let at = |page: u64| VirtAddr::new(BASE + page * PAGE_SIZE);
    let bytes = |pages: u64| pages * PAGE_SIZE;
    let mut call = space.call();
    match step {
        Step::Map(page, len, prot) => call.mmap(&fixed(at(page).raw(), bytes(len), prot)).map(drop),
        Step::Unmap(page, len) => call.munmap(at(page), bytes(len)),
        Step::Protect(page, len, prot) => call.mprotect(at(page), bytes(len), prot),
        Step::Lock(page, len) => call.mlock(at(page), bytes(len), LockWhen::Now),
        Step::Unlock(page, len) => call.munlock(at(page), bytes(len)),
        Step::Move(page, len, to) => {
            let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
            let len = bytes(len);
            call.mremap(&RemapRequest { addr: at(page), old_len: len, new_len: len, flags, new_addr: at(to) }).map(drop)
        }
    }
}

fn pages_of(space: &Space<'_, '_>) -> Pages {
    let mm = space.read();
    let each = mm.areas().flat_map(|vma| {
        let prot = Prot::from_bits_retain((vma.flags & VmFlags::ACCESS).bits() as u32);
        let first = (vma.start().raw() - BASE) / PAGE_SIZE;
        (first..first + vma.nr_pages()).map(move |page| (page, (prot, vma.flags.contains(VmFlags::LOCKED))))
    });
    each.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn random_calls_do_to_every_page_what_the_manual_says(steps in steps()) {
        let (objects, cpu) = objects(1024);
        let spaces = Spaces::new(&objects, &cpu, Settings::X86_64, CommitRules::for_ram(1 << 20)).unwrap();
        let mut space = Space::new(&spaces, &cpu);
        let mut pages = Pages::new();
        for step in steps {
            if let Step::Move(at, len, _) = step {
                let area = space.read().lookup(VirtAddr::new(BASE + at * PAGE_SIZE));
                if area.is_none_or(|area| area.end().raw() < BASE + (at + len) * PAGE_SIZE) {
                    continue;
                }
            }
            let expected = model(&mut pages, step);
            prop_assert_eq!(run(&mut space, step).is_ok(), expected, "{:?}", step);
            prop_assert_eq!(&pages_of(&space), &pages, "{:?}", step);
            space.check();
        }
    }
}
