#![allow(missing_docs)]
use corvoy_config::*;
#[test]
fn try_() {
    for f in std::env::var("F").unwrap().split_whitespace() {
        let s = Source::file(std::path::Path::new(f)).unwrap();
        let mut p = Problems::default();
        let t = std::time::Instant::now();
        let l = load(&s, &mut p);
        println!("=== {f} {} {:?}", if l.is_some() { "OK" } else { "REFUSED" }, t.elapsed());
        println!("{}", render(&p, &s));
    }
}
