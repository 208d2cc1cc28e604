//! Pseudo-random numbers, the same in every run.
//!
//! xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled".

/// A generator.
pub(crate) struct Rng(u64);

impl Rng {
    /// Makes the generator of a seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns the next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number below `limit`, which must not be 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_seeds_give_different_numbers_below_the_limit() {
        let (mut first, mut second) = (Rng::new(1), Rng::new(2));
        assert_ne!(first.next(), second.next());
        assert!((0..1000).all(|_| first.below(10) < 10));
    }
}
