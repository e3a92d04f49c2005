//! Schema → the text of a format.

use corvoy_config as config;

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
