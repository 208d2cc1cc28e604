//! Which bytes of a chunk's unit are taken: a bitmap of 4-byte steps with hints for each page.
//!
//! Knows nothing of memory; `chunk` puts pages behind it. An area of at most a page lies within one page, a larger one starts at a
//! page: so pages can come from anywhere, and the longest free run of each page says whether a request fits without looking at bits.
//! Linux 6.12: mm/percpu.c (`pcpu_find_block_fit`, `pcpu_alloc_area`, `pcpu_free_area`, `struct pcpu_block_md`).

use core::ops::Range;

use collections::BootSlice;

use super::MIN_ALLOC_SIZE;
use super::bits;

/// What is known of one page without its bits. Positions and lengths in steps.
///
/// # Invariants
/// `first_free` is the first free step or the page's length; `left_free` the free steps from the page's start; `longest` the length of
/// its longest free run, one of which starts at `longest_start`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct PageHint {
    first_free: u16,
    left_free: u16,
    longest: u16,
    longest_start: u16,
}

impl PageHint {
    /// Computes the hint from the page's bits.
    fn scan(taken: &[u64], page: Range<usize>) -> Self {
        let mut hint = Self { first_free: step(page.len()), ..Self::default() };
        for run in bits::clear_runs(taken, page.clone()) {
            let (start, len) = (step(run.start - page.start), step(run.len()));
            hint.first_free = hint.first_free.min(start);
            if start == 0 {
                hint.left_free = len;
            }
            if len > hint.longest {
                (hint.longest, hint.longest_start) = (len, start);
            }
        }
        hint
    }
}

/// A position within a page; the largest page has 2^14 steps.
fn step(steps: usize) -> u16 {
    u16::try_from(steps).unwrap_or(u16::MAX)
}

/// Memory for an [`AreaMap`].
pub(super) struct MapRoom {
    pub(super) taken: BootSlice<u64>,
    pub(super) starts: BootSlice<u64>,
    pub(super) hints: BootSlice<PageHint>,
}

/// What [`AreaMap::take`] took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TakenArea {
    /// First byte.
    pub(super) offset: usize,
    /// Pages touched that had no area before.
    pub(super) were_empty: usize,
}

/// Free and taken steps of a unit.
///
/// # Invariants
/// A step is set in `starts` only if it is set in `taken`. Each page's hint is that of its bits. `free` counts the clear steps.
pub(super) struct AreaMap {
    taken: BootSlice<u64>,
    /// First step of each area.
    starts: BootSlice<u64>,
    hints: BootSlice<PageHint>,
    page_steps: usize,
    free: usize,
    /// Steps that do not belong to others at the unit's ends.
    visible: Range<usize>,
    /// No page below has a free step.
    first_page: usize,
    /// No request above this many steps fits.
    largest: usize,
}

impl AreaMap {
    /// Words of a bitmap over `pages` pages.
    pub(super) const fn words(pages: usize, page_shift: u32) -> usize {
        bits::words((pages << page_shift) / MIN_ALLOC_SIZE)
    }

    /// Makes the map of a unit with nothing taken but `hidden_head` and `hidden_tail` bytes at its ends, which belong to others.
    pub(super) fn new(room: MapRoom, page_shift: u32, hidden_head: usize, hidden_tail: usize) -> Self {
        let page_steps = (1 << page_shift) / MIN_ALLOC_SIZE;
        let MapRoom { mut taken, mut starts, mut hints } = room;
        taken.fill(0);
        starts.fill(0);
        let steps = hints.len() * page_steps;
        let (head, tail) = (hidden_head.div_ceil(MIN_ALLOC_SIZE), hidden_tail.div_ceil(MIN_ALLOC_SIZE));
        let visible = head.min(steps)..steps.saturating_sub(tail).max(head.min(steps));
        for hidden in [0..visible.start, visible.end..steps] {
            bits::set(&mut taken, hidden.clone());
            bits::set(&mut starts, hidden.start..hidden.end.min(hidden.start + 1));
        }
        for (page, hint) in hints.iter_mut().enumerate() {
            *hint = PageHint::scan(&taken, page * page_steps..(page + 1) * page_steps);
        }
        let free = visible.len();
        let mut map = Self { taken, starts, hints, page_steps, free, visible, first_page: 0, largest: 0 };
        map.find_largest();
        map
    }

    /// Returns the number of pages.
    pub(super) fn pages(&self) -> usize {
        self.hints.len()
    }

    /// Returns the bytes of a page.
    pub(super) const fn page_bytes(&self) -> usize {
        self.page_steps * MIN_ALLOC_SIZE
    }

    /// Returns the free bytes.
    pub(super) const fn free_bytes(&self) -> usize {
        self.free * MIN_ALLOC_SIZE
    }

    /// Returns the size in bytes above which no request fits.
    pub(super) const fn largest_bytes(&self) -> usize {
        self.largest * MIN_ALLOC_SIZE
    }

    /// Returns true if no byte of the page is taken.
    pub(super) fn is_empty(&self, page: usize) -> bool {
        self.hints.get(page).is_some_and(|hint| usize::from(hint.longest) == self.page_steps)
    }

    /// Takes `size` bytes at a multiple of `align`, a power of two up to the page size, from pages that `usable` accepts as they
    /// follow each other.
    pub(super) fn take(
        &mut self,
        size: usize,
        align: usize,
        usable: impl Fn(Range<usize>) -> bool,
    ) -> Option<TakenArea> {
        let steps = size.div_ceil(MIN_ALLOC_SIZE).max(1);
        if steps > self.largest {
            return None;
        }
        let start = if steps <= self.page_steps {
            self.find_in_pages(steps, align.div_ceil(MIN_ALLOC_SIZE), usable)?
        } else {
            self.find_over_pages(steps, usable)?
        };
        let offset = start * MIN_ALLOC_SIZE;
        let were_empty = self.pages_of(offset, size).filter(|&page| self.is_empty(page)).count();
        bits::set(&mut self.taken, start..start + steps);
        bits::set(&mut self.starts, start..start + 1);
        self.free -= steps;
        self.note_taken(start..start + steps);
        Some(TakenArea { offset, were_empty })
    }

    fn find_in_pages(&self, steps: usize, align: usize, usable: impl Fn(Range<usize>) -> bool) -> Option<usize> {
        let pages = self.hints.iter().enumerate().skip(self.first_page);
        let fitting = pages.filter(|(_, hint)| usize::from(hint.longest) >= steps);
        fitting.filter(|&(page, _)| usable(page..page + 1)).find_map(|(page, hint)| {
            let base = page * self.page_steps;
            let from = base + usize::from(hint.first_free);
            let runs = bits::clear_runs(&self.taken, from..base + self.page_steps);
            // Pages start at multiples of every alignment up to their size, so an aligned offset is an aligned address.
            runs.map(|run| (run.start.next_multiple_of(align), run.end))
                .find(|(start, end)| start + steps <= *end)
                .map(|(start, _)| start)
        })
    }

    /// Whole free pages, and the rest at the start of the next one.
    fn find_over_pages(&self, steps: usize, usable: impl Fn(Range<usize>) -> bool) -> Option<usize> {
        let (whole, rest) = (steps / self.page_steps, steps % self.page_steps);
        let touched = steps.div_ceil(self.page_steps);
        let first = (self.first_page..(self.pages() + 1).saturating_sub(touched)).find(|&first| {
            let fits_rest =
                rest == 0 || self.hints.get(first + whole).is_some_and(|hint| usize::from(hint.left_free) >= rest);
            fits_rest && (first..first + whole).all(|page| self.is_empty(page)) && usable(first..first + touched)
        })?;
        Some(first * self.page_steps)
    }

    /// Gives back the area that starts at `offset`. Returns its size in bytes, rounded up to steps; `None` if no area starts there.
    pub(super) fn give_back(&mut self, offset: usize) -> Option<usize> {
        let size = self.size_at(offset)?;
        let start = offset / MIN_ALLOC_SIZE;
        let range = start..start + size / MIN_ALLOC_SIZE;
        bits::clear(&mut self.starts, start..start + 1);
        bits::clear(&mut self.taken, range.clone());
        self.free += range.len();
        self.note_given_back(range);
        Some(size)
    }

    /// Returns the size of the area that starts at `offset`, rounded up to steps.
    pub(super) fn size_at(&self, offset: usize) -> Option<usize> {
        let start = offset / MIN_ALLOC_SIZE;
        let known = offset.is_multiple_of(MIN_ALLOC_SIZE) && self.visible.contains(&start);
        if !known || !bits::is_set(&self.starts, start) {
            return None;
        }
        let next = bits::next_set(&self.starts, start + 1..self.pages() * self.page_steps);
        Some((bits::next_clear(&self.taken, start..next) - start) * MIN_ALLOC_SIZE)
    }

    /// Iterates over the sizes of all areas in bytes, rounded up to steps.
    pub(super) fn sizes(&self) -> impl Iterator<Item = usize> + '_ {
        let mut at = self.visible.start;
        core::iter::from_fn(move || {
            let start = bits::next_set(&self.starts, at..self.visible.end);
            at = start + 1;
            (start < self.visible.end).then(|| self.size_at(start * MIN_ALLOC_SIZE)).flatten()
        })
    }

    /// Iterates over the lengths in bytes of the free runs below the last area.
    pub(super) fn gaps(&self) -> impl Iterator<Item = usize> + '_ {
        let end = self.visible.end - bits::trailing_clear(&self.taken, self.visible.clone());
        bits::clear_runs(&self.taken, self.visible.start..end).map(|run| run.len() * MIN_ALLOC_SIZE)
    }

    /// Returns the first free step (Linux: first_bit of percpu_stats).
    pub(super) fn first_free_step(&self) -> usize {
        bits::next_clear(&self.taken, 0..self.pages() * self.page_steps)
    }

    /// Returns the pages that an area touches.
    pub(super) const fn pages_of(&self, offset: usize, size: usize) -> Range<usize> {
        let page = self.page_bytes();
        offset / page..(offset + size).div_ceil(page)
    }

    fn note_taken(&mut self, range: Range<usize>) {
        let pages = range.start / self.page_steps..range.end.div_ceil(self.page_steps);
        let mut held_largest = pages.len() > 1 || self.largest > self.page_steps;
        for page in pages {
            let base = page * self.page_steps;
            let Some(hint) = self.hints.get_mut(page) else { break };
            let whole = usize::from(hint.longest) == self.page_steps;
            held_largest |= whole || usize::from(hint.longest) >= self.largest;
            *hint = note_taken_in_page(&self.taken, *hint, base..base + self.page_steps, &range);
        }
        while self.hints.get(self.first_page).is_some_and(|hint| hint.longest == 0) {
            self.first_page += 1;
        }
        if held_largest {
            self.find_largest();
        }
    }

    fn note_given_back(&mut self, range: Range<usize>) {
        let pages = range.start / self.page_steps..range.end.div_ceil(self.page_steps);
        self.first_page = self.first_page.min(pages.start);
        let mut longer_run = false;
        for page in pages {
            let base = page * self.page_steps;
            let bounds = base..base + self.page_steps;
            let freed = range.start.max(bounds.start)..range.end.min(bounds.end);
            let start = bits::clear_run_start(&self.taken, bounds.start, freed.start);
            let end = bits::next_set(&self.taken, freed.end..bounds.end);
            let (offset, len) = (step(start - base), step(end - start));
            let Some(hint) = self.hints.get_mut(page) else { break };
            hint.first_free = hint.first_free.min(offset);
            if offset == 0 {
                hint.left_free = len;
            }
            if len > hint.longest {
                (hint.longest, hint.longest_start) = (len, offset);
            }
            let behind_whole = offset == 0 && page.checked_sub(1).is_some_and(|before| self.is_empty(before));
            longer_run |= behind_whole || usize::from(len) == self.page_steps;
            self.largest = self.largest.max(usize::from(len));
        }
        if longer_run {
            self.find_largest();
        }
    }

    fn find_largest(&mut self) {
        let (mut largest, mut whole) = (0, 0);
        for hint in self.hints.iter() {
            largest = largest.max(usize::from(hint.longest)).max(whole + usize::from(hint.left_free));
            whole = if usize::from(hint.longest) == self.page_steps { whole + self.page_steps } else { 0 };
        }
        self.largest = largest;
    }

    /// Checks the type's invariants.
    ///
    /// # Errors
    /// The rule that is broken.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let steps = self.pages() * self.page_steps;
        let free: usize = bits::clear_runs(&self.taken, 0..steps).map(|run| run.len()).sum();
        if free != self.free {
            return Err("the free steps of a chunk are the clear bits of its map");
        }
        if self.starts.iter().zip(self.taken.iter()).any(|(start, taken)| start & !taken != 0) {
            return Err("an area starts at a taken step");
        }
        for (page, hint) in self.hints.iter().enumerate() {
            let scanned = PageHint::scan(&self.taken, page * self.page_steps..(page + 1) * self.page_steps);
            // Of several longest runs any may be the one that is noted.
            if (PageHint { longest_start: hint.longest_start, ..scanned }) != *hint {
                return Err("a page's hint is that of its bits");
            }
        }
        if self.hints.iter().take(self.first_page).any(|hint| hint.longest != 0) {
            return Err("no page below the first one with free steps has any");
        }
        Ok(())
    }
}

/// Returns the hint of a page after `range` was taken, scanning only if its longest run was hit.
fn note_taken_in_page(taken: &[u64], mut hint: PageHint, page: Range<usize>, range: &Range<usize>) -> PageHint {
    let longest = page.start + usize::from(hint.longest_start);
    if range.start < longest + usize::from(hint.longest) && longest < range.end {
        return PageHint::scan(taken, page);
    }
    let start = range.start.saturating_sub(page.start);
    hint.left_free = hint.left_free.min(step(start));
    if start <= usize::from(hint.first_free) {
        hint.first_free = step(bits::next_clear(taken, page.clone()) - page.start);
    }
    hint
}

#[cfg(test)]
mod tests;
