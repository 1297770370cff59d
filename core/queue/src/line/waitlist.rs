//! Those who wait, sorted by their turns. Who leaves early only leaves a mark, which is cleared
//! away with others: so the exit of any number in any order costs no more than their entry.

use std::collections::VecDeque;

use super::{Turn, Waiting};

/// Below this, memory is not given back.
const SMALL: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Waitlist {
    /// None: it has left.
    sorted: VecDeque<(Turn, Option<Waiting>)>,
    marks: usize,
}

impl Waitlist {
    pub(super) fn len(&self) -> usize {
        self.sorted.len() - self.marks
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn insert(&mut self, turn: Turn, waiting: Waiting) {
        let is_last = self.sorted.back().is_none_or(|(last, _)| *last < turn);
        if is_last {
            self.sorted.push_back((turn, Some(waiting)));
        } else {
            let place = self.sorted.partition_point(|(other, _)| *other < turn);
            self.sorted.insert(place, (turn, Some(waiting)));
        }
    }

    pub(super) fn get_mut(&mut self, turn: Turn) -> Option<&mut Waiting> {
        let place = self.place(turn)?;
        self.sorted[place].1.as_mut()
    }

    pub(super) fn remove(&mut self, turn: Turn) -> Option<Waiting> {
        let place = self.place(turn)?;
        let left = self.sorted[place].1.take()?;
        self.marks += 1;
        if self.marks * 2 > self.sorted.len() {
            self.clear_marks();
        }
        Some(left)
    }

    pub(super) fn pop(&mut self) -> Option<(Turn, Waiting)> {
        loop {
            let (turn, waiting) = self.sorted.pop_front()?;
            self.give_back();
            match waiting {
                Some(waiting) => return Some((turn, waiting)),
                None => self.marks -= 1,
            }
        }
    }

    /// How many wait before that one; none if it does not wait.
    pub(super) fn before(&mut self, turn: Turn) -> Option<usize> {
        self.clear_marks();
        self.place(turn)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Turn, &Waiting)> {
        let all = self.sorted.iter();
        all.filter_map(|(turn, waiting)| Some((*turn, waiting.as_ref()?)))
    }

    fn place(&self, turn: Turn) -> Option<usize> {
        let place = self.sorted.binary_search_by_key(&turn, |(turn, _)| *turn);
        place.ok()
    }

    fn clear_marks(&mut self) {
        if self.marks > 0 {
            self.sorted.retain(|(_, waiting)| waiting.is_some());
            self.marks = 0;
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        let (length, capacity) = (self.sorted.len(), self.sorted.capacity());
        if capacity > SMALL && length < capacity / 8 {
            self.sorted.shrink_to(length * 2);
        }
    }
}
