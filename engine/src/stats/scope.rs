//! One set of stats under one prefix: a block for each shard and one for the control plane.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::hash::xxh64;
use crate::stats::codes;
use crate::stats::reading::{Listed, Name, Reading, Value};
use crate::stats::summary::{Merge, Summary};
use crate::stats::{Counter, Declared, Gauge, Kind, Stat, StatSet};

/// The blocks of one set of stats.
///
/// Invariant: block N is written by shard N only, `control` by the control plane only.
pub struct Scope<S> {
    prefix: Box<str>,
    /// A block is allocated by the thread that writes it, at the first write: so it is on that thread's
    /// memory node, and a shard that never writes has none.
    shards: Box<[Lazy<S>]>,
    control: Lazy<S>,
    /// What is kept from one read to the next, for the control plane. Shards never take the lock.
    kept: Mutex<Kept>,
}

impl<S: StatSet> Scope<S> {
    /// A scope that is not in the registry, nor in `/stats`. For hosts, which `/clusters` shows.
    pub fn unlisted(shards: usize) -> Self {
        Self::new("", shards)
    }

    pub(super) fn new(prefix: &str, shards: usize) -> Self {
        let shards = (0..shards).map(|_| Lazy::default()).collect();
        Self { prefix: prefix.into(), shards, control: Lazy::default(), kept: Mutex::default() }
    }

    /// The block of one shard. For that shard only.
    #[inline]
    pub fn shard(&self, shard: usize) -> &S {
        debug_assert!(shard < self.shards.len(), "no such shard: {shard}");
        self.shards.get(shard).unwrap_or(&self.control).make()
    }

    /// The block of the control plane. For its thread only.
    #[inline]
    pub fn control(&self) -> &S {
        self.control.make()
    }

    /// The sum over all blocks, for any thread.
    pub fn counter(&self, field: impl Fn(&S) -> &Counter) -> u64 {
        self.blocks().fold(0, |sum, block| sum.wrapping_add(field(block).value()))
    }

    /// The count of one shard, for any thread.
    pub fn shard_counter(&self, shard: usize, field: impl Fn(&S) -> &Counter) -> u64 {
        self.shards.get(shard).and_then(Lazy::made).map_or(0, |block| field(block).value())
    }

    /// The sum over all blocks, for any thread.
    pub fn gauge(&self, field: impl Fn(&S) -> &Gauge) -> u64 {
        self.blocks().map(|block| field(block).signed()).sum::<i64>().try_into().unwrap_or(0)
    }

    /// Whether a block was ever written, for any thread.
    pub fn is_gauge_used(&self, field: impl Fn(&S) -> &Gauge) -> bool {
        self.blocks().any(|block| field(block).is_used())
    }

    /// The value of one shard, for any thread.
    pub fn shard_gauge(&self, shard: usize, field: impl Fn(&S) -> &Gauge) -> u64 {
        self.shards.get(shard).and_then(Lazy::made).map_or(0, |block| field(block).value())
    }

    /// The greatest value over all blocks, for any thread; none before the first write.
    pub fn greatest<T: Ord>(&self, of: impl Fn(&S) -> T) -> Option<T> {
        self.blocks().map(of).max()
    }

    /// The number of shards.
    pub const fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The prefix of the names: `cluster.httpbin.`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The blocks that were written to.
    fn blocks(&self) -> impl Iterator<Item = &S> {
        self.shards.iter().chain([&self.control]).filter_map(Lazy::made)
    }

    /// The fields of one declared stat in the blocks that were written to.
    fn stats(&self, declared: &Declared<S>) -> impl Iterator<Item = Stat<'_>> {
        self.blocks().filter_map(declared.stat)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every counter of one declared stat, without resets, with its part of the name.
    fn each_count(&self, declared: &Declared<S>, mut visit: impl FnMut(Part, u64)) {
        match declared.kind {
            Kind::Counter => visit(Part::Whole, self.stats(declared).map(counted).sum()),
            Kind::WorkerCounter => {
                visit(Part::Whole, self.stats(declared).map(counted).sum());
                for (worker, shard) in self.shards.iter().enumerate() {
                    let count = shard.made().and_then(declared.stat).map_or(0, counted);
                    visit(Part::Worker(worker), count);
                }
            }
            Kind::Codes | Kind::DeclaredCodes => {
                let mut counts = BTreeMap::new();
                for stat in self.stats(declared) {
                    if let Stat::Codes(codes) = stat {
                        codes.each(|code, count| *counts.entry(code).or_default() += count);
                    }
                }
                counts.into_iter().for_each(|(code, count)| visit(Part::Code(code), count));
            }
            Kind::Names => {
                let mut counts = BTreeMap::new();
                for stat in self.stats(declared) {
                    if let Stat::Names(names) = stat {
                        names.each(|name, count| *counts.entry(name).or_default() += count);
                    }
                }
                counts.into_iter().for_each(|(name, count)| visit(Part::Named(name), count));
            }
            _ => {}
        }
    }

    fn read_counters(
        &self,
        index: usize,
        declared: &Declared<S>,
        mut visit: impl FnMut(Name<'static>, u64, bool),
    ) {
        let kept = self.kept();
        self.each_count(declared, |part, count| {
            let name = match part {
                Part::Code(code) => Name::Code(declared.name, code),
                Part::Named(name) => Name::Named(declared.name, name),
                Part::Whole => Name::Plain(declared.name),
                Part::Worker(worker) => Name::Worker(worker, declared.name),
            };
            visit(name, count.wrapping_sub(kept.zero(index, part)), count > 0);
        });
    }

    fn read_codes(
        &self,
        index: usize,
        declared: &Declared<S>,
        mut visit: impl FnMut(Name<'static>, u64, bool),
    ) {
        let (mut classes, mut completed) = (BTreeMap::<u16, u64>::new(), None);
        let kept = self.kept();
        self.each_count(declared, |part, count| {
            let count = count.wrapping_sub(kept.zero(index, part));
            *completed.get_or_insert(0) += count;
            let Part::Code(code) = part else { return };
            if code == codes::UNKNOWN {
                return visit(Name::Unknown(declared.name), count, true);
            }
            visit(Name::Code(declared.name, code), count, true);
            *classes.entry(code / 100).or_default() += count;
        });
        for (class, count) in classes {
            visit(Name::Class(declared.name, class), count, true);
        }
        if completed.is_some() || declared.kind == Kind::DeclaredCodes {
            visit(Name::Completed(declared.name), completed.unwrap_or(0), completed.is_some());
        }
    }

    fn read_gauge(&self, declared: &Declared<S>, mut visit: impl FnMut(Name<'static>, u64, bool)) {
        let gauges = || self.stats(declared).filter_map(gauge_of);
        let used = gauges().any(Gauge::is_used);
        let value = match declared.kind {
            Kind::PeakGauge => gauges().map(Gauge::value).max().unwrap_or(0),
            _ => gauges().map(Gauge::signed).sum::<i64>().try_into().unwrap_or(0),
        };
        visit(Name::Plain(declared.name), value, used);
        if declared.kind == Kind::WorkerGauge {
            for (worker, shard) in self.shards.iter().enumerate() {
                let gauge = shard.made().and_then(declared.stat).and_then(gauge_of);
                let (value, used) =
                    gauge.map_or((0, false), |gauge| (gauge.value(), gauge.is_used()));
                visit(Name::Worker(worker, declared.name), value, used);
            }
        }
    }

    fn histogram_is_used(&self, declared: &Declared<S>) -> bool {
        self.stats(declared)
            .any(|stat| matches!(stat, Stat::Histogram(histogram) if histogram.is_used()))
    }
}

impl<S: StatSet> Listed for Scope<S> {
    fn prefix(&self) -> &str {
        &self.prefix
    }

    fn set(&self) -> TypeId {
        TypeId::of::<S>()
    }

    fn declared(&self, index: usize) -> Option<(&'static str, Kind)> {
        S::STATS.get(index).map(|declared| (declared.name, declared.kind))
    }

    fn read(&self, index: usize, visit: &mut dyn FnMut(&Reading<'_>)) {
        let Some(declared) = S::STATS.get(index) else { return };
        if S::IS_LATE && self.blocks().next().is_none() {
            return;
        }
        let mut counter = |name: Name<'static>, value, used| {
            visit(&Reading { name, value: Value::Counter(value), used })
        };
        match declared.kind {
            Kind::ConstantCounter => counter(Name::Plain(declared.name), 0, false),
            Kind::LateConstantCounter => {
                if self.shards.iter().any(|shard| shard.made().is_some()) {
                    counter(Name::Plain(declared.name), 0, false);
                }
            }
            Kind::Counter | Kind::Names | Kind::WorkerCounter => {
                self.read_counters(index, declared, counter);
            }
            Kind::Codes | Kind::DeclaredCodes => self.read_codes(index, declared, counter),
            Kind::ConstantGauge => {
                let (name, value) = (Name::Plain(declared.name), Value::Gauge(0));
                visit(&Reading { name, value, used: false });
            }
            Kind::Gauge | Kind::PeakGauge | Kind::WorkerGauge => {
                self.read_gauge(declared, |name, value, used| {
                    visit(&Reading { name, value: Value::Gauge(value), used });
                });
            }
            Kind::Hash => {
                let text = self.stats(declared).find_map(text_of);
                let value = Value::Gauge(text.as_ref().map_or(0, |text| xxh64(text.as_bytes())));
                visit(&Reading { name: Name::Plain(declared.name), value, used: text.is_some() });
            }
            Kind::Text => {
                let text = self.stats(declared).find_map(text_of);
                let (used, text) = (text.is_some(), text.unwrap_or_default());
                visit(&Reading {
                    name: Name::Plain(declared.name),
                    value: Value::Text(&text),
                    used,
                });
            }
            Kind::Histogram | Kind::LateHistogram => {
                let used = self.histogram_is_used(declared);
                if used || declared.kind == Kind::Histogram {
                    let (kept, none) = (self.kept(), Summary::default());
                    let value = Value::Histogram(kept.summaries.get(&index).unwrap_or(&none));
                    visit(&Reading { name: Name::Plain(declared.name), value, used });
                }
            }
        }
    }

    fn reset_counters(&self) {
        let mut kept = self.kept();
        for (index, declared) in S::STATS.iter().enumerate() {
            self.each_count(declared, |part, count| {
                if count > 0 {
                    kept.zeros.insert((index, part), count);
                }
            });
        }
    }

    fn latch(&self, index: usize, name: Name<'static>, value: u64) -> u64 {
        let before = self.kept().latched.insert((index, name), value).unwrap_or(0);
        // After a reset all that there is was added since.
        if before > value { value } else { value - before }
    }

    fn flush(&self, merge: &mut Merge) {
        let mut kept = self.kept();
        for (index, declared) in S::STATS.iter().enumerate() {
            if self.histogram_is_used(declared) {
                merge.clear();
                for stat in self.stats(declared) {
                    if let Stat::Histogram(histogram) = stat {
                        histogram.each(|bin, count| merge.record(bin, count));
                    }
                }
                kept.summaries.entry(index).or_default().flush(merge);
            }
        }
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl<S> fmt::Debug for Scope<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

fn counted(stat: Stat<'_>) -> u64 {
    if let Stat::Counter(counter) = stat { counter.value() } else { 0 }
}

fn gauge_of(stat: Stat<'_>) -> Option<&Gauge> {
    if let Stat::Gauge(gauge) = stat { Some(gauge) } else { None }
}

fn text_of(stat: Stat<'_>) -> Option<Arc<str>> {
    if let Stat::Text(text) = stat { text.get() } else { None }
}

/// One of the counts of a declared stat.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Part {
    /// Of one response code.
    Code(u16),
    /// Of one name.
    Named(&'static str),
    /// The sum over the shards.
    Whole,
    /// Of one shard.
    Worker(usize),
}

/// What the control plane keeps for a scope.
#[derive(Debug, Default)]
struct Kept {
    /// What counters had when they were reset, by declared stat and part.
    zeros: HashMap<(usize, Part), u64>,
    /// The histograms that were used, by declared stat.
    summaries: BTreeMap<usize, Summary>,
    /// What counters had at the last flush to sinks.
    latched: HashMap<(usize, Name<'static>), u64>,
}

impl Kept {
    fn zero(&self, index: usize, part: Part) -> u64 {
        if self.zeros.is_empty() {
            return 0;
        }
        self.zeros.get(&(index, part)).copied().unwrap_or(0)
    }
}

/// A block, allocated at the first write.
struct Lazy<S>(OnceLock<Box<Block<S>>>);

impl<S: Default> Lazy<S> {
    #[inline]
    fn make(&self) -> &S {
        &self.0.get_or_init(Box::default).stats
    }

    fn made(&self) -> Option<&S> {
        self.0.get().map(|block| &block.stats)
    }
}

impl<S> Default for Lazy<S> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

/// Two cache lines, because the processor fetches them in pairs: no block shares one with its neighbour.
#[derive(Default)]
#[repr(align(128))]
struct Block<S> {
    stats: S,
}
