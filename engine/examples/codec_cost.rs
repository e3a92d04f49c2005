use corvoy_engine::downstream::{connection_manager::*, normalize};
use corvoy_engine::http1::*;
fn main() {
    let n: u32 = std::env::args().nth(1).unwrap().parse().unwrap();
    let what: u32 = std::env::args().nth(2).unwrap().parse().unwrap();
    let text = b"GET /headers HTTP/1.1\r\nHost: localhost:15001\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n";
    let manager = ConnectionManager::default();
    let peer =
        Peer { remote: ([127, 0, 0, 1], 1).into(), local: ([127, 0, 0, 1], 2).into(), tls: false };
    let mut head = RequestHead::default();
    let mut out = Vec::with_capacity(4096);
    let mut seed = 1u64;
    let mut rng = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
        seed
    };
    let mut sum = 0;
    for _ in 0..n {
        head.clear();
        out.clear();
        head.received().extend_from_slice(text);
        if what >= 1 {
            let used = head.parse(&manager.limits).unwrap().unwrap();
            sum += used;
        }
        if what >= 2 {
            assert_eq!(framing::request(&head), Ok(BodyLength::None));
            let o = normalize::request(&mut head, &manager, &peer, &mut rng);
            assert!(matches!(o, normalize::Outcome::Continue(_)));
            framing::announce_request(&mut head, BodyLength::None);
        }
        if what >= 3 {
            encode::request(&head, &mut out);
        }
        sum += out.len();
    }
    println!("{sum}");
}
