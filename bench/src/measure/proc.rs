//! Time and memory of a process and its children, from /proc.
//!
//! CPU time is the scheduler's sum in nanoseconds (`schedstat`, all threads of all processes); the
//! split into user and system comes from `stat`, which counts in ticks and is as coarse.

use std::fs;
use std::path::Path;

use anyhow::Context;

/// CPU time spent so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cpu {
    pub(crate) total_ns: u64,
    user_ticks: u64,
    system_ticks: u64,
}

/// Current memory, in KiB; `pss` divides shared pages among the processes that map them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Memory {
    pub(crate) rss_kib: u64,
    pub(crate) pss_kib: u64,
}

impl Cpu {
    /// The CPU time of `root` and its descendants.
    pub(crate) fn of(root: u32) -> anyhow::Result<Self> {
        let mut sum = Self::default();
        for pid in tree(root)? {
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            let stat = Stat::parse(&stat).with_context(|| format!("/proc/{pid}/stat"))?;
            sum.user_ticks += stat.user_ticks;
            sum.system_ticks += stat.system_ticks;
            sum.total_ns += threads_ns(pid)?;
        }
        Ok(sum)
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            total_ns: self.total_ns.saturating_sub(before.total_ns),
            user_ticks: self.user_ticks.saturating_sub(before.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(before.system_ticks),
        }
    }

    pub(crate) fn total_us(self) -> f64 {
        self.total_ns as f64 / 1e3
    }

    /// The fraction of the time that was spent in user space, by ticks.
    pub(crate) fn user_share(self) -> f64 {
        let ticks = self.user_ticks + self.system_ticks;
        if ticks == 0 { 0.0 } else { self.user_ticks as f64 / ticks as f64 }
    }
}

impl Memory {
    /// The memory of `root` and its descendants.
    pub(crate) fn of(root: u32) -> anyhow::Result<Self> {
        let mut sum = Self::default();
        for pid in tree(root)? {
            let Ok(rollup) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
                continue;
            };
            sum.rss_kib += field_kib(&rollup, "Rss:").unwrap_or(0);
            sum.pss_kib += field_kib(&rollup, "Pss:").unwrap_or(0);
        }
        Ok(sum)
    }
}

/// A process and its current descendants.
pub(crate) fn tree(root: u32) -> anyhow::Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        if let Some(stat) = Stat::parse(&stat) {
            parents.push((pid, stat.parent));
        }
    }
    Ok(descendants(root, &parents))
}

fn descendants(root: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found
}

fn threads_ns(pid: u32) -> anyhow::Result<u64> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Ok(0) };
    let mut sum = 0;
    for thread in threads.flatten() {
        sum += schedstat_ns(&thread.path())?;
    }
    Ok(sum)
}

fn schedstat_ns(thread: &Path) -> anyhow::Result<u64> {
    let path = thread.join("schedstat");
    let Ok(text) = fs::read_to_string(&path) else { return Ok(0) }; // it ended just now
    parse_schedstat(&text).with_context(|| path.display().to_string())
}

/// The first number: nanoseconds on a core.
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

fn field_kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The fields of `/proc/PID/stat` that are used here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stat {
    parent: u32,
    user_ticks: u64,
    system_ticks: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The program's name may contain spaces and brackets; it ends at the last bracket.
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let user_ticks = fields.nth(9)?.parse().ok()?;
        let system_ticks = fields.next()?.parse().ok()?;
        Some(Self { parent, user_ticks, system_ticks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_after_a_name_with_spaces_and_brackets() {
        let text = "77 (a (b) c) S 12 77 77 0 -1 4194560 100 0 0 0 345 67 8 9 20 0 3 0 99 1 2";
        let expected = Stat { parent: 12, user_ticks: 345, system_ticks: 67 };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("77 (cut"), None);
    }

    #[test]
    fn schedstat_begins_with_the_time_on_a_core() {
        assert_eq!(parse_schedstat("856762 67310 1\n"), Some(856_762));
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn memory_is_taken_from_its_own_line() {
        let rollup = "55d0-7ffd ---p 00000000 00:00 0 [rollup]\nRss:  1234 kB\nPss:   567 kB\n\
            Pss_Dirty: 9 kB\n";
        assert_eq!(field_kib(rollup, "Rss:"), Some(1234));
        assert_eq!(field_kib(rollup, "Pss:"), Some(567));
        assert_eq!(field_kib(rollup, "Swap:"), None);
    }

    #[test]
    fn descendants_are_found_across_generations() {
        let parents = [(10, 1), (11, 10), (12, 11), (13, 2), (14, 10)];
        let mut found = descendants(10, &parents);
        found.sort_unstable();
        assert_eq!(found, [10, 11, 12, 14]);
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let (before, mut burnt) = (Cpu::of(std::process::id()).unwrap(), 0_u64);
        let begin = std::time::Instant::now();
        while begin.elapsed().as_millis() < 30 {
            burnt = burnt.wrapping_mul(31).wrapping_add(1);
        }
        assert_ne!(std::hint::black_box(burnt), 0);
        let used = Cpu::of(std::process::id()).unwrap().since(before);
        assert!(used.total_ns > 1_000_000, "{used:?}");
        assert!(Memory::of(std::process::id()).unwrap().rss_kib > 500);
    }
}
