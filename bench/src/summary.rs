//! From samples to figures: medians with their range, and ratios pair by pair.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The results of one peer in one round of one scenario: figures by name.
pub(crate) type Figures = BTreeMap<String, f64>;

/// One measurement, or why it failed.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Sample {
    pub(crate) scenario: String,
    pub(crate) peer: String,
    pub(crate) round: usize,
    #[serde(default)]
    pub(crate) figures: Figures,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<String>,
}

/// The median of several values, and their range.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) count: usize,
}

/// The ratio of two peers in one figure.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Ratio {
    pub(crate) of: String,
    pub(crate) to: String,
    /// The ratio of the two medians.
    pub(crate) medians: f64,
    /// The ratios per round, where both peers have a value.
    pub(crate) rounds: Spread,
}

impl Spread {
    /// None without a value.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), min, max, count: values.len() })
    }
}

/// The values of one figure of one peer, by round.
fn by_round(samples: &[Sample], scenario: &str, peer: &str, figure: &str) -> BTreeMap<usize, f64> {
    samples
        .iter()
        .filter(|sample| sample.scenario == scenario && sample.peer == peer)
        .filter_map(|sample| Some((sample.round, *sample.figures.get(figure)?)))
        .collect()
}

/// The spread of one figure of one peer over its rounds.
pub(crate) fn spread(
    samples: &[Sample],
    scenario: &str,
    peer: &str,
    figure: &str,
) -> Option<Spread> {
    Spread::of(by_round(samples, scenario, peer, figure).into_values())
}

/// The ratio of `of` to `to`: of the medians, and of each round.
pub(crate) fn ratio(
    samples: &[Sample],
    scenario: &str,
    figure: &str,
    (of, to): (&str, &str),
) -> Option<Ratio> {
    let above = by_round(samples, scenario, of, figure);
    let below = by_round(samples, scenario, to, figure);
    let medians =
        Spread::of(above.values().copied())?.median / Spread::of(below.values().copied())?.median;
    let rounds = above.iter().filter_map(|(round, value)| Some(value / below.get(round)?));
    let rounds = Spread::of(rounds)?;
    Some(Ratio { of: of.to_owned(), to: to.to_owned(), medians, rounds })
        .filter(|ratio| ratio.medians.is_finite())
}

/// A rate as a whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and rates are neither negative nor near the limits"
)]
pub(crate) fn whole(value: f64) -> u64 {
    value.round() as u64
}

/// Names in the order of their first appearance.
pub(crate) fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(peer: &str, round: usize, value: f64) -> Sample {
        let figures = Figures::from([("cpu".to_owned(), value)]);
        let (scenario, peer) = ("get".to_owned(), peer.to_owned());
        Sample { scenario, peer, round, figures, failure: None }
    }

    #[test]
    fn the_median_of_an_odd_count_is_a_value_and_of_an_even_count_is_between_two() {
        assert_eq!(Spread::of([3.0, 1.0, 9.0]).unwrap().median, 3.0);
        assert_eq!(Spread::of([4.0, 1.0, 9.0, 2.0]).unwrap().median, 3.0);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn one_outlier_changes_the_range_but_not_the_median() {
        let spread = Spread::of([10.0, 11.0, 10.5, 90.0, 10.2]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (10.5, 10.0, 90.0));
    }

    #[test]
    fn ratios_pair_the_rounds_that_both_peers_have() {
        let samples = [
            sample("corvoy", 0, 10.0),
            sample("corvoy", 1, 30.0),
            sample("corvoy", 2, 11.0),
            sample("nginx", 0, 20.0),
            sample("nginx", 1, 60.0),
        ];
        let ratio = ratio(&samples, "get", "cpu", ("corvoy", "nginx")).unwrap();
        assert!((ratio.medians - 11.0 / 40.0).abs() < 1e-9);
        assert_eq!((ratio.rounds.median, ratio.rounds.count), (0.5, 2));
    }

    #[test]
    fn a_peer_without_figures_has_no_ratio() {
        let samples = [sample("corvoy", 0, 10.0)];
        assert_eq!(ratio(&samples, "get", "cpu", ("corvoy", "nginx")), None);
        let zero = [sample("corvoy", 0, 10.0), sample("nginx", 0, 0.0)];
        assert_eq!(ratio(&zero, "get", "cpu", ("corvoy", "nginx")), None);
    }
}
