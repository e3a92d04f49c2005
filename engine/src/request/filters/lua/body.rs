//! Bodies and trailers on their way past a script.

use mlua::Value;

use super::run::{Run, Step, Waits, answer_of};
use super::{Lua, Message, State};
use crate::http::Fields;
use crate::request::filters::piece::lines_of;
use crate::request::filters::{Context, Piece, Progress, Way};

impl Lua {
    pub(in crate::request::filters) fn body(
        &self,
        way: Way,
        state: &mut State,
        input: &mut Piece,
        output: &mut Piece,
        cx: &mut Context<'_, '_>,
    ) -> Progress {
        let message = state.message(way);
        let Message::Running(run) = message else {
            output.take_all(input);
            return Progress::Moved;
        };
        if let Some(end) = input.end.take() {
            run.end = Some(end);
        }
        loop {
            let waits = std::mem::replace(&mut run.waits, Waits::Nothing);
            let step = match waits {
                Waits::Chunk if !input.data.is_empty() => {
                    let data = std::mem::take(&mut input.data);
                    let (data, step) = self.show_chunk(run, data, way, cx);
                    output.data.extend_from_slice(&data);
                    step
                }
                Waits::Chunk if run.end.is_some() => {
                    self.resume(run, vec![Value::Boolean(true), Value::Nil], way, cx)
                }
                Waits::Trailers if run.end.is_some() => {
                    output.data.append(&mut input.data);
                    self.show_trailers(run, way, cx)
                }
                Waits::Trailers => {
                    output.data.append(&mut input.data);
                    run.waits = Waits::Trailers;
                    return Progress::Moved;
                }
                Waits::Call { call, duplicates } if call.has_ended() => {
                    match answer_of(run, &call, duplicates) {
                        Ok(values) => self.resume(run, values, way, cx),
                        Err(error) => {
                            self.failed(&error, cx);
                            Step::Finished
                        }
                    }
                }
                waits @ Waits::Call { .. } => {
                    run.waits = waits;
                    return Progress::Blocked;
                }
                waits => {
                    run.waits = waits;
                    return Progress::Moved;
                }
            };
            if matches!(step, Step::Finished | Step::Body | Step::Respond(_)) {
                break;
            }
        }
        // The script has finished.
        let end = run.end.take();
        *message = Message::Done;
        output.data.append(&mut input.data);
        if end.is_some() {
            output.end = end;
        }
        Progress::Moved
    }

    /// Shows a part of the body to the script; returns what it makes of it.
    fn show_chunk(
        &self,
        run: &mut Run,
        data: Vec<u8>,
        way: Way,
        cx: &mut Context<'_, '_>,
    ) -> (Vec<u8>, Step) {
        let body = match run.body() {
            Ok(body) => body,
            Err(error) => {
                self.failed(&error, cx);
                return (data, Step::Finished);
            }
        };
        if let Some(vm) = run.vm() {
            vm.live.borrow_mut().body = data;
        }
        let step = self.resume(run, vec![Value::Boolean(true), body], way, cx);
        let data = run.vm().map(|vm| std::mem::take(&mut vm.live.borrow_mut().body));
        (data.unwrap_or_default(), step)
    }

    fn show_trailers(&self, run: &mut Run, way: Way, cx: &mut Context<'_, '_>) -> Step {
        let lines = run.end.clone().unwrap_or_default();
        let trailers = match run.trailers(&lines) {
            Ok(trailers) => trailers,
            Err(error) => {
                self.failed(&error, cx);
                return Step::Finished;
            }
        };
        if let Some(vm) = run.vm() {
            vm.live.borrow_mut().trailers = Fields::of_lines(&lines);
        }
        let step = self.resume(run, vec![Value::Boolean(true), trailers], way, cx);
        if !lines.is_empty()
            && let Some(vm) = run.vm()
        {
            let mut changed = Vec::new();
            lines_of(&vm.live.borrow().trailers, &mut changed);
            run.end = Some(changed);
        }
        step
    }
}
