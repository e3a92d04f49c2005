//! Numbers as text.

/// As `%g` of C: six significant digits.
pub(crate) fn six_digits(number: f64) -> String {
    if !number.is_finite() {
        return if number.is_nan() {
            "nan"
        } else if number > 0.0 {
            "inf"
        } else {
            "-inf"
        }
        .to_owned();
    }
    let rounded = format!("{number:.5e}");
    let parts = rounded.split_once('e');
    match parts.and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?))) {
        Some((digits, exponent @ (..-4 | 6..))) => {
            let digits = digits.trim_end_matches('0').trim_end_matches('.');
            format!("{digits}e{exponent:+03}")
        }
        _ => rounded.parse::<f64>().unwrap_or(number).to_string(),
    }
}
