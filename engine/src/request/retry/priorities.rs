//! `retry_priority`: a retry leaves out the priorities that earlier attempts went to.
//!
//! Pure: from what the priorities can carry to the loads of an attempt.

use crate::upstream::host_set::loads::{self, Availability, Load};

/// The priorities that the attempts of one request went to.
#[derive(Debug, Default)]
pub struct PreviousPriorities {
    attempted: Vec<u32>,
    /// By priority.
    excluded: Vec<bool>,
    loads: Vec<Load>,
}

impl PreviousPriorities {
    /// An attempt goes to a host of this priority.
    pub fn note(&mut self, priority: u32) {
        self.attempted.push(priority);
    }

    /// The last attempt does not count.
    pub fn forget_last(&mut self) {
        self.attempted.pop();
    }

    //= envoy: extensions.retry.priority.previous_priorities
    // When all priorities that have hosts to offer were tried, it begins anew.
    /// The loads of the next attempt; none: those of the host set. They change after every `update_frequency`
    /// attempts.
    pub fn loads(&mut self, levels: &[Availability], update_frequency: usize) -> Option<&[Load]> {
        let attempts = self.attempted.len();
        if attempts < update_frequency {
            return None;
        }
        if attempts.is_multiple_of(update_frequency) && !self.adjust(levels) {
            return None;
        }
        Some(&self.loads)
    }

    /// Leaves out the priorities that were tried; false: there is nothing else.
    fn adjust(&mut self, levels: &[Availability]) -> bool {
        self.excluded.resize(levels.len().max(self.excluded.len()), false);
        for priority in &self.attempted {
            if let Some(excluded) = self.excluded.get_mut(*priority as usize) {
                *excluded = true;
            }
        }
        let mut rest = self.without_excluded(levels);
        if loads::total(&rest) == 0 {
            self.excluded.fill(false);
            self.attempted.clear();
            rest = levels.to_vec();
        }
        if loads::total(&rest) == 0 {
            return false;
        }
        self.loads = loads::by_availability(&rest);
        true
    }

    fn without_excluded(&self, levels: &[Availability]) -> Vec<Availability> {
        let level = |(level, excluded): (&Availability, &bool)| {
            if *excluded { Availability::default() } else { *level }
        };
        levels.iter().zip(&self.excluded).map(level).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(healthy: &[u32]) -> Vec<Availability> {
        let level =
            |healthy: &u32| Availability { healthy: *healthy, hosts: 1, ..Default::default() };
        healthy.iter().map(level).collect()
    }

    fn healthy(loads: Option<&[Load]>) -> Option<Vec<u32>> {
        Some(loads?.iter().map(|load| load.healthy).collect())
    }

    #[test]
    fn a_retry_goes_to_the_next_priority() {
        let (mut tried, levels) = (PreviousPriorities::default(), levels(&[100, 100, 100]));
        assert_eq!(tried.loads(&levels, 1), None);
        tried.note(0);
        assert_eq!(healthy(tried.loads(&levels, 1)), Some(vec![0, 100, 0]));
        tried.note(1);
        assert_eq!(healthy(tried.loads(&levels, 1)), Some(vec![0, 0, 100]));
        tried.note(2);
        assert_eq!(healthy(tried.loads(&levels, 1)), Some(vec![100, 0, 0]));
        // From here on it begins anew.
        assert_eq!(tried.loads(&levels, 1), None);
    }

    #[test]
    fn priorities_change_with_the_update_frequency() {
        let (mut tried, levels) = (PreviousPriorities::default(), levels(&[100, 100]));
        tried.note(0);
        assert_eq!(tried.loads(&levels, 2), None);
        tried.note(0);
        assert_eq!(healthy(tried.loads(&levels, 2)), Some(vec![0, 100]));
        tried.note(1);
        assert_eq!(healthy(tried.loads(&levels, 2)), Some(vec![0, 100]));
    }

    #[test]
    fn without_another_priority_everything_stays() {
        let (mut tried, levels) = (PreviousPriorities::default(), levels(&[0, 0]));
        tried.note(0);
        assert_eq!(tried.loads(&levels, 1), None);
    }
}
