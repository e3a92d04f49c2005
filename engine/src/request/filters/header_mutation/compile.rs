//! Schema → `header_mutation`.

use corvoy_config::{self as config, Path, Problems};

use super::query::QueryMutation;
use super::{HeaderMutation, Mutation, Mutations, RequestMutations};
use crate::format::Formatter;
use crate::request::route::AppendAction;
use crate::request::route::mutation::compile::{addition, framing_ignored, is_framing, is_mutable};
use crate::text_matcher::compile::text;

impl HeaderMutation {
    pub(in super::super) fn compile(
        schema: &config::HeaderMutationFilter,
        at: &Path,
        problems: &mut Problems,
    ) -> Self {
        let config::HeaderMutationFilter { mutations: schema, most_specific_header_mutations_wins } =
            schema;
        let at = at.field("mutations");
        let mutations = schema.as_ref().map(|schema| mutations(schema, &at, problems));
        Self {
            mutations: mutations.unwrap_or_default(),
            most_specific_wins: *most_specific_header_mutations_wins,
        }
    }
}

/// Compiles the list of extensions at `at`, which are made one after the other.
pub(in crate::request) fn early(
    extensions: &[config::TypedExtensionConfig],
    at: &Path,
    problems: &mut Problems,
) -> RequestMutations {
    let mut all = Vec::new();
    for (i, config::TypedExtensionConfig { name: _, typed_config }) in extensions.iter().enumerate()
    {
        let at = at.index(i).field("typed_config");
        let Some(config::Any::EarlyHeaderMutation(schema)) = typed_config else {
            problems.missing(&at, "Corvoy supports only header_mutation as early header mutation");
            continue;
        };
        let config::EarlyHeaderMutation { mutations } = &**schema;
        all.extend(list(mutations, &at.field("mutations"), problems));
    }
    RequestMutations(all.into())
}

/// Compiles the list at `at`.
pub(in crate::request) fn request_mutations(
    schemas: &[config::HeaderMutation],
    at: &Path,
    problems: &mut Problems,
) -> RequestMutations {
    RequestMutations(list(schemas, at, problems))
}

fn list(schemas: &[config::HeaderMutation], at: &Path, problems: &mut Problems) -> Box<[Mutation]> {
    let each = schemas.iter().enumerate();
    each.filter_map(|(i, schema)| mutation(schema, &at.index(i), problems)).collect()
}

pub(in super::super) fn mutations(
    schema: &config::Mutations,
    at: &Path,
    problems: &mut Problems,
) -> Mutations {
    let config::Mutations {
        request_mutations,
        query_parameter_mutations,
        response_mutations,
        response_trailers_mutations,
        request_trailers_mutations,
    } = schema;
    let mut of =
        |field: &str, schemas: &[config::HeaderMutation]| list(schemas, &at.field(field), problems);
    let request = of("request_mutations", request_mutations);
    let response = of("response_mutations", response_mutations);
    let response_trailers = of("response_trailers_mutations", response_trailers_mutations);
    let request_trailers = of("request_trailers_mutations", request_trailers_mutations);
    let at = at.field("query_parameter_mutations");
    let query = query_parameter_mutations.iter().enumerate();
    let query = query.filter_map(|(i, schema)| of_query(schema, &at.index(i), problems)).collect();
    Mutations { request, query, response, request_trailers, response_trailers }
}

fn mutation(
    schema: &config::HeaderMutation,
    at: &Path,
    problems: &mut Problems,
) -> Option<Mutation> {
    let config::HeaderMutation { remove, append, remove_on_match } = schema;
    if let Some(name) = remove {
        if !is_mutable(name) {
            let message = ":-prefixed or host headers may not be removed";
            problems.error(&at.field("remove"), message);
        }
        if is_framing(name) {
            problems.warn(&at.field("remove"), framing_ignored(name));
            return None;
        }
        return Some(Mutation::Remove(name.to_ascii_lowercase().into_bytes().into()));
    }
    if let Some(schema) = append {
        return addition(schema, &at.field("append"), problems).map(Mutation::Add);
    }
    let config::RemoveOnMatch { key_matcher } = remove_on_match.as_ref()?;
    let at = at.field("remove_on_match").field("key_matcher");
    text(key_matcher.as_ref()?, &at, problems).map(Mutation::RemoveMatching)
}

fn of_query(
    schema: &config::KeyValueMutation,
    at: &Path,
    problems: &mut Problems,
) -> Option<QueryMutation> {
    let config::KeyValueMutation { append, remove } = schema;
    let Some(config::KeyValueAppend { record, action }) = append else {
        if remove.is_empty() {
            problems.error(at, "one of append and remove must be set");
            return None;
        }
        return Some(QueryMutation::Remove(remove.as_bytes().into()));
    };
    let at = at.field("append");
    let Some(config::KeyValuePair { key, value }) = record else {
        problems.missing(&at, "record must be set");
        return None;
    };
    let at = at.field("record").field("value");
    let Some(value) = value.as_str() else {
        problems.error(&at, "the value of a query parameter must be a text");
        return None;
    };
    let value = Formatter::new(value).map_err(|error| problems.error(&at, error)).ok()?;
    let action = match action {
        config::KeyValueAppendAction::AppendIfExistsOrAdd => AppendAction::AppendIfExistsOrAdd,
        config::KeyValueAppendAction::AddIfAbsent => AppendAction::AddIfAbsent,
        config::KeyValueAppendAction::OverwriteIfExistsOrAdd => {
            AppendAction::OverwriteIfExistsOrAdd
        }
        config::KeyValueAppendAction::OverwriteIfExists => AppendAction::OverwriteIfExists,
    };
    Some(QueryMutation::Add { key: key.as_bytes().into(), value, action })
}
