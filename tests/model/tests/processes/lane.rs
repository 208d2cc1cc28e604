//! What one CPU does to the process, and what it knows of the words that it wrote.

use address_space::{Advice, Prot};
use page_fault::FaultError;
use sim::Rng;
use units::{VirtAddr, VirtRange};

use crate::layout::{AREAS, Areas, Kind, SAMPLES, Stamp, kind, part, place};
use crate::view::View;

/// What a page of an area of this CPU's is: its permissions, if it is mapped, and the number that this CPU wrote there, 0 for none.
#[derive(Clone, Copy, Default, Debug)]
struct Own {
    prot: Option<Prot>,
    number: u64,
}

/// What this CPU wrote to a page of the other one's: when (discards seen), and the number.
type Foreign = Option<(u64, u64)>;

pub(crate) struct Lane<'a, 'k> {
    view: View<'a, 'k>,
    areas: &'a Areas,
    lane: usize,
    rng: Rng,
    next: u64,
    own: [[Own; SAMPLES]; AREAS],
    foreign: [[Foreign; SAMPLES]; AREAS],
}

/// Where a sample's word of a lane is.
fn addr(area: usize, slot: u64, sample: usize, lane: usize) -> VirtAddr {
    part(area, slot, sample, sample + 1).start.saturating_add(lane as u64 * 2048 + 8)
}

/// Checks that what an area's CPU wrote before it said so is there.
pub(crate) fn check_published(view: &View<'_, '_>, areas: &Areas, area: usize, sample: usize) {
    let known = &areas.0[area];
    let (when, number) = (known.discards(), known.written(sample));
    let stamp = Stamp { is_child: false, area, sample, lane: area / AREAS, number };
    let Ok(word) = view.read(addr(area, known.slot(), sample, stamp.lane)) else { return };
    let found = stamp.number_in(word);
    if when.is_multiple_of(2) && known.discards() == when {
        assert!(found.unwrap_or(0) >= number, "{stamp:?} was written, and {found:?} is found");
    }
}

impl<'a, 'k> Lane<'a, 'k> {
    pub(crate) fn new(view: View<'a, 'k>, areas: &'a Areas) -> Self {
        let lane = view.cpu.id().index();
        let (own, foreign) = ([[Own::default(); SAMPLES]; AREAS], [[None; SAMPLES]; AREAS]);
        Self { view, areas, lane, rng: Rng::for_part(11, lane as u64), next: 1, own, foreign }
    }

    pub(crate) fn step(&mut self) {
        let (index, sample) = (self.rng.index(AREAS), self.rng.index(SAMPLES));
        match self.rng.index(40) {
            0..=11 => self.write_own(index, sample),
            12..=17 => self.check_own(&self.view, index, sample),
            18..=26 => self.write_foreign(index, sample),
            27..=30 => self.check_foreign(index, sample),
            31..=33 => check_published(&self.view, self.areas, self.theirs(index), sample),
            34 => self.write_by_the_kernel(index, sample),
            35..=38 => self.change(index),
            _ => self.fork(),
        }
    }

    /// Number of one of this CPU's areas.
    fn mine(&self, index: usize) -> usize {
        self.lane * AREAS + index
    }

    fn theirs(&self, index: usize) -> usize {
        (1 - self.lane) * AREAS + index
    }

    fn slot(&self, area: usize) -> u64 {
        self.areas.0[area].slot()
    }

    fn stamp(&mut self, area: usize, sample: usize) -> Stamp {
        self.next += 1;
        Stamp { is_child: false, area, sample, lane: self.lane, number: self.next }
    }

    fn write_own(&mut self, index: usize, sample: usize) {
        let area = self.mine(index);
        let stamp = self.stamp(area, sample);
        let written = self.view.write(addr(area, self.slot(area), sample, self.lane), stamp.word());
        let own = &mut self.own[index][sample];
        let expected = match own.prot {
            None => Err(FaultError::NotMapped),
            Some(prot) if prot.contains(Prot::WRITE) => Ok(()),
            Some(_) => Err(FaultError::Forbidden),
        };
        assert_eq!(written, expected, "{stamp:?}");
        if written.is_ok() {
            own.number = stamp.number;
            self.areas.0[area].publish(sample, stamp.number);
        }
    }

    fn check_own(&self, view: &View<'_, '_>, index: usize, sample: usize) {
        let area = self.mine(index);
        let read = view.read(addr(area, self.slot(area), sample, self.lane));
        let own = self.own[index][sample];
        let stamp = Stamp { is_child: false, area, sample, lane: self.lane, number: own.number };
        let number = read.map(|word| stamp.number_in(word).unwrap_or(0));
        let expected = match own.prot {
            None => Err(FaultError::NotMapped),
            Some(prot) if prot.is_empty() => Err(FaultError::Forbidden),
            Some(_) => Ok(own.number),
        };
        assert_eq!(number, expected, "{stamp:?}");
    }

    fn write_by_the_kernel(&mut self, index: usize, sample: usize) {
        let area = self.mine(index);
        if self.own[index][sample].prot.is_none_or(|prot| !prot.contains(Prot::WRITE)) {
            return;
        }
        let stamp = self.stamp(area, sample);
        let View { manager, cpu, mm, process, .. } = self.view;
        let at = addr(area, self.slot(area), sample, self.lane);
        manager.write_user(cpu, mm, process, at, &stamp.word().to_le_bytes()).unwrap();
        self.own[index][sample].number = stamp.number;
        let mut word = [0; 8];
        manager.read_user(cpu, mm, process, at, &mut word).unwrap();
        assert_eq!(u64::from_le_bytes(word), stamp.word());
    }

    fn write_foreign(&mut self, index: usize, sample: usize) {
        let area = self.theirs(index);
        let stamp = self.stamp(area, sample);
        let before = self.areas.0[area].discards();
        if self.view.write(addr(area, self.slot(area), sample, self.lane), stamp.word()).is_ok() {
            let is_known = before.is_multiple_of(2) && self.areas.0[area].discards() == before;
            self.foreign[index][sample] = is_known.then_some((before, stamp.number));
        }
    }

    fn check_foreign(&self, index: usize, sample: usize) {
        let area = self.theirs(index);
        let stamp = Stamp { is_child: false, area, sample, lane: self.lane, number: 0 };
        let Ok(word) = self.view.read(addr(area, self.slot(area), sample, self.lane)) else { return };
        let found = stamp.number_in(word);
        if let Some((when, number)) = self.foreign[index][sample]
            && self.areas.0[area].discards() == when
        {
            assert_eq!(found, Some(number), "{stamp:?}");
        }
    }

    /// Changes a part of one of this CPU's areas.
    fn change(&mut self, index: usize) {
        let area = self.mine(index);
        let first = self.rng.index(SAMPLES);
        let behind = first + 1 + self.rng.index(SAMPLES - first);
        let (first, behind) = if self.rng.index(3) == 0 { (0, SAMPLES) } else { (first, behind) };
        let range = part(area, self.slot(area), first, behind);
        let samples = first..behind;
        let is_mapped = self.own[index][samples.clone()].iter().all(|own| own.prot.is_some());
        match self.rng.index(8) {
            0 | 1 => {
                self.areas.0[area].discarding(|| self.view.map(area, range));
                self.own[index][samples].fill(Own { prot: Some(Prot::READ | Prot::WRITE), number: 0 });
            }
            2 => {
                self.areas.0[area].discarding(|| self.view.unmap(range));
                self.own[index][samples].fill(Own::default());
            }
            3 | 4 if is_mapped => {
                let prot = [Prot::READ, Prot::READ | Prot::WRITE, Prot::empty()][self.rng.index(3)];
                self.view.protect(range, prot).unwrap();
                self.own[index][samples].iter_mut().for_each(|own| own.prot = Some(prot));
            }
            5 if is_mapped => self.discard(index, range, samples),
            6 => self.relocate(index),
            7 if kind(area) == Kind::Large => {
                // Refused where pages are missing or shared; contents stay either way.
                let _ = self.advise(&self.view, range, Advice::Collapse);
            }
            _ => {}
        }
    }

    fn advise(&self, view: &View<'_, '_>, range: VirtRange, advice: Advice) -> Result<(), address_space::MmError> {
        view.manager.call(view.cpu, view.mm, view.process).madvise(range.start, range.len(), advice)
    }

    fn discard(&mut self, index: usize, range: VirtRange, samples: std::ops::Range<usize>) {
        let area = self.mine(index);
        if kind(area) == Kind::Shared {
            // The file has the pages.
            self.advise(&self.view, range, Advice::DontNeed).unwrap();
            return;
        }
        self.areas.0[area].discarding(|| self.advise(&self.view, range, Advice::DontNeed)).unwrap();
        self.own[index][samples].iter_mut().for_each(|own| own.number = 0);
    }

    fn relocate(&mut self, index: usize) {
        let area = self.mine(index);
        let slot = self.slot(area);
        if self.view.relocate(place(area, slot), place(area, 1 - slot).start).is_ok() {
            self.areas.0[area].move_to(1 - slot);
        }
    }

    /// Lives a short life as a child of the process.
    fn fork(&mut self) {
        let View { manager, cpu, mm, process, .. } = self.view;
        let child = manager.dup_mm(cpu, mm, process).unwrap();
        let view = View { mm: &child, ..self.view };
        let frozen = self.look_at_foreign(&view);
        self.check_all_in(&view);
        for index in 0..AREAS {
            self.write_in_child(&view, index);
        }
        assert_eq!(self.look_at_foreign(&view), frozen, "a private page of the child's changes under it");
        manager.mmput(cpu, child);
        self.check_all();
    }

    /// Returns what a child finds in the other CPU's private areas.
    fn look_at_foreign(&self, view: &View<'_, '_>) -> Vec<Result<Option<u64>, FaultError>> {
        let areas = (0..AREAS).map(|index| self.theirs(index)).filter(|&area| kind(area) != Kind::Shared);
        let words = areas.flat_map(|area| (0..SAMPLES).flat_map(move |sample| [(area, sample, 0), (area, sample, 1)]));
        let look = |(area, sample, lane)| {
            let stamp = Stamp { is_child: false, area, sample, lane, number: 0 };
            // The other slot is empty, whichever that was when the child was made.
            let read = |slot| view.read(addr(area, slot, sample, lane));
            read(0).or_else(|_| read(1)).map(|word| stamp.number_in(word))
        };
        words.map(look).collect()
    }

    fn write_in_child(&mut self, view: &View<'_, '_>, index: usize) {
        let (area, sample) = (self.mine(index), self.rng.index(SAMPLES));
        let may_write = self.own[index][sample].prot.is_some_and(|prot| prot.contains(Prot::WRITE));
        if kind(area) == Kind::Shared || !may_write {
            return;
        }
        let stamp = Stamp { is_child: true, ..self.stamp(area, sample) };
        let at = addr(area, self.slot(area), sample, self.lane);
        view.write(at, stamp.word()).unwrap();
        assert_eq!(view.read(at), Ok(stamp.word()));
        if self.rng.index(4) == 0 {
            self.advise(view, part(area, self.slot(area), sample, sample + 1), Advice::DontNeed).unwrap();
            assert_eq!(view.read(at), Ok(0));
        }
    }

    fn check_all_in(&self, view: &View<'_, '_>) {
        for (index, sample) in (0..AREAS).flat_map(|index| (0..SAMPLES).map(move |sample| (index, sample))) {
            self.check_own(view, index, sample);
        }
    }

    pub(crate) fn check_all(&self) {
        self.check_all_in(&self.view);
    }
}
