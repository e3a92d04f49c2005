//! Schema → formats.

use corvoy_config::{self as config, Path, Problems};

use super::{Extensions, Format, Formatter, JsonFormatter, Unset};

/// Compiles a `SubstitutionFormatString`. The content type is for the caller: only local replies
/// have one.
pub(crate) fn substitution(
    schema: &config::SubstitutionFormatString,
    at: &Path,
    problems: &mut Problems,
) -> Option<Format> {
    let config::SubstitutionFormatString {
        text_format,
        text_format_source,
        json_format,
        omit_empty_values,
        content_type: _,
        formatters,
    } = schema;
    let extensions = extensions(formatters, &at.field("formatters"), problems);
    if let Some(json) = json_format {
        let json = JsonFormatter::new(json, *omit_empty_values, extensions);
        let json = json.map_err(|error| problems.error(&at.field("json_format"), error)).ok()?;
        return Some(Format::Json(json));
    }
    let (text, field) = text_of(text_format.as_deref(), text_format_source.as_ref())?;
    let text = text.and_then(|text| Formatter::with(&text, extensions));
    let text = text.map_err(|error| problems.error(&at.field(field), error)).ok()?;
    let unset = if *omit_empty_values { Unset::Empty } else { Unset::Dash };
    Some(Format::Text(text, unset))
}

/// The text of a format, and the field that has it; none if there is no such field.
pub(crate) fn text_of(
    text_format: Option<&str>,
    text_format_source: Option<&config::DataSource>,
) -> Option<(Result<String, String>, &'static str)> {
    if let Some(text) = text_format {
        return Some((Ok(text.to_owned()), "text_format"));
    }
    let text = data_source(text_format_source?).and_then(|bytes| {
        String::from_utf8(bytes).map_err(|_| "the format is not valid UTF-8".to_owned())
    });
    Some((text, "text_format_source"))
}

/// What the `formatters` at `at` add.
pub(crate) fn extensions(
    schemas: &[config::TypedExtensionConfig],
    at: &Path,
    problems: &mut Problems,
) -> Extensions {
    let mut extensions = Extensions::default();
    for (i, schema) in schemas.iter().enumerate() {
        let config::TypedExtensionConfig { name: _, typed_config } = schema;
        match typed_config {
            Some(config::Any::ReqWithoutQuery(schema)) => {
                let config::ReqWithoutQuery {} = **schema;
                extensions.req_without_query = true;
            }
            Some(config::Any::MetadataFormatter(schema)) => {
                let config::MetadataFormatter {} = **schema;
            }
            Some(config::Any::CelFormatter(schema)) => {
                let config::CelFormatter {} = **schema;
            }
            _ => {
                let why = "Corvoy supports the formatters req_without_query, metadata and cel";
                problems.missing(&at.index(i).field("typed_config"), why);
            }
        }
    }
    extensions
}

/// The content of a `DataSource`.
///
/// # Errors
/// Why it cannot be read, as text for the user.
pub(crate) fn data_source(schema: &config::DataSource) -> Result<Vec<u8>, String> {
    let config::DataSource { filename, inline_bytes, inline_string, environment_variable } = schema;
    if let Some(text) = inline_string {
        Ok(text.clone().into_bytes())
    } else if let Some(bytes) = inline_bytes {
        Ok(bytes.clone())
    } else if let Some(name) = filename {
        std::fs::read(name).map_err(|error| format!("file {name}: {error}"))
    } else if let Some(name) = environment_variable {
        let value = std::env::var_os(name).map(std::ffi::OsString::into_encoded_bytes);
        value.ok_or_else(|| format!("Environment variable doesn't exist: {name}"))
    } else {
        Ok(Vec::new())
    }
}
