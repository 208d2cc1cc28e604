//! The areas and what is done with them: the same for every store.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::AreaStore;
use crate::clock::median;

const PAGE: u64 = 4096;
const AREA_BYTES: u64 = 4 * PAGE;
/// Area and hole.
const SLOT: u64 = AREA_BYTES + PAGE;
const BASE: u64 = 0x7000_0000_0000;
/// Where the gap search may begin to look.
const LOWEST: u64 = 0x1_0000;

/// One measurement of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Find,
    Insert,
    Erase,
    Split,
    Gap,
}

/// All columns, in the order of the table.
pub(crate) const COLUMNS: [Column; 5] = [Column::Find, Column::Insert, Column::Erase, Column::Split, Column::Gap];

impl Column {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Find => "find",
            Self::Insert => "insert",
            Self::Erase => "erase",
            Self::Split => "split+restore",
            Self::Gap => "highest gap",
        }
    }
}

/// Which areas there are, and in which order they are visited.
pub(crate) struct Areas {
    count: u64,
    /// Starts of all areas in random order: the first half is there when the second comes and goes.
    starts: Vec<u64>,
    /// Starts in other random orders, for visits: more of them than a branch predictor learns by heart.
    visits: Vec<u64>,
}

/// Operations of one sample, at least; fewer are repeated.
const LEAST_OPERATIONS: u64 = 20_000;

impl Areas {
    /// Makes `count` areas in an order that is the same each time.
    pub(crate) fn new(count: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(count);
        let mut starts: Vec<u64> = (0..count).map(|slot| BASE + slot * SLOT).collect();
        random.shuffle(&mut starts);
        let mut visits = Vec::new();
        while (visits.len() as u64) < LEAST_OPERATIONS {
            let mut order = starts.clone();
            random.shuffle(&mut order);
            visits.extend(order);
        }
        Self { count, starts, visits }
    }

    fn fill<S: AreaStore>(&self, store: &mut S, starts: &[u64]) {
        for &start in starts {
            assert!(store.insert(start, start + AREA_BYTES, start), "areas are disjoint");
        }
    }

    fn store<S: AreaStore>(&self) -> S {
        let mut store = S::default();
        self.fill(&mut store, &self.starts);
        store
    }

    /// Repeats `visit`, which does `operations`, until there are enough, and returns the median time of one operation.
    fn repeat(&self, operations: u64, mut visit: impl FnMut() -> Duration) -> f64 {
        let repeats = LEAST_OPERATIONS.div_ceil(operations);
        // The first one warms the caches.
        visit();
        let mut times: Vec<f64> = (0..repeats).map(|_| visit().as_nanos() as f64 / operations as f64).collect();
        median(&mut times)
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Measures one column of one store; nanoseconds per operation.
pub(crate) fn run<S: AreaStore>(column: Column, areas: &Areas) -> f64 {
    match column {
        Column::Find => find::<S>(areas),
        Column::Insert => insert_or_erase::<S>(areas, Column::Insert),
        Column::Erase => insert_or_erase::<S>(areas, Column::Erase),
        Column::Split => split::<S>(areas),
        Column::Gap => gap::<S>(areas),
    }
}

fn find<S: AreaStore>(areas: &Areas) -> f64 {
    let store: S = areas.store();
    areas.repeat(areas.visits.len() as u64, || {
        timed(|| {
            for &start in &areas.visits {
                assert_eq!(black_box(&store).find(start + PAGE), Some(start));
            }
        })
    })
}

/// Half of the areas come in random order and go in another.
fn insert_or_erase<S: AreaStore>(areas: &Areas, column: Column) -> f64 {
    let (staying, coming) = areas.starts.split_at(areas.starts.len() / 2);
    let mut going = coming.to_vec();
    fastrand::Rng::with_seed(1).shuffle(&mut going);
    let mut store = S::default();
    areas.fill(&mut store, staying);
    areas.repeat(coming.len() as u64, || {
        let inserting = timed(|| areas.fill(&mut store, coming));
        let erasing = timed(|| {
            for &start in &going {
                assert!(store.erase(start, start + AREA_BYTES), "the area is there");
            }
        });
        if column == Column::Insert { inserting } else { erasing }
    })
}

fn split<S: AreaStore>(areas: &Areas) -> f64 {
    let mut store: S = areas.store();
    areas.repeat(areas.visits.len() as u64 * 2, || {
        timed(|| {
            for &start in &areas.visits {
                let (at, end) = (start + PAGE, start + AREA_BYTES);
                assert!(store.split(start, at, end, at), "the area is there");
                assert!(store.restore(start, at, end, start), "both parts are there");
            }
        })
    })
}

/// The map stores have to look at every area, so fewer searches have to do for them to end in time.
fn gap<S: AreaStore>(areas: &Areas) -> f64 {
    let store: S = areas.store();
    let end = BASE + areas.count * SLOT;
    let mut searches = 200;
    areas.repeat(searches, || {
        searches = 200;
        timed(|| {
            for _ in 0..searches {
                let found = black_box(&store).highest_gap(LOWEST, black_box(end), 8 * PAGE);
                assert_eq!(found, Some(BASE - 8 * PAGE));
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::map_stores::{Map, Ranges};
    use super::super::tree_store::Tree;
    use super::*;

    fn every_column_runs<S: AreaStore>() {
        let areas = Areas::new(30);
        for column in COLUMNS {
            assert!(run::<S>(column, &areas) > 0.0, "{column:?}");
        }
    }

    #[test]
    fn every_store_keeps_the_areas_of_every_column() {
        every_column_runs::<Tree>();
        every_column_runs::<Map>();
        every_column_runs::<Ranges>();
    }

    #[test]
    fn no_store_takes_an_area_that_overlaps() {
        fn refuses<S: AreaStore>() -> bool {
            let mut store: S = Areas::new(30).store();
            !store.insert(BASE + PAGE, BASE + 2 * PAGE, 1) && store.find(BASE + PAGE) == Some(BASE)
        }
        assert!(refuses::<Tree>() && refuses::<Map>() && refuses::<Ranges>());
    }
}
