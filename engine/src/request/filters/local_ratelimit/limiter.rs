//! The buckets of a filter or a route, and which of them a request takes from.

use std::collections::HashMap;

use super::clients::Clients;
use crate::request::rate_limit::{Descriptor, QuotaHeaders, entries};
use crate::shard::clock::Millis;
use crate::token_bucket::{Rate, TokenBucket, Tokens};

/// What a limiter is made of.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) default: Default,
    pub(super) descriptors: Vec<Limit>,
    /// The most clients of each descriptor with a wildcard.
    pub(super) clients_max: usize,
    /// Whether a request that a descriptor limits takes from the default bucket, too.
    pub(super) always_consume_default: bool,
}

/// The bucket for what no descriptor limits.
#[derive(Clone, Copy, Debug)]
pub(super) enum Default {
    /// There is none: everything passes.
    Unlimited,
    /// It is always empty.
    Nothing,
    Bucket(Rate),
}

/// A configured descriptor.
#[derive(Clone, Debug)]
pub(super) struct Limit {
    /// As [`Descriptor::entries`].
    pub(super) entries: Vec<u8>,
    pub(super) rate: Rate,
    /// Whether it only counts.
    pub(super) is_shadow: bool,
}

/// The buckets at work.
#[derive(Debug)]
pub(super) struct Limiter {
    default: DefaultBucket,
    /// By their entries.
    exact: HashMap<Vec<u8>, (TokenBucket, Mode)>,
    /// Those in which a value is empty: each of its values has a bucket of its own.
    wildcards: Box<[Wildcard]>,
    always_consume_default: bool,
}

#[derive(Debug)]
enum DefaultBucket {
    Unlimited,
    Nothing,
    Bucket(TokenBucket),
}

#[derive(Debug)]
struct Wildcard {
    entries: Vec<u8>,
    rate: Rate,
    mode: Mode,
    clients: Clients,
}

/// Whether a bucket refuses requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    Enforced,
    Shadow,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Decision {
    pub(super) verdict: Verdict,
    /// Of the bucket that decided, or of the slowest one.
    pub(super) quota: Option<Quota>,
    /// Whether the descriptor of that bucket wants the client to know.
    pub(super) headers: QuotaHeaders,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Allowed,
    Limited,
    /// It would be limited, if the descriptor did not only count.
    Shadow,
}

/// The state of a bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Quota {
    /// The most tokens.
    pub(super) limit: f64,
    /// How many are left.
    pub(super) left: f64,
    /// Milliseconds for one token.
    pub(super) interval: f64,
}

/// A bucket that a request takes from.
#[derive(Clone, Copy)]
struct Match<'a> {
    rate: &'a Rate,
    tokens: &'a Tokens,
    mode: Mode,
    descriptor: &'a Descriptor,
}

impl Limiter {
    pub(super) fn new(plan: &Plan) -> Self {
        let Plan { default, descriptors, clients_max, always_consume_default } = plan;
        let mode = |limit: &Limit| if limit.is_shadow { Mode::Shadow } else { Mode::Enforced };
        let (wildcards, exact): (Vec<_>, Vec<_>) =
            descriptors.iter().partition(|limit| has_wildcard(&limit.entries));
        let exact = exact
            .into_iter()
            .map(|limit| (limit.entries.clone(), (TokenBucket::new(limit.rate), mode(limit))));
        let wildcards = wildcards.into_iter().map(|limit| Wildcard {
            entries: limit.entries.clone(),
            rate: limit.rate,
            mode: mode(limit),
            clients: Clients::new(*clients_max),
        });
        Self {
            default: match default {
                Default::Unlimited => DefaultBucket::Unlimited,
                Default::Nothing => DefaultBucket::Nothing,
                Default::Bucket(rate) => DefaultBucket::Bucket(TokenBucket::new(*rate)),
            },
            exact: exact.collect(),
            wildcards: wildcards.collect(),
            always_consume_default: *always_consume_default,
        }
    }

    /// Takes the tokens of a request with these descriptors.
    pub(super) fn decide(&self, descriptors: &[Descriptor], now: Millis) -> Decision {
        let matches = descriptors.iter().filter_map(|descriptor| self.find(descriptor, now));
        let mut matches: Vec<_> = matches.collect();
        // As in Envoy, the slowest bucket is asked first, so that most refused requests take no tokens from
        // the others.
        matches.sort_by(|a, b| b.rate.interval().total_cmp(&a.rate.interval()));
        for found in &matches {
            let Descriptor { hits, is_negative, .. } = found.descriptor;
            //= envoy: a request without hits takes nothing, which counts as a refusal.
            let hits = hits.unwrap_or(1);
            let is_none = hits == 0;
            // At most 10^9.
            #[expect(clippy::cast_precision_loss, reason = "it is far below 2^53")]
            let hits = hits as f64;
            if *is_negative {
                found.tokens.put_back(hits, found.rate, now);
            } else if is_none || !found.tokens.take(hits, found.rate, now) {
                let verdict = match found.mode {
                    Mode::Enforced => Verdict::Limited,
                    Mode::Shadow => Verdict::Shadow,
                };
                return found.decision(verdict, now);
            }
        }
        let first = || match matches.first() {
            Some(first) => first.decision(Verdict::Allowed, now),
            None => Decision::without_bucket(Verdict::Allowed),
        };
        if !matches.is_empty() && !self.always_consume_default {
            return first();
        }
        match &self.default {
            DefaultBucket::Unlimited => first(),
            DefaultBucket::Nothing => Decision::without_bucket(Verdict::Limited),
            DefaultBucket::Bucket(bucket) => {
                let of_default = |verdict| Decision {
                    quota: Some(Quota::of(bucket.rate(), bucket.tokens(), now)),
                    ..Decision::without_bucket(verdict)
                };
                if !bucket.take(now) {
                    of_default(Verdict::Limited)
                } else if matches.is_empty() {
                    of_default(Verdict::Allowed)
                } else {
                    first()
                }
            }
        }
    }

    fn find<'a>(&'a self, descriptor: &'a Descriptor, now: Millis) -> Option<Match<'a>> {
        if let Some((bucket, mode)) = self.exact.get(&descriptor.entries) {
            let (rate, tokens) = (bucket.rate(), bucket.tokens());
            return Some(Match { rate, tokens, mode: *mode, descriptor });
        }
        let wildcard = self.wildcards.iter().find(|it| it.matches(&descriptor.entries))?;
        let Wildcard { entries: _, rate, mode, clients } = wildcard;
        let tokens = clients.bucket(&descriptor.entries, now)?;
        Some(Match { rate, tokens, mode: *mode, descriptor })
    }
}

impl Wildcard {
    /// Whether the keys are the same, and the values that are not empty.
    fn matches(&self, written: &[u8]) -> bool {
        let (mut ours, mut theirs) = (entries(&self.entries), entries(written));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (Some((key, value)), Some((their_key, their_value)))
                    if key == their_key && (value.is_empty() || value == their_value) => {}
                _ => return false,
            }
        }
    }
}

impl Match<'_> {
    fn decision(&self, verdict: Verdict, now: Millis) -> Decision {
        let quota = Quota::of(self.rate, self.tokens, now);
        Decision { verdict, quota: Some(quota), headers: self.descriptor.headers }
    }
}

impl Decision {
    const fn without_bucket(verdict: Verdict) -> Self {
        Self { verdict, quota: None, headers: QuotaHeaders::Unspecified }
    }
}

impl Quota {
    fn of(rate: &Rate, tokens: &Tokens, now: Millis) -> Self {
        let left = tokens.left(rate, now);
        Self { limit: rate.tokens_max(), left, interval: rate.interval() }
    }

    /// Seconds until there is a token.
    pub(super) fn next_token_seconds(&self) -> f64 {
        ((1.0 - self.left) * self.interval / 1000.0).max(0.0).ceil()
    }
}

/// Whether a value is empty.
fn has_wildcard(written: &[u8]) -> bool {
    entries(written).any(|(_, value)| value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::request::rate_limit::Entries;

    const HOUR: Duration = Duration::from_secs(3600);

    fn text(list: &[(&str, &str)]) -> Vec<u8> {
        let mut entries = Entries::default();
        list.iter().for_each(|(key, value)| entries.add(key.as_bytes(), value.as_bytes()));
        entries.finish()
    }

    fn limit(list: &[(&str, &str)], tokens: u32) -> Limit {
        Limit { entries: text(list), rate: Rate::new(tokens, tokens, HOUR), is_shadow: false }
    }

    fn plan(descriptors: Vec<Limit>) -> Plan {
        let default = Default::Bucket(Rate::new(3, 3, HOUR));
        Plan { default, descriptors, clients_max: 2, always_consume_default: false }
    }

    fn of(list: &[(&str, &str)]) -> Descriptor {
        let (entries, headers) = (text(list), QuotaHeaders::Unspecified);
        Descriptor { entries, hits: None, is_negative: false, headers, limit: None }
    }

    fn verdict(limiter: &Limiter, descriptors: &[Descriptor]) -> Verdict {
        limiter.decide(descriptors, 1).verdict
    }

    #[test]
    fn a_request_takes_from_the_bucket_of_its_descriptor_or_the_default_one() {
        use Verdict::{Allowed, Limited};
        let limiter = Limiter::new(&plan(vec![limit(&[("a", "1")], 1)]));
        let [known, unknown] = [[of(&[("a", "1")])], [of(&[("a", "2")])]];
        assert_eq!([(); 2].map(|()| verdict(&limiter, &known)), [Allowed, Limited]);
        assert_eq!([(); 3].map(|()| verdict(&limiter, &unknown)), [Allowed; 3]);
        assert_eq!(verdict(&limiter, &[]), Limited, "both take from the default bucket");
    }

    #[test]
    fn the_default_bucket_may_be_taken_from_always() {
        let plan = Plan { always_consume_default: true, ..plan(vec![limit(&[("a", "1")], 9)]) };
        let limiter = Limiter::new(&plan);
        let verdicts = [(); 4].map(|()| verdict(&limiter, &[of(&[("a", "1")])]));
        assert_eq!(
            verdicts,
            [Verdict::Allowed, Verdict::Allowed, Verdict::Allowed, Verdict::Limited]
        );
    }

    #[test]
    fn each_value_of_a_wildcard_has_its_own_bucket() {
        use Verdict::{Allowed, Limited};
        let limiter = Limiter::new(&plan(vec![limit(&[("a", "1"), ("client", "")], 1)]));
        let client = |name| [of(&[("a", "1"), ("client", name)])];
        assert_eq!([(); 2].map(|()| verdict(&limiter, &client("x"))), [Allowed, Limited]);
        assert_eq!([(); 2].map(|()| verdict(&limiter, &client("y"))), [Allowed, Limited]);
        let other = [of(&[("a", "2"), ("client", "x")])];
        assert_eq!(verdict(&limiter, &other), Allowed, "the default bucket");
    }

    #[test]
    fn the_slowest_bucket_decides_first_and_a_refused_request_takes_nothing_from_the_others() {
        let limiter =
            Limiter::new(&plan(vec![limit(&[("fast", "1")], 9), limit(&[("slow", "1")], 1)]));
        let both = [of(&[("fast", "1")]), of(&[("slow", "1")])];
        assert_eq!(verdict(&limiter, &both), Verdict::Allowed);
        assert_eq!(verdict(&limiter, &both), Verdict::Limited);
        let quota = limiter.decide(&both[..1], 1).quota.unwrap();
        assert!((quota.left - 7.0).abs() < 1e-3, "{quota:?}");
    }

    #[test]
    fn hits_count_more_or_less_than_one() {
        let limiter = Limiter::new(&plan(vec![limit(&[("a", "1")], 5)]));
        let hits =
            |hits, is_negative| [Descriptor { hits: Some(hits), is_negative, ..of(&[("a", "1")]) }];
        assert_eq!(verdict(&limiter, &hits(4, false)), Verdict::Allowed);
        assert_eq!(verdict(&limiter, &hits(4, false)), Verdict::Limited);
        assert_eq!(verdict(&limiter, &hits(3, true)), Verdict::Allowed);
        assert_eq!(verdict(&limiter, &hits(4, false)), Verdict::Allowed);
    }

    #[test]
    fn a_descriptor_may_only_count() {
        let shadow = Limit { is_shadow: true, ..limit(&[("a", "1")], 0) };
        let limiter = Limiter::new(&plan(vec![shadow]));
        assert_eq!(verdict(&limiter, &[of(&[("a", "1")])]), Verdict::Shadow);
    }

    #[test]
    fn without_a_default_bucket_everything_passes_and_an_empty_one_lets_nothing_pass() {
        let with = |default| Limiter::new(&Plan { default, ..plan(Vec::new()) });
        assert_eq!(verdict(&with(Default::Unlimited), &[]), Verdict::Allowed);
        assert_eq!(verdict(&with(Default::Nothing), &[]), Verdict::Limited);
    }
}
