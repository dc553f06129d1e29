//! Random choices that can be made again: a failing test prints its seed, and `PGEXPORT_TEST_SEED` sets it.

use std::time::{SystemTime, UNIX_EPOCH};

/// `SplitMix64`.
pub(super) struct Random {
    state: u64,
    pub(super) seed: u64,
}

impl Random {
    pub(super) fn new() -> Self {
        let seed = match std::env::var("PGEXPORT_TEST_SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
        };
        Self { state: seed, seed }
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Below a bound.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.bits() % bound as u64).unwrap()
    }

    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    /// An integer of any size up to `bits`.
    pub(super) fn integer(&mut self, bits: u32) -> i64 {
        let unused = 64 - bits + u32::try_from(self.below(bits as usize)).unwrap();
        self.bits().cast_signed() >> unused
    }
}
