//! Schema → `cdn_loop`.

use corvoy_config::{self as config, Path, Problems};

use super::{CdnLoop, parse};

impl CdnLoop {
    pub(in super::super) fn compile(
        schema: &config::CdnLoop,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Self> {
        let config::CdnLoop { cdn_id, max_allowed_occurrences } = schema;
        if !cdn_id.is_empty() && !parse::is_id(cdn_id.as_bytes()) {
            let id = cdn_id.escape_debug();
            let message = format!("`{id}` is not a token or a host, with a port or not (RFC 8586)");
            problems.error(&at.field("cdn_id"), message);
            return None;
        }
        Some(Self { id: cdn_id.as_bytes().into(), occurrences_max: *max_allowed_occurrences })
    }
}
