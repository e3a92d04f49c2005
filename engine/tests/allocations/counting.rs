//! An allocator that counts the allocations of one thread, and records where they are made.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The system's allocator, with counting.
pub(crate) struct Counting;

/// The allocations [`during`] a function.
#[derive(Debug)]
pub(crate) struct Allocations {
    pub(crate) count: usize,
    /// The engine's frames of a backtrace, innermost first, and how often it occurred.
    backtraces: BTreeMap<String, usize>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Watch {
    /// Another thread.
    Off,
    On,
    /// The counting itself allocates.
    Busy,
}

thread_local! {
    static WATCH: Cell<Watch> = const { Cell::new(Watch::Off) };
}

static COUNTING: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicUsize = AtomicUsize::new(0);
static BACKTRACES: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

/// Only the first allocations are recorded: capturing a backtrace is slow.
const BACKTRACES_MAX: usize = 64;

/// Counts the allocations of the calling thread.
pub(crate) fn watch_this_thread() {
    WATCH.set(Watch::On);
}

/// The allocations of watched threads while `run` runs.
pub(crate) fn during(run: impl FnOnce()) -> Allocations {
    COUNT.store(0, Ordering::SeqCst);
    COUNTING.store(true, Ordering::SeqCst);
    run();
    COUNTING.store(false, Ordering::SeqCst);
    let backtraces = std::mem::take(&mut *BACKTRACES.lock().unwrap());
    Allocations { count: COUNT.load(Ordering::SeqCst), backtraces }
}

fn count() {
    if WATCH.get() != Watch::On || !COUNTING.load(Ordering::Relaxed) {
        return;
    }
    WATCH.set(Watch::Busy);
    if COUNT.fetch_add(1, Ordering::Relaxed) < BACKTRACES_MAX {
        let backtrace = engine_frames(&Backtrace::force_capture().to_string());
        *BACKTRACES.lock().unwrap().entry(backtrace).or_default() += 1;
    }
    WATCH.set(Watch::On);
}

fn engine_frames(backtrace: &str) -> String {
    let frames = backtrace.lines().map(str::trim);
    let ours =
        frames.filter(|frame| frame.contains("corvoy_engine::") || frame.contains("monoio::"));
    ours.take(6).collect::<Vec<_>>().join("\n    ")
}

impl fmt::Display for Allocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} allocations, the first of them here:", self.count)?;
        self.backtraces
            .iter()
            .try_for_each(|(backtrace, count)| writeln!(f, "  {count} times\n    {backtrace}"))
    }
}

#[expect(unsafe_code, reason = "an allocator is unsafe; this one forwards to the system's")]
// SAFETY: every call is forwarded unchanged, so the system allocator's promises hold.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the block came from this allocator, that is, from the system.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block came from this allocator, that is, from the system.
        unsafe { System.dealloc(block, layout) }
    }
}
