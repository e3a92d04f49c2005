//! Checks a message against Envoy's rules and against what Corvoy implements. Reports every
//! problem.
//!
//! One walk over the message, including every `Any`. The rules of each message type are compiled
//! once per walk.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage as _, Value,
};

use crate::problems::{Problem, Severity};
use crate::read::{self, suggest};
use crate::{Any, Path, Problems, features};

mod answer;
mod rules;
mod well_known;

use answer::{Answer, Answers};
use rules::Rules;
pub(crate) use rules::seconds_and_nanos;

/// Adds the problems of `message` to `problems`, except below paths that already have an error.
pub(crate) fn check(
    message: &DynamicMessage,
    pool: &DescriptorPool,
    unknown_fields: UnknownFields,
    problems: &mut Problems,
) {
    let explained = problems
        .errors()
        .flat_map(|problem| [Some(&problem.path), problem.stands_for.as_ref()])
        .flatten()
        .map(Path::to_string)
        .filter(|path| !path.is_empty())
        .collect();
    let mut checker = Checker {
        pool,
        unknown_fields,
        problems,
        explained,
        answers: Answers::new(),
        message_rules: HashMap::new(),
    };
    checker.message(message, &Path::root(), Scope::Covered);
}

/// The message inside an Any. `None` if it is empty or its type has no descriptor.
pub(crate) fn open_any(any: &DynamicMessage, pool: &DescriptorPool) -> Option<DynamicMessage> {
    let type_url = any.get_field_by_name("type_url")?;
    let (_, name) = type_url.as_str()?.rsplit_once('/')?;
    let bytes = any.get_field_by_name("value")?;
    DynamicMessage::decode(pool.get_message_by_name(name)?, bytes.as_bytes()?.clone()).ok()
}

/// What becomes of fields that Envoy's API does not have. Only protobuf can have such.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum UnknownFields {
    Refused,
    Warned,
}

struct Checker<'a> {
    pool: &'a DescriptorPool,
    unknown_fields: UnknownFields,
    problems: &'a mut Problems,
    explained: HashSet<String>,
    answers: Answers,
    message_rules: HashMap<String, Rc<MessageRules>>,
}

/// Whether fields have to be implemented.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Scope {
    /// They reach the engine.
    Covered,
    /// They are below a harmless field, so their values do not matter.
    Harmless,
}

impl Checker<'_> {
    fn message(&mut self, message: &DynamicMessage, at: &Path, scope: Scope) {
        let descriptor = message.descriptor();
        match descriptor.full_name() {
            "google.protobuf.Any" => return self.any(message, at, scope),
            "google.protobuf.Duration" => return self.duration(message, at),
            _ if descriptor.package_name() == "google.protobuf" => return,
            _ => {}
        }
        let message_rules = self.rules_of(&descriptor);
        for oneof in &message_rules.oneofs {
            self.required_oneof(message, oneof, at);
        }
        for field_rules in &message_rules.fields {
            if field_rules.rules.is_none() && !message.has_field(&field_rules.field) {
                continue;
            }
            let path = at.field(field_rules.field.name());
            if !self.explained.is_empty() && self.explained.contains(&path.to_string()) {
                continue;
            }
            self.field(message, field_rules, &path, scope);
        }
        for field in message.unknown_fields() {
            let text = format!("{} has no field number {}", descriptor.name(), field.number());
            match self.unknown_fields {
                UnknownFields::Refused => self.problems.error(at, text),
                UnknownFields::Warned => self.problems.warn(at, text),
            }
        }
    }

    fn field(
        &mut self,
        message: &DynamicMessage,
        field_rules: &FieldRules,
        at: &Path,
        scope: Scope,
    ) {
        let field = &field_rules.field;
        let present = message.has_field(field);
        // The rules of a member of a oneof apply only if that member is set.
        let asked = present || field.containing_oneof().is_none();
        if let Some(rules) = field_rules.rules.as_ref().filter(|_| asked) {
            let value = message.get_field(field);
            rules.check(&value, present || !field.supports_presence(), at, self.problems);
        }
        if !present {
            return;
        }
        let scope = match (scope, field_rules.answer) {
            (Scope::Harmless, _) | (_, Answer::Harmless) => Scope::Harmless,
            (Scope::Covered, Answer::Done) => Scope::Covered,
            (Scope::Covered, Answer::Lacking) => {
                let value = message.get_field(field);
                self.problems.push(features::lacking_field(field, &value, at));
                return;
            }
        };
        if field_rules.deprecated {
            let text = format!("`{}` is deprecated in Envoy", field.name());
            self.problems.push(Problem::new(Severity::Warning, at, text).at_key());
        }
        self.nested(&message.get_field(field), &field.kind(), at, scope);
    }

    fn nested(&mut self, value: &Value, kind: &Kind, at: &Path, scope: Scope) {
        match value {
            Value::Message(message) => self.message(message, at, scope),
            Value::List(items) => {
                for (i, item) in items.iter().enumerate() {
                    if !matches!(item, Value::Message(_) | Value::EnumNumber(_)) {
                        return;
                    }
                    let at = at.index(i);
                    if self.explained.is_empty() || !self.explained.contains(&at.to_string()) {
                        self.nested(item, kind, &at, scope);
                    }
                }
            }
            Value::Map(entries) => {
                let Kind::Message(entry) = kind else { return };
                let kind = entry.map_entry_value_field().kind();
                let mut keys: Vec<_> = entries.iter().collect();
                keys.sort_by_key(|(key, _)| *key);
                for (key, value) in keys {
                    let at = match key {
                        MapKey::String(key) => at.key(key),
                        other => at.key(&format!("{other:?}")),
                    };
                    self.nested(value, &kind, &at, scope);
                }
            }
            Value::EnumNumber(number) => {
                let Kind::Enum(descriptor) = kind else { return };
                if descriptor.get_value(*number).is_none() {
                    let values: Vec<_> = descriptor.values().collect();
                    let names = suggest::list(values.iter().map(|value| value.name()));
                    let text = format!("{number} is not a value of {}", descriptor.name());
                    let problem = Problem::new(Severity::Error, at, text);
                    self.problems.push(problem.help(format!("valid values: {names}")));
                }
            }
            _ => {}
        }
    }

    fn any(&mut self, any: &DynamicMessage, at: &Path, scope: Scope) {
        let type_url = any.get_field_by_name("type_url");
        let type_url = type_url.as_deref().and_then(Value::as_str).unwrap_or_default();
        let name = type_url.rsplit('/').next().unwrap_or_default();
        if scope == Scope::Covered && !Any::TYPES.contains(&name) {
            self.problems.push(match name {
                "" => read::missing_type(at),
                _ => features::lacking_type(name, &at.field("@type")),
            });
            return;
        }
        match open_any(any, self.pool) {
            Some(message) => self.message(&message, at, scope),
            None if scope == Scope::Harmless => {}
            None => self.problems.error(at, format!("invalid {name}")),
        }
    }

    /// Few durations have rules, and Envoy rejects these values when it uses them.
    fn duration(&mut self, duration: &DynamicMessage, at: &Path) {
        let (seconds, nanos) = seconds_and_nanos(duration);
        let text = if seconds < 0 || nanos < 0 {
            "cannot be negative"
        } else if seconds > SECONDS_MAX {
            "cannot be longer than 292 years"
        } else {
            return;
        };
        if !self.problems.errors().any(|problem| problem.path == *at) {
            self.problems.error(at, format!("{} {text}", rules::last(at)));
        }
    }

    fn required_oneof(&mut self, message: &DynamicMessage, oneof: &RequiredOneof, at: &Path) {
        let explained = |field: &FieldDescriptor| {
            !self.explained.is_empty()
                && self.explained.contains(&at.field(field.name()).to_string())
        };
        let set = |field: &FieldDescriptor| message.has_field(field) || explained(field);
        if oneof.members.iter().any(set) {
            return;
        }
        let names: Vec<_> = oneof.members.iter().map(FieldDescriptor::name).collect();
        let names = suggest::list(names.iter().copied());
        self.problems.missing(at, format!("{} is required: {names}", oneof.name));
    }

    fn rules_of(&mut self, descriptor: &MessageDescriptor) -> Rc<MessageRules> {
        if let Some(message_rules) = self.message_rules.get(descriptor.full_name()) {
            return Rc::clone(message_rules);
        }
        let message_rules = Rc::new(MessageRules::of(descriptor, &self.answers, self.pool));
        self.message_rules.insert(descriptor.full_name().to_owned(), Rc::clone(&message_rules));
        message_rules
    }
}

/// The rules of a message type.
struct MessageRules {
    fields: Vec<FieldRules>,
    oneofs: Vec<RequiredOneof>,
}

struct FieldRules {
    field: FieldDescriptor,
    answer: Answer,
    deprecated: bool,
    rules: Option<Rules>,
}

struct RequiredOneof {
    name: String,
    members: Vec<FieldDescriptor>,
}

impl MessageRules {
    fn of(descriptor: &MessageDescriptor, answers: &Answers, pool: &DescriptorPool) -> Self {
        let field_rules = |field: FieldDescriptor| {
            let answer = answers.to(descriptor.full_name(), field.name());
            let options = field.options();
            let deprecated = options.get_field_by_name("deprecated");
            let deprecated = deprecated.as_deref().and_then(Value::as_bool).unwrap_or(false);
            FieldRules { rules: Rules::of(&options, pool), field, answer, deprecated }
        };
        let required = pool.get_extension_by_name("validate.required");
        let is_required = |options: &DynamicMessage| {
            required
                .as_ref()
                .is_some_and(|required| options.get_extension(required).as_bool().unwrap_or(false))
        };
        let oneofs = descriptor.oneofs().filter(|oneof| is_required(&oneof.options()));
        let oneofs = oneofs.map(|oneof| RequiredOneof {
            name: oneof.name().to_owned(),
            members: oneof.fields().collect(),
        });
        Self { oneofs: oneofs.collect(), fields: descriptor.fields().map(field_rules).collect() }
    }
}

/// What fits into 64 bits of nanoseconds, as in Envoy.
const SECONDS_MAX: i64 = i64::MAX / 1_000_000_000;
