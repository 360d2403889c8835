//! Chance: independent streams of random numbers, all from the seed of the run.

use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// The stream called `name`. Streams do not disturb each other: a scenario that draws one number
/// more for its load draws the same faults as before.
pub fn dice(seed: u64, name: &str) -> StdRng {
    StdRng::seed_from_u64(derive(seed, name))
}

/// A seed for `name`: FNV-1a over the seed and the name.
pub fn derive(seed: u64, name: &str) -> u64 {
    let bytes = seed.to_le_bytes().into_iter().chain(name.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use rand::Rng as _;

    use super::*;

    #[test]
    fn a_stream_repeats_itself_and_differs_from_all_others() {
        let draw = |seed, name| dice(seed, name).random::<u64>();
        assert_eq!(draw(1, "load"), draw(1, "load"));
        assert_ne!(draw(1, "load"), draw(2, "load"));
        assert_ne!(draw(1, "load"), draw(1, "fire"));
    }
}
