//! `custom_response`: a response by the proxy in the place of certain ones of the origin, or of its own.

pub(super) mod compile;

use bytes::Bytes;

use super::{Back, Context, RouteConfig};
use crate::format::Inputs;
use crate::http::ResponseHead;
use crate::matcher::Matcher;
use crate::request::reply::LocalReply;
use crate::request::reply_rewrite::BodyFormat;
use crate::request::route::HeaderMutations;

/// The filter.
#[derive(Debug)]
pub struct CustomResponse(Tree);

/// Which response is replaced, and by what.
pub(in crate::request) type Tree = Matcher<Policy>;

/// The response in the place of another one: `LocalResponsePolicy`.
#[derive(Debug)]
pub struct Policy {
    /// None: that of the response.
    status: Option<u16>,
    body: Bytes,
    format: Option<BodyFormat>,
    headers: HeaderMutations,
    details: Details,
}

/// What `%RESPONSE_CODE_DETAILS%` says.
#[derive(Debug)]
enum Details {
    /// Nothing.
    None,
    /// What it says of the response.
    Preserved,
    /// This.
    Fixed(Box<str>),
}

impl CustomResponse {
    pub(super) fn response_head(&self, cx: &mut Context<'_, '_>) -> Back {
        let of_route = cx.configs.iter().filter_map(|config| match &**config {
            RouteConfig::CustomResponse(tree) => Some(&**tree),
            _ => None,
        });
        let reply = {
            let stream = cx.response_stream();
            let (request, response) = (&cx.core.heads.request, &cx.core.heads.response);
            let inputs =
                Inputs { request: Some(request), response: Some(response), ..Inputs::new(&stream) };
            let policy = of_route.chain([&self.0]).find_map(|tree| tree.decide(&inputs).ok()?);
            policy.map(|policy| policy.reply(&inputs, cx))
        };
        reply.map_or(Back::Continue, |reply| Back::Replace(Box::new(reply)))
    }
}

impl Policy {
    fn reply(&self, inputs: &Inputs<'_>, cx: &Context<'_, '_>) -> LocalReply {
        let response = &cx.core.heads.response;
        let mut body = self.body.clone();
        if let Some(format) = &self.format {
            body = format.text(&Inputs { local_reply_body: &body, ..*inputs });
        }
        let mut head = ResponseHead { status: response.status, ..ResponseHead::default() };
        let mut scratch = cx.core.service().scratch.borrow_mut();
        let request = Some(&cx.core.heads.request);
        self.headers.apply_to_response(&mut head, request, inputs.stream, &mut scratch);
        let reply = LocalReply::new(self.status.unwrap_or(response.status), "");
        let details = match &self.details {
            Details::None => "".into(),
            Details::Preserved => cx.response_details().into_owned().into(),
            Details::Fixed(details) => details.to_string().into(),
        };
        LocalReply { body, fields: Some(Box::new(head.fields)), details, ..reply }
    }
}
