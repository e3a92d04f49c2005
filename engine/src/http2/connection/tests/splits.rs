//! How the bytes are split makes no difference: not to the events, not to what is sent.

use super::*;

/// Numbers that look random, the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most as u64).unwrap()
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// What a side has seen and said.
type Transcript = (Vec<String>, Vec<u8>, Option<ConnectionError>);

fn transcript(side: &Side) -> Transcript {
    (side.events.clone(), side.connection.out().to_vec(), side.error)
}

fn whole(mut side: Side, bytes: &[u8]) -> Transcript {
    side.receive(bytes);
    transcript(&side)
}

fn in_pieces(mut side: Side, mut bytes: &[u8], mut piece: impl FnMut() -> usize) -> Transcript {
    while !bytes.is_empty() {
        let (first, rest) = bytes.split_at(piece().clamp(1, bytes.len()));
        side.receive(first);
        bytes = rest;
    }
    transcript(&side)
}

/// A valid conversation with some of everything.
fn conversation() -> Vec<u8> {
    [
        begun(),
        get(1, END_STREAM),
        frame(HEADERS, 0, 3, &GET[..2]),
        frame(CONTINUATION, END_HEADERS, 3, &GET[2..]),
        frame(DATA, PADDED, 3, &[2, b'x', b'y', 0, 0]),
        frame(PING, 0, 0, &[7; 8]),
        frame(DATA, 0, 3, b"z"),
        frame(HEADERS, END_HEADERS | END_STREAM, 3, &[0, 1, b'a', 1, b'b']),
        setting(4, 10),
        get(5, 0),
        frame(DATA, END_STREAM | PADDED, 5, &[1, 0]),
        frame(200, 7, 9, b"unknown"),
        get(7, 0),
        rst_stream(7, 8),
        window_update(0, 5),
        frame(GOAWAY, 0, 0, &[0; 12]),
        get(9, END_STREAM),
    ]
    .concat()
}

#[test]
fn of_a_valid_conversation() {
    let bytes = conversation();
    let expected = whole(Side::server(), &bytes);
    assert_eq!(expected.2, None);
    for at in 1..bytes.len() {
        let mut cut = [at, bytes.len()].into_iter();
        let found = in_pieces(Side::server(), &bytes, || cut.next().unwrap());
        assert_eq!(found, expected, "cut at {at}");
    }
    assert_eq!(in_pieces(Side::server(), &bytes, || 1), expected);
}

/// A frame of a client that makes a mistake now and then; `begun` is its highest stream.
fn random_frame(random: &mut Random, begun: &mut u32) -> Vec<u8> {
    if random.below(12) == 0 {
        let kind = u8::try_from(random.below(11)).unwrap();
        let payload = random.one_of(&[&GET[..], &[0, 0, 0, 9], &[], &[0; 5], &[0; 8]]);
        return frame(
            kind,
            random.one_of(&[0, 1, 4, 5, 8, 0x20]),
            random.one_of(&[0, 1, 2]),
            payload,
        );
    }
    let stream = random.one_of(&[1, begun.saturating_sub(2).max(1), *begun]);
    match random.below(8) {
        0..3 => {
            *begun += 2;
            let flags = random.one_of(&[0, 0, END_STREAM]);
            match random.below(3) {
                0 => get(*begun, flags),
                1 => frame(
                    HEADERS,
                    flags | END_HEADERS | PADDED,
                    *begun,
                    &[&[1], &GET[..], &[0]].concat(),
                ),
                _ => [
                    frame(HEADERS, flags, *begun, &GET[..4]),
                    frame(CONTINUATION, END_HEADERS, *begun, &GET[4..]),
                ]
                .concat(),
            }
        }
        3 => frame(DATA, 0, *begun, random.one_of(&[&b"x"[..], &[b'y'; 300]])),
        4 => frame(DATA, random.one_of(&[PADDED, PADDED | END_STREAM]), *begun, b"\x01abc"),
        5 => rst_stream(stream, 8),
        6 => random
            .one_of(&[window_update(0, 9), window_update(stream, 9)].each_ref().map(|it| &**it))
            .to_vec(),
        _ => frame(PING, 0, 0, b"12345678"),
    }
}

#[test]
fn of_random_frames() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut survivors = 0;
    for run in 0..3000 {
        let (mut bytes, mut begun_to) = (begun(), 1);
        bytes.extend(get(1, 0));
        for _ in 0..random.below(12) {
            bytes.extend(random_frame(&mut random, &mut begun_to));
        }
        let options = Options {
            stream_errors: random.one_of(&[StreamErrors::EndTheStream, StreamErrors::default()]),
            ..Options::default()
        };
        let side = || Side::server_with(&options);
        let expected = whole(side(), &bytes);
        survivors += usize::from(expected.2.is_none());
        let found = in_pieces(side(), &bytes, || 1 + random.below(20));
        assert_eq!(found, expected, "run {run}: {bytes:x?}");
    }
    assert!((300..2700).contains(&survivors), "{survivors} conversations were good");
}
