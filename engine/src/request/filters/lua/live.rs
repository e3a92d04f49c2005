//! What a script works on directly: heads, trailers and a body, while it runs.
//!
//! Invariant: an object of a script works only while the script runs for the message that it came from.

use std::cell::RefCell;
use std::rc::Rc;

use mlua::{Error, Lua, LuaString, MetaMethod, MultiValue, UserData, UserDataMethods, Value};

use crate::http::{FieldName, Fields, RequestHead, ResponseHead};
use crate::request::filters::ext_authz::verdict::{Change, change_request, is_field};

/// The message that a script runs for.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// Which message it is; 0: none.
    pub(super) message: u64,
    pub(super) request: RequestHead,
    pub(super) response: ResponseHead,
    pub(super) trailers: Fields,
    pub(super) body: Vec<u8>,
    /// Whether the head has not gone on yet.
    pub(super) is_held: bool,
    pub(super) head_changed: bool,
    pub(super) length_removed: bool,
    pub(super) body_changed: bool,
}

/// Where the script and the filter find it.
pub(super) type Shared = Rc<RefCell<Live>>;

/// What is a part of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Part {
    Request,
    Response,
    Trailers,
}

/// The headers of a message, or its trailers.
#[derive(Debug)]
pub(super) struct Headers {
    pub(super) live: Shared,
    pub(super) message: u64,
    pub(super) part: Part,
}

/// A body, or a part of it.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) live: Shared,
    pub(super) message: u64,
}

fn out_of_scope() -> Error {
    Error::runtime("object used outside of proper scope")
}

fn with<R>(
    live: &Shared,
    message: u64,
    what: impl FnOnce(&mut Live) -> Result<R, Error>,
) -> Result<R, Error> {
    let mut live = live.try_borrow_mut().map_err(|_| out_of_scope())?;
    if live.message != message {
        return Err(out_of_scope());
    }
    what(&mut live)
}

impl Live {
    fn fields(&mut self, part: Part) -> &mut Fields {
        match part {
            Part::Request => &mut self.request.fields,
            Part::Response => &mut self.response.fields,
            Part::Trailers => &mut self.trailers,
        }
    }

    /// All headers, in Envoy's order.
    fn list(&mut self, part: Part) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut list = Vec::new();
        let mut add = |name: &[u8], value: &[u8]| list.push((name.to_vec(), value.to_vec()));
        match part {
            Part::Request => {
                let head = &self.request;
                add(b":authority", head.authority().unwrap_or_default());
                add(b":path", head.target());
                add(b":method", head.method_name());
                if let Some(scheme) = head.scheme {
                    add(b":scheme", scheme.as_str().as_bytes());
                }
            }
            Part::Response => add(b":status", self.response.status.to_string().as_bytes()),
            Part::Trailers => {}
        }
        for (id, name, value) in self.fields(part).iter() {
            if id != FieldName::Host || part != Part::Request {
                add(name, value);
            }
        }
        list
    }

    fn values(&mut self, part: Part, name: &[u8]) -> Vec<Vec<u8>> {
        let name = name.to_ascii_lowercase();
        let name = if part == Part::Request && name == b"host" { b":authority" } else { &*name };
        let list = self.list(part).into_iter();
        list.filter(|(other, _)| other == name).map(|(_, value)| value).collect()
    }

    fn change(&mut self, part: Part, change: Change) -> Result<(), Error> {
        if part != Part::Trailers && !self.is_held {
            return Err(Error::runtime("header map can no longer be modified"));
        }
        self.head_changed = true;
        match &change {
            Change::Set(_, value) | Change::Add(_, value)
                if change.name() == b"content-length" && part != Part::Trailers =>
            {
                let length = self.body.len().to_string();
                if *value == length.as_bytes() {
                    return Ok(());
                }
                return Err(Error::runtime("content-length is that of the body"));
            }
            Change::Remove(name) if name == b"content-length" && part != Part::Trailers => {
                self.length_removed = true;
                self.fields(part).remove(FieldName::ContentLength);
            }
            Change::Set(name, value) if name == b":method" && part == Part::Request => {
                self.request.set_method(value);
            }
            Change::Set(name, value) if name == b":status" && part == Part::Response => {
                let text = std::str::from_utf8(value).ok();
                let status = text.and_then(|text| text.parse().ok());
                let status = status.filter(|status| (200..1000).contains(status));
                self.response.status =
                    status.ok_or_else(|| Error::runtime("this is not a status"))?;
            }
            _ if part == Part::Request => change_request(vec![change], &mut self.request),
            _ => change.apply(self.fields(part)),
        }
        Ok(())
    }
}

impl Headers {
    fn with<R>(&self, what: impl FnOnce(&mut Live) -> Result<R, Error>) -> Result<R, Error> {
        with(&self.live, self.message, what)
    }
}

/// A header as a script gives it; what is no header is an error of the script.
fn field(name: &LuaString, value: Option<&LuaString>) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let name = name.as_bytes().to_ascii_lowercase();
    let value = value.map(|value| value.as_bytes().to_vec()).unwrap_or_default();
    if !is_field(&name, &value) {
        return Err(Error::runtime("this is not a header"));
    }
    Ok((name, value))
}

impl UserData for Headers {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("get", |lua, this, name: LuaString| {
            let values = this.with(|live| Ok(live.values(this.part, &name.as_bytes())))?;
            // As in Envoy, what is not there is no value at all.
            if values.is_empty() {
                return Ok(MultiValue::new());
            }
            let joined = lua.create_string(values.join(&b","[..]))?;
            Ok(MultiValue::from_iter([Value::String(joined)]))
        });
        methods.add_method("getAtIndex", |lua, this, (name, at): (LuaString, i64)| {
            let values = this.with(|live| Ok(live.values(this.part, &name.as_bytes())))?;
            let value = usize::try_from(at).ok().and_then(|at| values.get(at));
            let value = value.map(|value| lua.create_string(value)).transpose()?;
            Ok(MultiValue::from_iter(value.map(Value::String)))
        });
        methods.add_method("getNumValues", |_, this, name: LuaString| {
            this.with(|live| Ok(live.values(this.part, &name.as_bytes()).len()))
        });
        methods.add_method("add", |_, this, (name, value): (LuaString, LuaString)| {
            let (name, value) = field(&name, Some(&value))?;
            this.with(|live| live.change(this.part, Change::Add(name, value)))
        });
        methods.add_method("replace", |_, this, (name, value): (LuaString, LuaString)| {
            let (name, value) = field(&name, Some(&value))?;
            this.with(|live| live.change(this.part, Change::Set(name, value)))
        });
        methods.add_method("remove", |_, this, name: LuaString| {
            let (name, _) = field(&name, None)?;
            this.with(|live| live.change(this.part, Change::Remove(name)))
        });
        methods.add_meta_method(MetaMethod::Pairs, |lua, this, ()| {
            let list = this.with(|live| Ok(live.list(this.part)))?;
            let mut rest = list.into_iter();
            let (live, message) = (Rc::clone(&this.live), this.message);
            lua.create_function_mut(move |lua: &Lua, _: MultiValue| {
                with(&live, message, |_| Ok(()))?;
                let Some((name, value)) = rest.next() else { return Ok((None, None)) };
                Ok((Some(lua.create_string(name)?), Some(lua.create_string(value)?)))
            })
        });
    }
}

impl UserData for Body {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("length", |_, this, ()| {
            with(&this.live, this.message, |live| Ok(live.body.len()))
        });
        methods.add_method("getBytes", |lua, this, (at, length): (usize, usize)| {
            with(&this.live, this.message, |live| {
                let end = at.checked_add(length);
                let bytes = end.and_then(|end| live.body.get(at..end));
                let bytes = bytes.ok_or_else(|| {
                    Error::runtime(
                        "index/length must be >= 0 and (index + length) must be <= buffer size",
                    )
                })?;
                lua.create_string(bytes)
            })
        });
        methods.add_method("setBytes", |_, this, bytes: LuaString| {
            with(&this.live, this.message, |live| {
                // The length of what has gone on was said already.
                if !live.is_held {
                    return Err(Error::runtime("a part of a body cannot be changed"));
                }
                live.body = bytes.as_bytes().to_vec();
                live.body_changed = true;
                Ok(live.body.len())
            })
        });
    }
}
