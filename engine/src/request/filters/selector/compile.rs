//! Schema → `ExtensionWithMatcher` and `composite`.

use std::collections::HashMap;
use std::sync::Arc;

use corvoy_config::{self as config, Path, Problems};

use super::{Action, Execute, Executed, Filters, Selector, Tree};
use crate::head_matcher::compile::runtime_fraction;
use crate::matcher::compile::{self as matcher, LooksAt};
use crate::request::filters::Filter;
use crate::request::filters::compile::{Context, filter};

impl Selector {
    /// `ExtensionWithMatcher`
    pub(in super::super) fn with_matcher(
        schema: &config::ExtensionWithMatcher,
        context: &Context<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Self> {
        let config::ExtensionWithMatcher { xds_matcher, extension_config } = schema;
        let Some(schema) = xds_matcher else {
            problems.missing(at, "xds_matcher must be set");
            return None;
        };
        let tree = tree(schema, context, &at.field("xds_matcher"), problems);
        let config::TypedExtensionConfig { name: _, typed_config } = extension_config.as_ref()?;
        let at = at.field("extension_config").field("typed_config");
        match typed_config.as_ref()? {
            config::Any::Composite(schema) => {
                let composite = Self::composite(schema, context, &at, problems)?;
                Some(Self { tree: tree?, ..composite })
            }
            options => {
                let filter = inner(options, context, &at, problems)?;
                Some(Self {
                    tree: tree?,
                    otherwise: Arc::new([filter]),
                    named: HashMap::new(),
                    stats: None,
                })
            }
        }
    }

    /// `Composite`
    pub(in super::super) fn composite(
        schema: &config::Composite,
        context: &Context<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Self> {
        let config::Composite { named_filter_chains, matcher } = schema;
        let at_named = at.field("named_filter_chains");
        let mut named = HashMap::with_capacity(named_filter_chains.len());
        for (name, schema) in named_filter_chains {
            let filters = filter_chain(schema, context, &at_named.key(name), problems)?;
            named.insert(name.as_str().into(), filters);
        }
        let tree = match matcher {
            Some(schema) => tree(schema, context, &at.field("matcher"), problems)?,
            None => Tree::default(),
        };
        let stats = context.registry.scope(&format!("{}composite.", context.stat_prefix));
        Some(Self { tree, otherwise: Arc::new([]), named, stats: Some(stats) })
    }
}

/// The tree of a filter, or of a route.
pub(in super::super) fn tree(
    schema: &config::Matcher,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Tree> {
    let mut action = |options: &config::Any, at: &Path, problems: &mut Problems| match options {
        config::Any::SkipFilter(schema) => {
            let config::SkipFilter {} = **schema;
            Some(Action::Skip)
        }
        config::Any::ExecuteFilterAction(schema) => {
            execute(schema, context, at, problems).map(Action::Execute)
        }
        other => {
            let message = format!("`{}` does not select a filter", other.type_name());
            problems.error(at, message);
            None
        }
    };
    let inputs = matcher::Context { looks_at: LooksAt::Exchange, runtime: context.runtime };
    matcher::matcher(schema, &inputs, &mut action, at, problems)
}

fn execute(
    schema: &config::ExecuteFilterAction,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Execute> {
    let config::ExecuteFilterAction {
        typed_config,
        filter_chain: chain,
        filter_chain_name,
        sample_percent,
    } = schema;
    let filters = if let Some(schema) = typed_config {
        let config::TypedExtensionConfig { name, typed_config } = schema;
        let at = at.field("typed_config").field("typed_config");
        let filter = inner(typed_config.as_ref()?, context, &at, problems)?;
        Executed::Own(name.as_str().into(), Arc::new([filter]))
    } else if let Some(schema) = chain {
        let filters = filter_chain(schema, context, &at.field("filter_chain"), problems)?;
        Executed::Own("filter_chain".into(), filters)
    } else if filter_chain_name.is_empty() {
        problems.missing(at, "one of typed_config, filter_chain and filter_chain_name must be set");
        return None;
    } else {
        Executed::Named(filter_chain_name.as_str().into())
    };
    let sample = sample_percent.as_ref();
    let sample = sample.and_then(|schema| runtime_fraction(schema, context.runtime));
    Some(Execute { filters, sample })
}

fn filter_chain(
    schema: &config::FilterChainConfiguration,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Filters> {
    let config::FilterChainConfiguration { typed_config } = schema;
    let at = at.field("typed_config");
    let filters = typed_config.iter().enumerate().map(|(i, schema)| {
        let config::TypedExtensionConfig { name: _, typed_config } = schema;
        inner(typed_config.as_ref()?, context, &at.index(i).field("typed_config"), problems)
    });
    filters.collect::<Vec<_>>().into_iter().collect()
}

/// A filter that is selected.
fn inner(
    options: &config::Any,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Arc<Filter>> {
    let compiled = filter(options, context, at, problems)?;
    if matches!(compiled, Filter::Selector(_)) {
        problems.missing(at, "a filter that is selected cannot select others");
        return None;
    }
    Some(Arc::new(compiled))
}
