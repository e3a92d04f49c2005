//! MT19937, C++'s `std::mt19937`: Envoy shuffles hosts with it, and the same seed has to give the same order.

/// The generator.
#[derive(Debug)]
pub(super) struct MersenneTwister {
    state: Box<[u32; SIZE]>,
    next: usize,
}

const SIZE: usize = 624;
const MIDDLE: usize = 397;
const MATRIX: u32 = 0x9908_b0df;

impl MersenneTwister {
    pub(super) fn new(seed: u32) -> Self {
        let mut state = Box::new([0; SIZE]);
        let mut last = seed;
        for (number, word) in (1..).zip(state.iter_mut()) {
            *word = last;
            last = 1_812_433_253_u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(number);
        }
        Self { state, next: SIZE }
    }

    pub(super) fn next(&mut self) -> u32 {
        if self.next >= SIZE {
            self.twist();
        }
        let mut word = self.word(self.next);
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn twist(&mut self) {
        for place in 0..SIZE {
            let joined = (self.word(place) & 0x8000_0000) | (self.word(place + 1) & 0x7fff_ffff);
            let odd = if joined & 1 == 1 { MATRIX } else { 0 };
            let twisted = self.word(place + MIDDLE) ^ (joined >> 1) ^ odd;
            if let Some(word) = self.state.get_mut(place) {
                *word = twisted;
            }
        }
        self.next = 0;
    }

    fn word(&self, place: usize) -> u32 {
        self.state.get(place % SIZE).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::MersenneTwister;

    /// The C++ standard: the 10000th number of a generator with the seed 5489.
    #[test]
    fn it_is_that_of_cpp() {
        let mut random = MersenneTwister::new(5489);
        let last = (0..10_000).map(|_| random.next()).last();
        assert_eq!(last, Some(4_123_659_995));
    }
}
