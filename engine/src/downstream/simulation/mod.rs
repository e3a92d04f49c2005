//! Whole connections on a shard that the test drives: a client, the proxy and its origins are told
//! what to do, one act at a time.
//!
//! A story is told with its bytes cut at every place, its acts in every order, byte by byte, at random,
//! and given up after every resume of a task. However it is told, it ends the same, and these laws hold:
//!
//! - Nobody misses a wake-up: when nothing is left to do, resuming a task again changes nothing.
//! - When client and origins have gone, no task is left, and every gauge is back at zero.
//! - What was opened was closed, counted once.

mod compile;
mod frames;
mod http2_stories;
mod peer;
mod schedule;
mod stories;
mod tls;
mod world;

use self::peer::{Act, End};
use self::schedule::{Cut, Cuts, Orders, Random, Schedule, Straight};
use self::world::{Options, World};
use crate::shard::ring::{self, Ring};

/// What a client and its origins do, and what they get.
struct Story {
    options: Options,
    client: Vec<Act>,
    /// One for each connection to the origin, in this order.
    origins: Vec<Vec<Act>>,
    expected: fn(&Told),
}

/// What the bytes are carried by.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Over {
    #[default]
    Plain,
    /// The client speaks TLS.
    TlsOfClient,
    /// The origin speaks TLS.
    TlsOfOrigin,
}

/// In how many ways a story is told.
struct Ways {
    cuts: usize,
    random: u64,
    orders: usize,
    give_ups: usize,
}

impl Ways {
    fn of(story: &Story, over: Over) -> Self {
        let is_short = story.bytes() < SHORT;
        match over {
            Over::Plain if is_short => {
                Self { cuts: story.bytes(), random: 100, orders: 300, give_ups: usize::MAX }
            }
            Over::TlsOfClient | Over::TlsOfOrigin if is_short => {
                Self { cuts: 40, random: 20, orders: 20, give_ups: 20 }
            }
            _ => Self { cuts: 5, random: 3, orders: 1, give_ups: 10 },
        }
    }

    /// A story of HTTP/2. Frames over TLS are bytes as any others.
    fn of_frames(story: &Story, over: Over) -> Self {
        match over {
            Over::Plain if story.bytes() < SHORT => {
                Self { cuts: 60, random: 25, orders: 25, give_ups: usize::MAX }
            }
            Over::Plain => Self::of(story, over),
            Over::TlsOfClient | Over::TlsOfOrigin => {
                Self { cuts: 2, random: 3, orders: 1, give_ups: 5 }
            }
        }
    }
}

/// Fewer bytes than this are a short story.
const SHORT: usize = 1000;

/// What came of it.
#[derive(Clone, Default, Eq, PartialEq)]
struct Told {
    over: Over,
    /// What the client has received; the date is blanked.
    client: String,
    /// How its connection ended.
    end: End,
    /// What each connection to the origin has received.
    origins: Vec<String>,
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short = |text: &str| text.chars().take(SHORT).collect::<String>();
        f.debug_struct("Told")
            .field("over", &self.over)
            .field("client", &short(&self.client))
            .field("end", &self.end)
            .field("origins", &self.origins.iter().map(|text| short(text)).collect::<Vec<_>>())
            .finish()
    }
}

/// Tells a story in all ways, over all transports, on all kinds of ring.
fn tell(story: &Story) {
    for over in [Over::Plain, Over::TlsOfClient, Over::TlsOfOrigin] {
        tell_over(over, story);
    }
}

/// Tells a story of HTTP/2.
fn tell_frames(story: &Story) {
    for over in [Over::Plain, Over::TlsOfClient, Over::TlsOfOrigin] {
        tell_in(&Ways::of_frames(story, over), over, story);
    }
}

fn tell_over(over: Over, story: &Story) {
    tell_in(&Ways::of(story, over), over, story);
}

fn tell_in(ways: &Ways, over: Over, story: &Story) {
    for ring in [Ring::Epoll, Ring::DeferTaskrun] {
        if ring != Ring::Epoll && ring::build(ring).is_err() {
            eprintln!("SKIPPED: {ring} is not available here");
            continue;
        }
        let world = World::new(ring, over, &story.options);
        let mut straight = Straight::default();
        let resumes = told(&world, story, &mut straight, None);
        for at in (1..straight.bytes()).step_by(straight.bytes().div_ceil(ways.cuts)) {
            told(&world, story, &mut Cut::at(at), None);
        }
        if story.bytes() < SHORT {
            told(&world, story, &mut Cuts, None);
        }
        for seed in 0..ways.random {
            told(&world, story, &mut Random::new(seed), None);
        }
        let mut orders = Orders::default();
        for _ in 0..ways.orders {
            told(&world, story, &mut orders, None);
            if !orders.next() {
                break;
            }
        }
        for after in (0..resumes).step_by(resumes.div_ceil(ways.give_ups)) {
            told(&world, story, &mut Straight::default(), Some(after));
        }
        // Whatever was given up, the next one is served.
        told(&world, story, &mut Straight::default(), None);
    }
}

/// Tells a story once; gives its tasks up after so many resumes, if it says so. Returns the number of
/// resumes.
fn told(
    world: &World,
    story: &Story,
    schedule: &mut impl Schedule,
    given_up: Option<usize>,
) -> usize {
    let mut run = world.begin(&story.client, &story.origins);
    let description = format!("{schedule:?}, given up: {given_up:?}");
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        run.play(schedule, given_up);
        let told = run.told();
        if given_up.is_none() {
            (story.expected)(&told);
        }
        run.end();
        world.check_laws();
        run.resumes()
    }));
    ended.unwrap_or_else(|panic| {
        eprintln!("told as {description} ({schedule:?}), it went wrong: {:#?}", run.told());
        std::panic::resume_unwind(panic)
    })
}

impl Story {
    fn bytes(&self) -> usize {
        self.origins.iter().flatten().chain(&self.client).map(Act::bytes).sum()
    }
}
