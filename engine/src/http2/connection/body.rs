//! DATA: checked with its header, handed on as it arrives (RFC 9113 §6.1).

use super::{Connection, Event, Input};
use crate::http::EndStream;
use crate::http2::error::{ConnectionError, ErrorCode};
use crate::http2::flow::Exceeded;
use crate::http2::frame::{HEADER, Header, flag};
use crate::http2::stream::{Part, Reset, StreamId};

/// What is still to come of a DATA frame.
#[derive(Debug)]
pub(super) struct Body {
    /// Whose it is; none: nobody wants it.
    stream: Option<StreamId>,
    data: usize,
    padding: usize,
    end: EndStream,
}

impl<S> Connection<S> {
    /// Begins a DATA frame: its header has arrived, with the length of the padding if it has any.
    pub(super) fn begin_data(
        &mut self,
        header: &Header,
        input: &mut Input<'_>,
    ) -> Result<Option<Event>, ConnectionError> {
        let is_padded = header.has(flag::PADDED);
        let padding = header.padding(input.rest().get(HEADER).copied())?;
        let data = header.length - padding;
        let start = input.take(HEADER + usize::from(is_padded)).end;
        let end = header.end();
        let padding = padding - usize::from(is_padded);
        self.body = Some(Body { stream: None, data, padding, end });
        self.abuse.content(data == 0 && end == EndStream::No, &self.options)?;

        //= rfc9113#section-6.9.1: the whole payload counts against both windows, with its padding.
        let length = u32::try_from(header.length).unwrap_or(u32::MAX);
        if self.receive_window.take(length) == Err(Exceeded) {
            let what = "DATA beyond the window of the connection";
            return Err(ConnectionError::frame(ErrorCode::FlowControlError, what));
        }
        let id = header.stream;
        if let Err(unwanted) = self.admit_data(id, data, length, end) {
            return match unwanted {
                Unwanted::IsIgnored => {
                    self.give_back(length);
                    Ok(None)
                }
                Unwanted::EndsTheStream(code) => self.stream_error(id, code).map(Some),
                Unwanted::EndsTheConnection(error) => Err(error),
            };
        }
        if let Some(body) = &mut self.body {
            body.stream = Some(id);
        }
        self.consumed(id, header.length - data);
        // What has no data is not found again by `continue_data`.
        let is_over = data == 0 && end == EndStream::Yes;
        Ok(is_over.then_some(Event::Data { stream: id, data: start..start, end: true }))
    }

    /// Whether DATA of so many bytes, in a payload of so many, may come on a stream now.
    fn admit_data(
        &mut self,
        id: StreamId,
        data: usize,
        payload: u32,
        end: EndStream,
    ) -> Result<(), Unwanted> {
        let Some(stream) = self.streams.get_mut(id) else {
            return Err(match self.check_closed(id, end) {
                Ok(()) => Unwanted::IsIgnored,
                Err(error) => Unwanted::EndsTheConnection(error),
            });
        };
        match (stream.reset, stream.receiving) {
            (Reset::No, Part::Body) => {}
            (Reset::ByUs, Part::Head | Part::Body) => {
                if end == EndStream::Yes {
                    stream.receiving = Part::Ended;
                }
                return Err(Unwanted::IsIgnored);
            }
            (Reset::ByPeer, _) | (_, Part::Ended) => {
                let what = "DATA behind the end of its stream";
                let error = ConnectionError::frame(ErrorCode::StreamClosed, what);
                return Err(Unwanted::EndsTheConnection(error));
            }
            //= rfc9113#section-8.1: a message begins with a head.
            (Reset::No, Part::Head) => {
                // What exceeds the window of the stream is not given back with the stream.
                if stream.receive_window.take(payload) == Err(Exceeded) {
                    self.give_back(payload);
                }
                return Err(Unwanted::EndsTheStream(ErrorCode::ProtocolError));
            }
        }
        if stream.receive_window.take(payload) == Err(Exceeded) {
            self.give_back(payload);
            return Err(Unwanted::EndsTheStream(ErrorCode::FlowControlError));
        }
        //= rfc9113#section-8.1.1: the content is as long as `content-length` announces.
        if let Some(expected) = &mut stream.expected {
            match expected.checked_sub(data as u64) {
                Some(left) if left == 0 || end == EndStream::No => *expected = left,
                _ => return Err(Unwanted::EndsTheStream(ErrorCode::ProtocolError)),
            }
        }
        if end == EndStream::Yes {
            stream.receiving = Part::Ended;
            self.unread.note(stream);
        }
        Ok(())
    }

    /// Handles what has arrived of the DATA frame that has begun.
    pub(super) fn continue_data(&mut self, input: &mut Input<'_>) -> Option<Event> {
        let body = self.body.as_mut()?;
        let had_data = body.data > 0;
        let data = input.take(body.data);
        body.data -= data.len();
        let is_last = body.data == 0;
        if is_last {
            body.padding -= input.take(body.padding).len();
        }
        // It may have been reset in the meantime.
        let id = body.stream.filter(|_| had_data && !data.is_empty());
        let end = is_last && body.end == EndStream::Yes;
        if is_last && body.padding == 0 {
            self.body = None;
        }
        let stream = id.filter(|id| self.streams.get(*id).is_some_and(|it| !it.is_reset()))?;
        Some(Event::Data { stream, data, end })
    }
}

/// Why DATA is not handed on.
enum Unwanted {
    /// It was on its way when its stream was reset.
    IsIgnored,
    EndsTheStream(ErrorCode),
    EndsTheConnection(ConnectionError),
}
