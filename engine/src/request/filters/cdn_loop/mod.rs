//! `cdn_loop`: refuses a request that has been here before (RFC 8586), and says that it was here.

pub(super) mod compile;
mod parse;

use self::parse::count;
use super::{Context, Flow};
use crate::request::reply::LocalReply;

const CDN_LOOP: &[u8] = b"cdn-loop";

/// The filter.
#[derive(Debug)]
pub struct CdnLoop {
    /// What this network is called.
    id: Box<[u8]>,
    /// How often a request may have been here before.
    occurrences_max: u32,
}

impl CdnLoop {
    pub(super) fn request_head(&self, cx: &mut Context<'_, '_>) -> Flow {
        let fields = &mut cx.core.heads.request.fields;
        let mut joined = Vec::new();
        for (_, _, value) in fields.iter().filter(|(_, name, _)| *name == CDN_LOOP) {
            if !joined.is_empty() {
                joined.push(b',');
            }
            joined.extend_from_slice(value);
        }
        let Some(occurrences) = count(&joined, &self.id) else {
            let reply = LocalReply::new(400, "Invalid CDN-Loop header in request.");
            return Flow::Reply(Box::new(reply.with_details(None, "invalid_cdn_loop_header")));
        };
        if occurrences > self.occurrences_max as usize {
            let reply = LocalReply::new(502, "The server has detected a loop between CDNs.");
            return Flow::Reply(Box::new(reply.with_details(None, "cdn_loop_detected")));
        }
        if !joined.is_empty() {
            joined.push(b',');
        }
        joined.extend_from_slice(&self.id);
        fields.set_other(CDN_LOOP, &joined);
        Flow::Continue
    }
}
