//! Schema → what a filter decides by.

use corvoy_config::{self as config, Path, Problems};

use super::Action;
use super::compile::{About, action as compile_action, rules as compile_rules};
use super::policies::{Named, Policies};
use crate::matcher::compile::{self as matcher, LooksAt};
use crate::runtime::Reader;

/// Where the policies of a filter come from: its tree, if it has one, else its rules.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub(crate) rules: Option<&'a config::RbacRules>,
    pub(crate) rules_field: &'a str,
    pub(crate) matcher: Option<&'a config::Matcher>,
    pub(crate) matcher_field: &'a str,
    pub(crate) about: About,
    pub(crate) looks_at: LooksAt,
    pub(crate) runtime: &'a Reader<'a>,
}

impl Sources<'_> {
    /// The policies with their names; the outer `None` is an error, the inner one that there are none.
    pub(crate) fn policies(
        &self,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Option<(Policies, Vec<String>)>> {
        let at_rules = at.field(self.rules_field);
        if let Some(schema) = self.matcher {
            if self.rules.is_some() {
                let message = format!("ignored, as in Envoy: there is a {}", self.matcher_field);
                problems.warn(&at_rules, message);
            }
            return self.tree(schema, &at.field(self.matcher_field), problems).map(Some);
        }
        let Some(schema) = self.rules else { return Some(None) };
        let rules = compile_rules(schema, self.about, &at_rules, problems)?;
        let names = rules.policies().map(str::to_owned).collect();
        Some(Some((Policies::Rules(rules), names)))
    }

    fn tree(
        &self,
        schema: &config::Matcher,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<(Policies, Vec<String>)> {
        let (mut names, mut logs) = (Vec::new(), false);
        let mut action = |options: &config::Any, at: &Path, problems: &mut Problems| {
            let config::Any::RbacMatcherAction(schema) = options else {
                let message = format!("`{}` is not an action of rbac", options.type_name());
                problems.error(at, message);
                return None;
            };
            let config::RbacMatcherAction { name, action } = &**schema;
            let action = compile_action(*action);
            logs |= action == Action::Log;
            names.push(name.clone());
            Some(Named { name: name.as_str().into(), action })
        };
        let inputs = matcher::Context { looks_at: self.looks_at, runtime: self.runtime };
        let tree = matcher::matcher(schema, &inputs, &mut action, at, problems)?;
        Some((Policies::Tree { tree, logs }, names))
    }
}
