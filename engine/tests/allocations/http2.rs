//! A client of HTTP/2 with prior knowledge. It sends the same bytes every time.

use std::io::{Read, Write};

use crate::shard::Client;

/// A connection to a shard that runs as long as the test.
pub(crate) struct Http2Client {
    client: Client,
    next: u32,
}

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:method`, `:scheme`, `:path` and `:authority`, in HPACK.
const GET: &[u8] = b"\x82\x86\x04\x05/some\x01\x0abench.test";

impl Http2Client {
    pub(crate) fn of_a_shard() -> Self {
        let mut client = Client::of_a_shard(None);
        let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        out.extend(frame(SETTINGS, 0, 0, &[]));
        out.extend(frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes()));
        client.stream().write_all(&out).unwrap();
        Self { client, next: 1 }
    }

    /// So many small GETs at once, and their answers.
    pub(crate) fn get(&mut self, streams: usize) {
        let mut out = Vec::new();
        for _ in 0..streams {
            out.extend(frame(HEADERS, END_HEADERS | END_STREAM, self.next, GET));
            self.next += 2;
        }
        self.client.stream().write_all(&out).unwrap();
        let mut left = streams;
        while left > 0 {
            let (kind, flags) = self.read_frame();
            if kind == SETTINGS && flags & ACK == 0 {
                self.client.stream().write_all(&frame(SETTINGS, ACK, 0, &[])).unwrap();
            } else if kind <= HEADERS && flags & END_STREAM != 0 {
                left -= 1;
            }
        }
    }

    fn read_frame(&mut self) -> (u8, u8) {
        let mut head = [0; 9];
        self.client.stream().read_exact(&mut head).unwrap();
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.client.stream().read_exact(&mut payload).unwrap();
        (kind, flags)
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = length.to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}
