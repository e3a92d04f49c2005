//! An allocator that counts what one thread takes, and remembers where.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The system's allocator, watched.
pub(crate) struct Counting;

/// What was taken [`during`] a story.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) count: usize,
    /// The engine's frames of a place, innermost first, and how often it was there.
    places: BTreeMap<String, usize>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Watch {
    /// Not the thread that we are interested in.
    Away,
    On,
    /// The watcher allocates too.
    Busy,
}

thread_local! {
    static WATCH: Cell<Watch> = const { Cell::new(Watch::Away) };
}

static COUNTING: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicUsize = AtomicUsize::new(0);
static PLACES: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

/// Only the first ones are looked at: taking a backtrace is slow.
const LOOKED_AT: usize = 64;

/// The thread that calls this is the one to watch.
pub(crate) fn watch_this_thread() {
    WATCH.set(Watch::On);
}

/// What watched threads take while `story` runs.
pub(crate) fn during(story: impl FnOnce()) -> Taken {
    COUNT.store(0, Ordering::SeqCst);
    COUNTING.store(true, Ordering::SeqCst);
    story();
    COUNTING.store(false, Ordering::SeqCst);
    let places = std::mem::take(&mut *PLACES.lock().unwrap());
    Taken { count: COUNT.load(Ordering::SeqCst), places }
}

fn taken() {
    if WATCH.get() != Watch::On || !COUNTING.load(Ordering::Relaxed) {
        return;
    }
    WATCH.set(Watch::Busy);
    if COUNT.fetch_add(1, Ordering::Relaxed) < LOOKED_AT {
        let place = engine_frames(&Backtrace::force_capture().to_string());
        *PLACES.lock().unwrap().entry(place).or_default() += 1;
    }
    WATCH.set(Watch::On);
}

fn engine_frames(backtrace: &str) -> String {
    let frames = backtrace.lines().map(str::trim);
    let ours =
        frames.filter(|frame| frame.contains("corvoy_engine::") || frame.contains("monoio::"));
    ours.take(6).collect::<Vec<_>>().join("\n    ")
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} allocations, the first of them here:", self.count)?;
        self.places
            .iter()
            .try_for_each(|(place, count)| writeln!(f, "  {count} times\n    {place}"))
    }
}

#[expect(unsafe_code, reason = "an allocator is unsafe; this one forwards to the system's")]
// SAFETY: every call is forwarded unchanged, so the system allocator's promises hold.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        taken();
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        taken();
        // SAFETY: the block came from this allocator, that is, from the system.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block came from this allocator, that is, from the system.
        unsafe { System.dealloc(block, layout) }
    }
}
