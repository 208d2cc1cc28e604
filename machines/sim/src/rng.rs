//! The seeded source of randomness of a hosted machine. Used by `interrupts` and `scheduler`.
//!
//! The sequence for a seed is part of the interface: the same seed gives the same run, in every version.
//! Algorithm: SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).

/// Sequence of pseudo-random numbers that a seed determines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// Starts the sequence of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Starts an independent sequence for part `index` of the run with `seed`.
    pub fn for_part(seed: u64, index: u64) -> Self {
        let mut seeds = Self::new(seed ^ index.wrapping_mul(0xd6e8_feb8_6659_fd93));
        Self::new(seeds.next_u64())
    }

    /// Returns the next number.
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Returns a number below `bound`, or 0 if `bound` is 0. The bias is below `bound` in 2^64.
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }

    /// Returns a number below `len` to index with, or 0 if `len` is 0.
    pub const fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// Returns true once in `chances` draws on average; never if `chances` is 0.
    pub const fn one_in(&mut self, chances: u32) -> bool {
        chances != 0 && self.below(chances as u64) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_of_seed_zero_is_the_published_one() {
        let mut rng = Rng::new(0);
        assert_eq!([rng.next_u64(), rng.next_u64()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
    }

    #[test]
    fn draws_stay_below_their_bound_and_reach_it() {
        let mut rng = Rng::new(1);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[rng.index(5)] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn parts_of_one_run_have_different_sequences() {
        assert_ne!(Rng::for_part(7, 0), Rng::for_part(7, 1));
        assert_eq!(Rng::for_part(7, 1), Rng::for_part(7, 1));
    }

    #[test]
    fn no_chance_never_comes_true() {
        let mut rng = Rng::new(3);
        assert!((0..1000).all(|_| !rng.one_in(0)));
        assert!((0..1000).any(|_| rng.one_in(10)));
    }
}
