//! The consistent-hash ring: which node owns a key. Pure: the same members give the same answer
//! in every process, whatever its version of Rust.
//!
//! ```
//! use cairn_ring::Ring;
//! use cairn_types::Uuid;
//!
//! let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
//! let ring = Ring::new(7, &[a, b]);
//! assert_eq!(ring.epoch(), 7);
//! assert!(ring.owner(b"some-vm").is_some_and(|owner| owner == a || owner == b));
//! assert_eq!(Ring::new(8, &[]).owner(b"some-vm"), None);
//! ```

use std::hash::{Hash, Hasher};

use cairn_types::Uuid;
use hashring::HashRing;

/// Points that each node has on the ring. With so many, the load of three to a hundred nodes
/// stays within about 10 % of even.
pub const VIRTUAL_NODES: u32 = 1_000;

/// Who owns what, at one epoch.
#[derive(Debug, Clone)]
pub struct Ring {
    epoch: u64,
    points: HashRing<Point>,
}

impl Ring {
    /// The ring of these members. The order in which they are named does not matter.
    #[must_use]
    pub fn new(epoch: u64, members: &[Uuid]) -> Self {
        let mut points = HashRing::new();
        let all = members
            .iter()
            .flat_map(|node| (0..VIRTUAL_NODES).map(|index| Point { node: *node, index }));
        points.batch_add(all.collect());
        Self { epoch, points }
    }

    /// Grows with every change of the members.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The member that owns `key`; none if there is no member.
    #[must_use]
    pub fn owner(&self, key: &[u8]) -> Option<Uuid> {
        self.points.get(&Key(key)).map(|point| point.node)
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Point {
    node: Uuid,
    index: u32,
}

// The standard library does not promise how its own types feed a hasher, so points and keys
// are fed as bytes that are laid out here.
impl Hash for Point {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.node.as_bytes());
        state.write(&self.index.to_be_bytes());
    }
}

struct Key<'a>(&'a [u8]);

impl Hash for Key<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: u128) -> Vec<Uuid> {
        (1..=count).map(Uuid::from_u128).collect()
    }

    fn owners(ring: &Ring, keys: u32) -> Vec<Uuid> {
        (0..keys)
            .map(|k| ring.owner(format!("key-{k}").as_bytes()).unwrap())
            .collect()
    }

    #[test]
    fn every_process_and_version_agrees() {
        let ring = Ring::new(1, &nodes(5));
        let owners: Vec<_> = owners(&ring, 12)
            .iter()
            .map(|owner| owner.as_u128())
            .collect();
        // Golden: nodes of two versions share a ring.
        assert_eq!(owners, [1, 4, 3, 5, 4, 2, 4, 4, 4, 4, 3, 1]);
    }

    #[test]
    fn the_order_of_members_does_not_matter() {
        let mut reversed = nodes(7);
        reversed.reverse();
        assert_eq!(
            owners(&Ring::new(1, &nodes(7)), 1_000),
            owners(&Ring::new(1, &reversed), 1_000)
        );
    }

    #[test]
    fn the_load_is_within_ten_percent_of_even() {
        let ring = Ring::new(1, &nodes(3));
        let owners = owners(&ring, 60_000);
        for node in nodes(3) {
            let share = owners.iter().filter(|owner| **owner == node).count();
            assert!(
                (18_000..=22_000).contains(&share),
                "{node} owns {share} of 60000"
            );
        }
    }

    #[test]
    fn a_join_moves_keys_only_to_the_new_member() {
        let (before, after) = (Ring::new(1, &nodes(3)), Ring::new(2, &nodes(4)));
        let new = Uuid::from_u128(4);
        let (before, after) = (owners(&before, 20_000), owners(&after, 20_000));
        let moved = before.iter().zip(&after).filter(|(b, a)| b != a);
        assert!(moved.clone().all(|(_, a)| *a == new));
        let moved = moved.count();
        assert!(
            (4_500..=5_500).contains(&moved),
            "{moved} of 20000 moved, 5000 are ideal"
        );
    }
}
