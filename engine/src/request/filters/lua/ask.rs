//! What a script asks for by yielding, as `prelude.lua` words it.

use std::time::Duration;

use mlua::{Error, FromLua, LuaString, MultiValue, Table, Value};

use super::run::{Answer, Run, Waits, value};
use super::value::to_json;
use super::{Lua, has_body, per_route};
use crate::address::Address;
use crate::http::{FieldName, Fields, Method, RequestHead, Scheme};
use crate::limits;
use crate::metadata::Metadata;
use crate::request::callout::Call;
use crate::request::filters::ext_authz::verdict::{Change, change_request, is_field};
use crate::request::filters::{Context, Way};
use crate::request::reply::LocalReply;

/// The namespace of the metadata of routes, besides the name of the filter.
const NAMESPACE: &str = "envoy.filters.http.lua";

impl Lua {
    /// Answers a script.
    ///
    /// # Errors
    /// What is wrong with what it asks for, as an error of the script.
    #[expect(clippy::too_many_lines, reason = "a few lines per question")]
    pub(super) fn answer(
        &self,
        run: &mut Run,
        mut asked: MultiValue,
        way: Way,
        cx: &mut Context<'_, '_>,
    ) -> Result<Answer, Error> {
        let Some(vm) = run.vm() else { return Ok(Answer::Waits(Waits::Nothing)) };
        let lua = vm.lua.clone();
        let what = match asked.pop_front() {
            Some(Value::String(what)) => what.to_string_lossy(),
            _ => return Err(Error::runtime("a coroutine of Envoy's cannot yield")),
        };
        let mut next = || asked.pop_front().unwrap_or(Value::Nil);
        // As in Envoy, what is not there is no value at all.
        let one =
            |value| Ok(Answer::Values(if value == Value::Nil { Vec::new() } else { vec![value] }));
        match &*what {
            "body" => Self::ask_body(run, next() == Value::Boolean(true), way, cx),
            "body chunks" => {
                run.streams = true;
                one(Value::Nil)
            }
            "chunk" if !has_more(run, way, cx) => one(Value::Nil),
            "chunk" => Ok(Answer::Waits(Waits::Chunk)),
            "trailers" => Self::ask_trailers(run, way, cx),
            "call" => {
                let arguments = (next(), next(), next(), next(), next(), next());
                Self::ask_call(run, arguments, cx)
            }
            "respond" => {
                let (headers, body) = (next(), next());
                if way == Way::Response || !run.is_held {
                    let text = "respond() cannot be called if headers have been continued, \
                        or in the response path";
                    return Err(Error::runtime(text));
                }
                let headers = Table::from_lua(headers, &lua)?;
                let body = Option::<LuaString>::from_lua(body, &lua)?;
                Ok(Answer::Respond(respond(&headers, body)?))
            }
            "metadata" | "virtual host metadata" => {
                let metadata = route_metadata(&what, cx);
                let found = metadata.and_then(|metadata| {
                    metadata.find(cx.name, &[]).or_else(|| metadata.find(NAMESPACE, &[]))
                });
                one(table_or_empty(&lua, value(run, found)?)?)
            }
            "context" => {
                let of_route = per_route(cx).and_then(|config| config.context.as_deref());
                one(table_or_empty(&lua, value(run, of_route.or(Some(&self.context)))?)?)
            }
            "get dynamic metadata" => {
                let name = LuaString::from_lua(next(), &lua)?.to_string_lossy();
                let noted = cx.core.noted.as_ref();
                one(value(run, noted.and_then(|noted| noted.metadata.find(&name, &[])))?)
            }
            "set dynamic metadata" => {
                let (filter, key, new) = (next(), next(), next());
                let filter = LuaString::from_lua(filter, &lua)?.to_string_lossy();
                let key = LuaString::from_lua(key, &lua)?.to_string_lossy();
                cx.core.note().metadata.set(&filter, &key, to_json(&new, 0)?);
                one(Value::Nil)
            }
            "all dynamic metadata" => {
                let all = lua.create_table()?;
                let noted = cx.core.noted.as_ref();
                for (name, values) in noted.iter().flat_map(|noted| noted.metadata.namespaces()) {
                    all.set(name, value(run, Some(values))?)?;
                }
                one(Value::Table(all))
            }
            "info" => {
                let name = LuaString::from_lua(next(), &lua)?.to_string_lossy();
                one(info(&lua, &name, cx)?)
            }
            "tls" => {
                let name = LuaString::from_lua(next(), &lua)?.to_string_lossy();
                one(tls(&lua, &name, cx)?)
            }
            "clear route cache" => {
                if way == Way::Request && run.is_held {
                    cx.clear_route_cache();
                }
                one(Value::Nil)
            }
            other => Err(Error::runtime(format!("unexpected yield: {other}"))),
        }
    }

    fn ask_body(run: &Run, always: bool, way: Way, cx: &Context<'_, '_>) -> Result<Answer, Error> {
        if run.streams || !run.is_held {
            let text = "cannot call body() after body streaming has started";
            return Err(Error::runtime(text));
        }
        if cx.held.has_ended() || (always && !has_body(way, cx)) {
            return Ok(Answer::Values(vec![run.body()?]));
        }
        if !has_body(way, cx) {
            return Ok(Answer::Values(Vec::new()));
        }
        Ok(Answer::Waits(Waits::Body))
    }

    fn ask_trailers(run: &Run, way: Way, cx: &Context<'_, '_>) -> Result<Answer, Error> {
        if run.is_held && cx.held.has_ended() {
            let lines = cx.held.end.as_deref().unwrap_or_default();
            return Ok(Answer::Values(vec![run.trailers(lines)?]));
        }
        if !has_body(way, cx) && run.is_held {
            return Ok(Answer::Values(Vec::new()));
        }
        Ok(Answer::Waits(Waits::Trailers))
    }

    fn ask_call(
        run: &Run,
        (cluster, headers, body, timeout, asynchronous, duplicates): (
            Value,
            Value,
            Value,
            Value,
            Value,
            Value,
        ),
        cx: &Context<'_, '_>,
    ) -> Result<Answer, Error> {
        let Some(vm) = run.vm() else { return Ok(Answer::Waits(Waits::Nothing)) };
        let cluster = LuaString::from_lua(cluster, &vm.lua)?.to_string_lossy();
        let Some(cluster) = cx.core.clusters.named(&cluster).cloned() else {
            return Err(Error::runtime("http call cluster invalid. Must be configured"));
        };
        let headers = fields_of(&Table::from_lua(headers, &vm.lua)?)?;
        let has = |name: &[u8]| headers.iter().any(|(other, _)| other == name);
        if !has(b":path") || !has(b":method") || !(has(b":authority") || has(b"host")) {
            let text = "http call headers must include ':path', ':method', and ':authority'";
            return Err(Error::runtime(text));
        }
        let body = Option::<LuaString>::from_lua(body, &vm.lua)?;
        let body = body.map(|body| body.as_bytes().to_vec()).unwrap_or_default();
        let timeout = Option::<f64>::from_lua(timeout, &vm.lua)?.unwrap_or_default();
        if timeout < 0.0 {
            return Err(Error::runtime("http call timeout must be >= 0"));
        }
        let timeout = Duration::try_from_secs_f64(timeout / 1000.0).unwrap_or_default();
        let timeout = (!timeout.is_zero()).then_some(timeout);
        let fill = |head: &mut RequestHead| fill(head, headers, body.len(), cx);
        let most = limits::CALL_RESPONSE_BYTES_MAX;
        let call = Call::to_cluster(cx.core.given, cluster, timeout, fill, &body, most);
        let Some(call) = call else {
            return Err(Error::runtime("http call failed"));
        };
        if asynchronous == Value::Boolean(true) {
            call.detach();
            return Ok(Answer::Values(Vec::new()));
        }
        let duplicates = duplicates == Value::Boolean(true);
        Ok(Answer::Waits(Waits::Call { call, duplicates }))
    }
}

/// Whether there is another part of the body, or may be.
fn has_more(run: &Run, way: Way, cx: &Context<'_, '_>) -> bool {
    if run.is_held {
        return has_body(way, cx) && !cx.held.has_ended();
    }
    true
}

fn fill(
    head: &mut RequestHead,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    body: usize,
    cx: &Context<'_, '_>,
) {
    head.method = Method::Get;
    head.scheme = Some(Scheme::Http);
    for (name, value) in headers {
        match &*name {
            b":method" => head.set_method(&value),
            b":scheme" => {}
            b":path" | b":authority" | b"host" => {
                change_request(vec![Change::Set(name, value)], head);
            }
            _ => Change::Add(name, value).apply(&mut head.fields),
        }
    }
    if body > 0 {
        let mut digits = itoa::Buffer::new();
        head.fields.set(FieldName::ContentLength, digits.format(body).as_bytes());
    }
    head.fields.set(FieldName::XEnvoyInternal, b"true");
    let calls = cx.core.service().calls.as_ref();
    if let Some(address) = calls.and_then(|calls| calls.manager.client.local_address) {
        head.fields.append(FieldName::XForwardedFor, address.to_string().as_bytes());
    }
}

/// The name and the value of a header.
type Field = (Vec<u8>, Vec<u8>);

/// The headers in a table, whose values are texts or lists of texts.
fn fields_of(table: &Table) -> Result<Vec<Field>, Error> {
    let mut fields = Vec::new();
    let mut add = |name: &LuaString, value: &[u8]| {
        let name = name.as_bytes().to_ascii_lowercase();
        if !is_field(&name, value) {
            return Err(Error::runtime("this is not a header"));
        }
        fields.push((name, value.to_vec()));
        Ok(())
    };
    for pair in table.pairs::<LuaString, Value>() {
        let (name, value) = pair?;
        match value {
            Value::Table(values) => {
                for value in values.sequence_values::<LuaString>() {
                    add(&name, &value?.as_bytes())?;
                }
            }
            Value::String(value) => add(&name, &value.as_bytes())?,
            Value::Integer(value) => add(&name, value.to_string().as_bytes())?,
            Value::Number(value) => add(&name, value.to_string().as_bytes())?,
            Value::Boolean(value) => add(&name, value.to_string().as_bytes())?,
            _ => return Err(Error::runtime("a header is a text or a list of texts")),
        }
    }
    Ok(fields)
}

fn respond(headers: &Table, body: Option<LuaString>) -> Result<Box<LocalReply>, Error> {
    let mut status = None;
    let mut fields = Fields::default();
    for (name, value) in fields_of(headers)? {
        if name == b":status" {
            let text = std::str::from_utf8(&value).ok();
            status = text.and_then(|text| text.parse().ok());
        } else {
            Change::Add(name, value).apply(&mut fields);
        }
    }
    let status = status.filter(|status| (200..600).contains(status));
    let Some(status) = status else {
        return Err(Error::runtime(":status must be between 200-599"));
    };
    let body = body.map(|body| body.as_bytes().to_vec()).unwrap_or_default();
    let reply = LocalReply::new(status, "").with_details(None, "lua_response");
    Ok(Box::new(LocalReply { body: body.into(), fields: Some(Box::new(fields)), ..reply }))
}

fn route_metadata<'a>(what: &str, cx: &Context<'_, 'a>) -> Option<&'a Metadata> {
    let route = cx.core.record.route?;
    Some(if what == "metadata" { &route.metadata } else { &route.virtual_host_metadata })
}

fn table_or_empty(lua: &mlua::Lua, value: Value) -> Result<Value, Error> {
    Ok(if value.is_table() { value } else { Value::Table(lua.create_table()?) })
}

fn info(lua: &mlua::Lua, name: &str, cx: &Context<'_, '_>) -> Result<Value, Error> {
    use crate::format::StreamInfo as _;
    let stream = cx.stream();
    let address = |address: Option<Address>| address.map(|address| address.to_string());
    let text = match name {
        "protocol" => stream.protocol().map(|version| version.as_str().to_owned()),
        "routeName" => Some(stream.route_name().unwrap_or_default().to_owned()),
        "virtualClusterName" => Some(stream.virtual_cluster_name().unwrap_or_default().to_owned()),
        "requestedServerName" => {
            Some(stream.requested_server_name().unwrap_or_default().to_owned())
        }
        "downstreamLocalAddress" => address(stream.downstream_local_address()),
        "downstreamDirectLocalAddress" => address(stream.downstream_direct_local_address()),
        "downstreamRemoteAddress" => address(stream.downstream_remote_address()),
        "downstreamDirectRemoteAddress" => address(stream.downstream_direct_remote_address()),
        _ => None,
    };
    text.map_or(Ok(Value::Nil), |text| lua.create_string(text).map(Value::String))
}

fn tls(lua: &mlua::Lua, name: &str, cx: &Context<'_, '_>) -> Result<Value, Error> {
    let Some(facts) = cx.core.given.tls.as_deref() else { return Ok(Value::Nil) };
    let peer = facts.peer_certificate();
    let local = facts.local_certificate.as_deref();
    let text = |text: &str| lua.create_string(text).map(Value::String);
    let list = |texts: &[String]| {
        let texts = texts.iter().map(String::as_str);
        lua.create_sequence_from(texts).map(Value::Table)
    };
    let none = || text("");
    match (name, peer, local) {
        ("is there", ..) => Ok(Value::Boolean(true)),
        ("peerCertificatePresented" | "peerCertificateValidated", peer, _) => {
            Ok(Value::Boolean(peer.is_some()))
        }
        ("uriSanLocalCertificate", _, Some(local)) => list(&local.details().uris),
        ("dnsSansLocalCertificate", _, Some(local)) => list(&local.details().dns_names),
        ("subjectLocalCertificate", _, Some(local)) => text(&local.details().subject),
        ("uriSanPeerCertificate", Some(peer), _) => list(&peer.details().uris),
        ("dnsSansPeerCertificate", Some(peer), _) => list(&peer.details().dns_names),
        ("subjectPeerCertificate", Some(peer), _) => text(&peer.details().subject),
        ("urlEncodedPemEncodedPeerCertificate", Some(peer), _) => text(peer.url_encoded_pem()),
        _ => none(),
    }
}
