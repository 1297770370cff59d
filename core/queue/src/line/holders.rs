//! Those who run in a queue. One as a rule, which needs no memory of its own; many are found by
//! their numbers.

use std::collections::BTreeMap;

use super::Holder;

#[derive(Debug, Default)]
pub(super) enum Holders {
    #[default]
    None,
    One(u64, Holder),
    Many(BTreeMap<u64, Holder>),
}

impl Holders {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(..) => 1,
            Self::Many(many) => many.len(),
        }
    }

    pub(super) fn push(&mut self, number: u64, holder: Holder) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(number, holder),
            Self::One(first, one) => Self::Many(BTreeMap::from([(first, one), (number, holder)])),
            Self::Many(mut many) => {
                many.insert(number, holder);
                Self::Many(many)
            }
        };
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, number: u64) -> bool {
        match self {
            Self::One(one, _) if *one == number => {
                *self = Self::None;
                true
            }
            Self::Many(many) => {
                let was = many.remove(&number).is_some();
                if many.is_empty() {
                    *self = Self::None;
                }
                was
            }
            Self::None | Self::One(..) => false,
        }
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Holder> {
        match self {
            Self::One(one, holder) if *one == number => Some(holder),
            Self::Many(many) => many.get_mut(&number),
            Self::None | Self::One(..) => None,
        }
    }

    /// In the order in which they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Holder> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(_, one) => (Some(one), None),
            Self::Many(many) => (None, Some(many.values())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Holder> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(_, one) => (Some(one), None),
            Self::Many(many) => (None, Some(many.values_mut())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}
