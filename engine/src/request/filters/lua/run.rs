//! A script at work for a message.

use std::rc::Rc;

use mlua::{Error, MultiValue, Thread, Value};

use super::live::{Body, Headers, Live, Part};
use super::value::of_json;
use super::vm::Vm;
use super::{Lua, has_body};
use crate::http::{BodyLength, FieldName, Fields};
use crate::request::callout::{Call, CallFailed, Response};
use crate::request::filters::piece::lines_of;
use crate::request::filters::{Context, Way};
use crate::request::reply::LocalReply;

/// The script of a message.
#[derive(Debug)]
pub(super) struct Run {
    vm: Rc<Result<Vm, String>>,
    thread: Thread,
    message: u64,
    pub(super) waits: Waits,
    /// Whether the head has not gone on yet.
    pub(super) is_held: bool,
    /// Whether it has asked for parts of the body.
    pub(super) streams: bool,
    /// The end of the body with its trailers, if the script has not seen it yet.
    pub(super) end: Option<Vec<u8>>,
}

/// What a script waits for.
#[derive(Debug)]
pub(super) enum Waits {
    Nothing,
    Body,
    Chunk,
    Trailers,
    Call {
        call: Call,
        /// Whether the script wants all values of a header.
        duplicates: bool,
    },
}

/// What happens to a message after its script has run.
#[derive(Debug)]
pub(super) enum Step {
    Finished,
    /// The script waits for the body.
    Body,
    /// The script waits for a part of the body: the head goes on.
    Chunk,
    /// The script waits for the trailers: the head and the body go on.
    Trailers,
    /// The script waits for the answer to a call.
    Call,
    Respond(Box<LocalReply>),
}

/// What a script gets for what it has asked.
pub(super) enum Answer {
    /// These values.
    Values(Vec<Value>),
    /// It waits.
    Waits(Waits),
    Respond(Box<LocalReply>),
}

impl Run {
    /// Begins it; none: the script has no function for the message.
    pub(super) fn begin(
        vm: &Rc<Result<Vm, String>>,
        way: Way,
    ) -> Result<Option<(Box<Self>, Value)>, Error> {
        let Ok(loaded) = &**vm else { return Ok(None) };
        let part = match way {
            Way::Request => Part::Request,
            Way::Response => Part::Response,
        };
        let Some((thread, handle, message)) = loaded.begin(part)? else { return Ok(None) };
        let run = Self {
            vm: Rc::clone(vm),
            thread,
            message,
            waits: Waits::Nothing,
            is_held: true,
            streams: false,
            end: None,
        };
        Ok(Some((Box::new(run), handle)))
    }

    pub(super) fn vm(&self) -> Option<&Vm> {
        self.vm.as_ref().as_ref().ok()
    }

    /// The body, as a script sees it.
    pub(super) fn body(&self) -> Result<Value, Error> {
        let Some(vm) = self.vm() else { return Ok(Value::Nil) };
        let body = Body { live: Rc::clone(&vm.live), message: self.message };
        vm.lua.create_userdata(body).map(Value::UserData)
    }

    /// Trailers, as a script sees them; nil, if there are none.
    pub(super) fn trailers(&self, lines: &[u8]) -> Result<Value, Error> {
        let Some(vm) = self.vm().filter(|_| !lines.is_empty()) else { return Ok(Value::Nil) };
        let (live, message) = (Rc::clone(&vm.live), self.message);
        vm.lua.create_userdata(Headers { live, message, part: Part::Trailers }).map(Value::UserData)
    }
}

impl Lua {
    /// What a script waits for has come, with its head still held.
    pub(super) fn go_on(&self, run: &mut Run, way: Way, cx: &mut Context<'_, '_>) -> Step {
        let answer = match std::mem::replace(&mut run.waits, Waits::Nothing) {
            Waits::Body if !cx.held.has_ended() => {
                run.waits = Waits::Body;
                return Step::Body;
            }
            Waits::Body => run.body().map(|body| vec![Value::Boolean(true), body]),
            Waits::Call { call, duplicates } => answer_of(run, &call, duplicates),
            Waits::Nothing | Waits::Chunk | Waits::Trailers => Ok(vec![Value::Boolean(true)]),
        };
        match answer {
            Ok(values) => self.resume(run, values, way, cx),
            Err(error) => {
                self.failed(&error, cx);
                Step::Finished
            }
        }
    }

    /// Runs the script until it has finished or waits.
    pub(super) fn resume(
        &self,
        run: &mut Run,
        mut values: Vec<Value>,
        way: Way,
        cx: &mut Context<'_, '_>,
    ) -> Step {
        loop {
            let asked = match self.execute(run, values, way, cx) {
                Ok(Some(asked)) => asked,
                Ok(None) => return Step::Finished,
                Err(error) => {
                    self.failed(&error, cx);
                    return Step::Finished;
                }
            };
            values = match self.answer(run, asked, way, cx) {
                Ok(Answer::Values(mut answer)) => {
                    answer.insert(0, Value::Boolean(true));
                    answer
                }
                Ok(Answer::Respond(reply)) => return Step::Respond(reply),
                Ok(Answer::Waits(waits)) => {
                    let step = match &waits {
                        Waits::Nothing => Step::Finished,
                        Waits::Body => Step::Body,
                        Waits::Chunk => Step::Chunk,
                        Waits::Trailers => Step::Trailers,
                        Waits::Call { .. } => Step::Call,
                    };
                    run.waits = waits;
                    return step;
                }
                // The script can handle it.
                Err(error) => vec![Value::Boolean(false), Value::Error(Box::new(error))],
            };
        }
    }

    /// Runs it until it asks for something; none: it has finished.
    fn execute(
        &self,
        run: &Run,
        values: Vec<Value>,
        way: Way,
        cx: &mut Context<'_, '_>,
    ) -> Result<Option<MultiValue>, Error> {
        let Some(vm) = run.vm() else { return Ok(None) };
        vm.renew_budget();
        let mut live = vm.live.take();
        (live.message, live.is_held) = (run.message, run.is_held);
        std::mem::swap(&mut live.request, &mut cx.core.heads.request);
        std::mem::swap(&mut live.response, &mut cx.core.heads.response);
        if run.is_held {
            live.body = std::mem::take(&mut cx.held.data);
            if let Some(lines) = &cx.held.end {
                live.trailers = Fields::of_lines(lines);
            }
        }
        vm.live.replace(live);
        let result = run.thread.resume::<MultiValue>(MultiValue::from_iter(values));
        let mut live = vm.live.take();
        live.message = 0;
        std::mem::swap(&mut live.request, &mut cx.core.heads.request);
        std::mem::swap(&mut live.response, &mut cx.core.heads.response);
        if run.is_held {
            cx.held.data = std::mem::take(&mut live.body);
            if let Some(lines) = cx.held.end.as_mut().filter(|lines| !lines.is_empty()) {
                lines_of(&live.trailers, lines);
            }
            self.follow(&mut live, way, cx);
        }
        vm.live.replace(live);
        let asked = result?;
        Ok(run.thread.is_resumable().then_some(asked))
    }

    /// Does what follows from the changes of a script.
    fn follow(&self, live: &mut Live, way: Way, cx: &mut Context<'_, '_>) {
        let body_changed = std::mem::take(&mut live.body_changed);
        if body_changed {
            let bytes = cx.held.data.len() as u64;
            let mut digits = itoa::Buffer::new();
            let text = digits.format(bytes).as_bytes();
            match way {
                Way::Request => cx.core.heads.request.fields.set(FieldName::ContentLength, text),
                Way::Response => cx.core.heads.response.fields.set(FieldName::ContentLength, text),
            }
            cx.put_out(way, BodyLength::Length(bytes));
        } else if std::mem::take(&mut live.length_removed) && has_body(way, cx) {
            cx.set_length(way, BodyLength::Chunked);
        }
        live.length_removed = false;
        let head_changed = std::mem::take(&mut live.head_changed);
        if head_changed && self.clear_route_cache && way == Way::Request {
            cx.clear_route_cache();
        }
    }
}

/// What a script gets for a call: the headers of the response and its body.
pub(super) fn answer_of(run: &Run, call: &Call, duplicates: bool) -> Result<Vec<Value>, Error> {
    let Some(vm) = run.vm() else { return Ok(Vec::new()) };
    let lua = &vm.lua;
    let headers = lua.create_table()?;
    let response = call.take_whole();
    let (status, fields, body) = match &response {
        Ok(Response { head, body, .. }) => (head.status, Some(&head.fields), &**body),
        Err(CallFailed::Reset | CallFailed::TooLarge) => (503, None, &b"upstream failure"[..]),
    };
    let mut names: Vec<(Vec<u8>, Vec<Vec<u8>>)> =
        vec![(b":status".to_vec(), vec![status.to_string().into_bytes()])];
    for (_, name, value) in fields.into_iter().flat_map(Fields::iter) {
        match names.iter_mut().find(|(other, _)| other == name) {
            Some((_, values)) => values.push(value.to_vec()),
            None => names.push((name.to_vec(), vec![value.to_vec()])),
        }
    }
    for (name, values) in names {
        let name = lua.create_string(name)?;
        match (values.as_slice(), duplicates) {
            ([_, _, ..], true) => {
                let list = lua.create_table()?;
                for value in values {
                    list.push(lua.create_string(value)?)?;
                }
                headers.set(name, list)?;
            }
            // As in Envoy, otherwise the last one counts.
            ([.., last], _) => headers.set(name, lua.create_string(last)?)?,
            ([], _) => {}
        }
    }
    let body = if body.is_empty() { Value::Nil } else { Value::String(lua.create_string(body)?) };
    Ok(vec![Value::Boolean(true), Value::Table(headers), body])
}

/// A value of a script, once per message.
pub(super) fn value(run: &Run, json: Option<&serde_json::Value>) -> Result<Value, Error> {
    match (run.vm(), json) {
        (Some(vm), Some(json)) => of_json(&vm.lua, json),
        _ => Ok(Value::Nil),
    }
}
