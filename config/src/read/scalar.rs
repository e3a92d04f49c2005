//! Numbers, booleans, strings, bytes and enum values.

use base64::Engine as _;
use base64::alphabet::{self, Alphabet};
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::{EnumDescriptor, Kind, Value};

use super::node::Node;
use super::{Reader, suggest};
use crate::Path;
use crate::problems::{Problem, Severity};

impl Reader<'_> {
    pub(super) fn scalar(&mut self, kind: &Kind, node: &Node, at: &Path) -> Option<Value> {
        match kind {
            Kind::Double => self.float(node, at).map(Value::F64),
            #[expect(clippy::cast_possible_truncation, reason = "the field has that precision")]
            Kind::Float => self.float(node, at).map(|value| Value::F32(value as f32)),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => self.integer(node, at).map(Value::I32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => self.integer(node, at).map(Value::I64),
            Kind::Uint32 | Kind::Fixed32 => self.integer(node, at).map(Value::U32),
            Kind::Uint64 | Kind::Fixed64 => self.integer(node, at).map(Value::U64),
            Kind::Bool => self.boolean(node, at).map(Value::Bool),
            Kind::String => self.string(node, at).map(Value::String),
            Kind::Bytes => self.bytes(node, at).map(|bytes| Value::Bytes(bytes.into())),
            Kind::Enum(descriptor) => self.enum_value(descriptor, node, at).map(Value::EnumNumber),
            Kind::Message(_) => None,
        }
    }

    fn integer<T: TryFrom<i128>>(&mut self, node: &Node, at: &Path) -> Option<T> {
        let Some(value) = self.whole_number(node, at) else {
            let mut text = format!("expected an integer, not {}", shown(node));
            if let Node::Text(digits) = node
                && digits.contains('_')
            {
                text.push_str(": write it without `_`");
            }
            self.error(at, text);
            return None;
        };
        let converted = T::try_from(value).ok();
        if converted.is_none() {
            let problem = if value < 0 { "negative" } else { "too large" };
            self.error(at, format!("{value} is {problem} for this field"));
        }
        converted
    }

    fn whole_number(&self, node: &Node, at: &Path) -> Option<i128> {
        match node {
            Node::Int(value) => Some(*value),
            Node::Float(value) => whole(*value),
            Node::Text(text) => {
                // YAML 1.1: a leading zero makes an unquoted number octal.
                let plain = text.starts_with('0') && self.plain_scalar(at).is_some();
                if let Some(value) = yaml_1_1_integer(text).filter(|_| plain) {
                    return Some(value);
                }
                let digits = text.strip_prefix('+').unwrap_or(text);
                if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
                    return i128::from_str_radix(hex, 16).ok();
                }
                digits.parse().ok().or_else(|| whole(number(digits)?))
            }
            _ => None,
        }
    }

    fn float(&mut self, node: &Node, at: &Path) -> Option<f64> {
        let value = match node {
            #[expect(clippy::cast_precision_loss, reason = "the field has that precision")]
            Node::Int(value) => Some(*value as f64),
            // YAML's `.nan` and `.inf` are strings for Envoy, not numbers.
            Node::Float(value) => value.is_finite().then_some(*value),
            Node::Text(text) => match text.as_str() {
                "NaN" => Some(f64::NAN),
                "Infinity" => Some(f64::INFINITY),
                "-Infinity" => Some(f64::NEG_INFINITY),
                // Envoy ignores white space around it.
                _ => number(text.trim_ascii()),
            },
            _ => None,
        };
        if value.is_none() {
            self.error(at, format!("expected a number, not {}", shown(node)));
        }
        value
    }

    fn boolean(&mut self, node: &Node, at: &Path) -> Option<bool> {
        let value = match node {
            Node::Bool(value) => Some(*value),
            Node::Text(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
                "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        };
        if value.is_none() {
            self.error(at, format!("expected `true` or `false`, not {}", shown(node)));
        }
        value
    }

    /// A string. As in Envoy, an unquoted YAML 1.1 boolean or integer is rejected, but a fraction
    /// or a date is not.
    pub(super) fn string(&mut self, node: &Node, at: &Path) -> Option<String> {
        match node {
            Node::Text(text) => {
                let doubtful = is_yaml_1_1_boolean(text) || yaml_1_1_integer(text).is_some();
                if doubtful && self.plain_scalar(at).is_some() {
                    self.not_a_string(text, at);
                    return None;
                }
                Some(text.clone())
            }
            // Beyond 2^53 Envoy does not parse numbers, and keeps the text.
            Node::Int(value) if value.unsigned_abs() > 1 << 53 => Some(value.to_string()),
            Node::Float(_) => match self.plain_scalar(at) {
                Some(text) => Some(text.to_owned()),
                None => {
                    self.not_a_string(&shown(node), at);
                    None
                }
            },
            Node::Bool(value) => {
                self.not_a_string(&value.to_string(), at);
                None
            }
            Node::Int(value) => {
                self.not_a_string(&value.to_string(), at);
                None
            }
            _ => {
                self.error(at, format!("expected a string, not {}", shown(node)));
                None
            }
        }
    }

    fn not_a_string(&mut self, text: &str, at: &Path) {
        let kind = if is_yaml_1_1_boolean(text) { "a boolean" } else { "a number" };
        let shown = self.plain_scalar(at).unwrap_or(text).to_owned();
        let problem = format!("expected a string, but `{shown}` without quotes is {kind}");
        let help = format!("write \"{shown}\"");
        self.report(Problem::new(Severity::Error, at, problem).help(help));
    }

    fn bytes(&mut self, node: &Node, at: &Path) -> Option<Vec<u8>> {
        if let Node::Text(text) = node
            && let Ok(bytes) = BASE64.decode(text).or_else(|_| BASE64_URL.decode(text))
        {
            return Some(bytes);
        }
        // What stands there instead may be a key: it stays out of the message.
        self.error(at, "expected bytes in Base64");
        None
    }

    fn enum_value(&mut self, descriptor: &EnumDescriptor, node: &Node, at: &Path) -> Option<i32> {
        if descriptor.full_name() == "google.protobuf.NullValue" {
            return Some(0);
        }
        let number = match node {
            Node::Text(text) => descriptor
                .get_value_by_name(text)
                .or_else(|| descriptor.values().find(|v| v.name().eq_ignore_ascii_case(text)))
                .map(|value| value.number())
                .or_else(|| text.parse().ok()),
            Node::Int(value) => i32::try_from(*value).ok(),
            _ => None,
        };
        if number.is_none() {
            let values: Vec<_> = descriptor.values().collect();
            let given = match node {
                Node::Text(text) => text.as_str(),
                _ => "",
            };
            let text = format!("{} is not a value of {}", shown(node), descriptor.name());
            let mut problem = Problem::new(Severity::Error, at, text);
            let names = || values.iter().map(|value| value.name());
            problem.help = match suggest::nearest(given, names()) {
                Some(near) => Some(format!("did you mean `{near}`? {}", all(names()))),
                None => Some(all(names())),
            };
            self.report(problem);
        }
        number
    }
}

fn all<'n>(names: impl Iterator<Item = &'n str>) -> String {
    format!("valid values: {}", suggest::list(names))
}

/// A value, formatted for messages.
pub(super) fn shown(node: &Node) -> String {
    match node {
        Node::Bool(value) => format!("`{value}`"),
        Node::Float(value) => format!("`{value}`"),
        Node::Int(value) => format!("`{value}`"),
        Node::Text(text) if text.chars().count() <= SHOWN_MAX => format!("`{text}`"),
        Node::Text(text) => format!("`{}…`", text.chars().take(SHOWN_MAX).collect::<String>()),
        Node::List(_) | Node::Map(_) | Node::Null => node.kind().to_owned(),
    }
}

/// A decimal number, without the special words that Rust accepts.
fn number(text: &str) -> Option<f64> {
    let number =
        text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E'));
    if number { text.parse().ok() } else { None }
}

fn whole(value: f64) -> Option<i128> {
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and in range")]
    let whole = value as i128;
    (value.fract() == 0.0 && value.abs() < 1e30).then_some(whole)
}

/// The words that YAML 1.1 reads as booleans, in its three spellings.
pub(super) fn is_yaml_1_1_boolean(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let word = ["y", "yes", "true", "on", "n", "no", "false", "off"].contains(&lower.as_str());
    let rest = text.get(1..).unwrap_or_default();
    word && (text == lower
        || text == text.to_ascii_uppercase()
        || (text.starts_with(|c: char| c.is_ascii_uppercase())
            && rest == rest.to_ascii_lowercase()))
}

/// How YAML 1.1 reads an unquoted integer: a leading zero is octal, 0x hexadecimal.
pub(super) fn yaml_1_1_integer(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match (digits.get(..2), digits.strip_prefix('0')) {
        (Some("0x" | "0X"), _) => (16, digits.get(2..)?),
        (_, Some(octal)) if !octal.is_empty() => (8, octal),
        _ => (10, digits),
    };
    let value = i128::from_str_radix(digits, radix).ok()?;
    (!digits.starts_with(['+', '-'])).then_some(sign * value)
}

const SHOWN_MAX: usize = 60;

const BASE64: GeneralPurpose = base64(&alphabet::STANDARD);
const BASE64_URL: GeneralPurpose = base64(&alphabet::URL_SAFE);

/// As in Envoy, the padding may be left out.
const fn base64(alphabet: &Alphabet) -> GeneralPurpose {
    let padding = DecodePaddingMode::Indifferent;
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(padding)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(alphabet, config)
}
