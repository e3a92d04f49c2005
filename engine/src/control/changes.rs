//! What is different in a new configuration, for the stats, the log and the drain of what is gone.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use super::counted;
use crate::downstream::Listener;
use crate::snapshot::Snapshot;
use crate::stats::{Gauge, ListenerManagerStats};
use crate::upstream::Cluster;

/// A listener that is gone, or not what it was.
#[derive(Clone, Debug)]
pub(super) struct Gone {
    pub(super) listener: Arc<Listener>,
    /// Whether only filter chains are gone.
    pub(super) in_place: bool,
    /// How many of them; 1 for a whole listener.
    pub(super) amount: u64,
}

impl Gone {
    fn of(listener: &Arc<Listener>, after: &Snapshot) -> Self {
        let next = after.listeners.iter().find(|it| it.name == listener.name);
        let next = next.filter(|it| it.frame == listener.frame);
        let amount = next.map_or(1, |next| next.filter_chains.count_gone(&listener.filter_chains));
        Self { listener: Arc::clone(listener), in_place: next.is_some(), amount }
    }

    /// What counts it while it drains.
    pub(super) const fn gauge<'a>(&self, stats: &'a ListenerManagerStats) -> &'a Gauge {
        if self.in_place {
            &stats.total_filter_chains_draining
        } else {
            &stats.total_listeners_draining
        }
    }
}

/// What is different in a new configuration.
#[derive(Debug)]
pub(super) struct Changes {
    pub(super) listeners: Tally,
    pub(super) clusters: Tally,
    /// What drains.
    pub(super) gone: Vec<Gone>,
}

/// How many listeners or clusters are different.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) added: u64,
    pub(super) modified: u64,
    pub(super) removed: u64,
    pub(super) total: u64,
}

impl Changes {
    pub(super) fn between(before: &Snapshot, after: &Snapshot) -> Self {
        let name = |listener: &Listener| listener.name.clone();
        let is_kept =
            |gone: &&Arc<Listener>| after.listeners.iter().any(|it| Arc::ptr_eq(it, gone));
        Self {
            listeners: Tally::of(&before.listeners, &after.listeners, name),
            clusters: Tally::of(&before.clusters, &after.clusters, |it: &Cluster| it.name.clone()),
            gone: {
                let gone = before.listeners.iter().filter(|it| !is_kept(it));
                gone.map(|it| Gone::of(it, after)).filter(|gone| gone.amount > 0).collect()
            },
        }
    }
}

impl Changes {
    /// Whether anything is different.
    pub(super) fn any(&self) -> bool {
        let is_any = |it: &Tally| it.added + it.modified + it.removed > 0;
        is_any(&self.listeners) || is_any(&self.clusters)
    }
}

impl Tally {
    /// Those that are the same in both count for nothing.
    fn of<T>(before: &[Arc<T>], after: &[Arc<T>], name: impl Fn(&T) -> String) -> Self {
        let mut counts = Self { total: after.len() as u64, ..Self::default() };
        let mut old: HashMap<String, &Arc<T>> = before.iter().map(|it| (name(it), it)).collect();
        for new in after {
            match old.remove(&name(new)) {
                None => counts.added += 1,
                Some(old) if !Arc::ptr_eq(old, new) => counts.modified += 1,
                Some(_) => {}
            }
        }
        counts.removed = old.len() as u64;
        counts
    }
}

impl fmt::Display for Changes {
    /// `2 listeners: 1 added, 1 modified; 3 clusters: unchanged`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (noun, counts, end) in
            [("listener", &self.listeners, "; "), ("cluster", &self.clusters, "")]
        {
            let Tally { added, modified, removed, total } = counts;
            write!(f, "{}: ", counted(*total, noun))?;
            let parts = [(added, "added"), (modified, "modified"), (removed, "removed")];
            let mut text = String::new();
            for (count, what) in parts.into_iter().filter(|(count, _)| **count > 0) {
                let comma = if text.is_empty() { "" } else { ", " };
                write!(text, "{comma}{count} {what}")?;
            }
            f.write_str(if text.is_empty() { "unchanged" } else { &text })?;
            f.write_str(end)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_by_their_numbers() {
        let [a, b, b2, c] = ["a", "b", "b", "c"].map(|name| Arc::new(name.to_owned()));
        let listeners =
            Tally::of(&[Arc::clone(&a), b], &[Arc::clone(&a), b2, Arc::clone(&c)], String::clone);
        let clusters = Tally::of(&[Arc::clone(&c), a], &[c], String::clone);
        let changes = Changes { listeners, clusters, gone: Vec::new() };
        assert_eq!(changes.to_string(), "3 listeners: 1 added, 1 modified; 1 cluster: 1 removed");
        let same = Tally { total: 2, ..Tally::default() };
        let changes = Changes { listeners: Tally::default(), clusters: same, gone: Vec::new() };
        assert_eq!(changes.to_string(), "0 listeners: unchanged; 2 clusters: unchanged");
    }
}
