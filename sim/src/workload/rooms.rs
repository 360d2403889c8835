//! The conversations of a run: their names, and the law by which senders and readers choose them.

use model::id::ConversationName;
use rand::Rng as _;
use rand::rngs::StdRng;

/// The tenant that all of them belong to.
pub const TENANT: &str = "sim";
/// Parts of the hash space over which rooms are dealt out: with as many rooms, every shard of a
/// cluster of up to this many equal shards has one.
const PARTS_MAX: u32 = 64;
/// The weight of the first room; enough for the last of many to keep one above 0.
const WEIGHT: f64 = 1e12;

/// The full names of `rooms` rooms, `tenants/sim/conversations/room-{room}-{salt}`. The salt is the
/// least one that puts the room where it belongs, so that every shard has its share.
pub fn names(rooms: u32) -> Vec<String> {
    let parts = rooms.clamp(1, PARTS_MAX);
    (0..rooms).map(|room| name(room, parts)).collect()
}

/// The room of a full name; none when it is not one of ours.
pub fn room_of(name: &str) -> Option<u32> {
    let (tenant, room) = name
        .strip_prefix("tenants/")?
        .split_once("/conversations/room-")?;
    let (room, _) = room.split_once('-')?;
    (tenant == TENANT).then_some(room)?.parse().ok()
}

fn name(room: u32, parts: u32) -> String {
    let lies = |name: &ConversationName| (u32::from(name.key().slot().0) * parts) >> 16;
    (0_u32..)
        .filter_map(|salt| ConversationName::new(TENANT, &format!("room-{room}-{salt}")).ok())
        .find(|name| lies(name) == room % parts)
        .map_or_else(String::new, |name| name.to_string())
}

/// A Zipf law: room r is chosen in proportion to 1 / (r + 1)^exponent.
#[derive(Clone, Debug)]
pub struct Zipf {
    /// Sums of the weights up to and with each room.
    sums: Vec<u64>,
}

impl Zipf {
    /// Over `rooms` rooms (at least 1), the exponent in thousandths; 0 = evenly.
    pub fn new(rooms: u32, exponent_milli: u32) -> Zipf {
        let exponent = f64::from(exponent_milli) / 1_000.0;
        let mut sum = 0_u64;
        let sums = (1..=rooms.max(1)).map(|rank| {
            #[allow(
                clippy::cast_possible_truncation,
                reason = "between 0 and WEIGHT, and a fraction of a weight does not matter"
            )]
            let weight = (WEIGHT / f64::from(rank).powf(exponent)) as u64;
            sum += weight.max(1);
            sum
        });
        Zipf {
            sums: sums.collect(),
        }
    }

    /// A room.
    pub fn draw(&self, dice: &mut StdRng) -> u32 {
        let sum = self.sums.last().copied().unwrap_or(1);
        let at = dice.random_range(0..sum);
        u32::try_from(self.sums.partition_point(|sum| *sum <= at)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::dice::dice;

    #[test]
    fn every_equal_shard_has_a_room_and_names_give_their_rooms_back() {
        for rooms in [1, 16, 24, 200] {
            let names = names(rooms);
            assert_eq!(names.len(), rooms as usize);
            let shards = rooms.min(16);
            let mut covered = BTreeSet::new();
            for (room, name) in (0..).zip(&names) {
                assert_eq!(room_of(name), Some(room));
                let slot = ConversationName::parse(name).unwrap().key().slot();
                covered.insert((u32::from(slot.0) * shards) >> 16);
            }
            assert_eq!(covered.len(), shards as usize, "{rooms} rooms");
        }
        assert_eq!(room_of("tenants/other/conversations/room-1-2"), None);
        assert_eq!(room_of("tenants/sim/conversations/lobby"), None);
    }

    #[test]
    fn the_law_is_that_of_zipf() {
        let check = |exponent_milli, expect: [f64; 3]| {
            let (zipf, mut dice) = (Zipf::new(4, exponent_milli), dice(1, "zipf"));
            let mut drawn = [0_u32; 4];
            for _ in 0..20_000 {
                drawn[zipf.draw(&mut dice) as usize] += 1;
            }
            for (room, share) in expect.into_iter().enumerate() {
                let seen = f64::from(drawn[room]) / 20_000.0;
                assert!(
                    (seen - share).abs() < 0.02,
                    "{exponent_milli} {room} {seen}"
                );
            }
        };
        check(0, [0.25, 0.25, 0.25]);
        check(1_000, [12.0 / 25.0, 6.0 / 25.0, 4.0 / 25.0]);
        check(2_000, [144.0 / 205.0, 36.0 / 205.0, 16.0 / 205.0]);
    }
}
