//! File descriptors: as many as there can be, and what happens when they run short.

use std::thread;

use crate::support::{Client, Config, Origin, Proxy, is_oracle, wait_until};

#[test]
fn the_soft_limit_is_raised_to_the_hard_one() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin).soft_and_hard_descriptors(100, 400));
    // Each needs two.
    let mut clients: Vec<_> = (0..120).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status(), 200);
    }
    if !is_oracle() {
        let log = proxy.log();
        let warning = log.lines().find(|line| line.contains("file descriptors: at most 400"));
        assert!(warning.is_some_and(|line| line.contains("[warning]")), "{log}");
    }
}

#[test]
fn everybody_is_answered_when_clients_come_by_more_than_descriptors() {
    if is_oracle() {
        return; // Envoy accepts as long as it can, and has nothing left for its upstreams.
    }
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin).descriptors(128).shards(2));
    let clients: Vec<Client> = (0..150).map(|_| proxy.connect()).collect();
    thread::scope(|scope| {
        for mut client in clients {
            scope.spawn(move || assert_eq!(client.get("/").status(), 200));
        }
    });
    let told = |words: &str| proxy.log().lines().filter(|line| line.contains(words)).count();
    wait_until("the log to say that it paused", || told("accepting pauses with ") > 0);
    wait_until("the log to say that it is over", || told("accepting again") > 0);
    assert_eq!((told("accepting pauses with "), told("accepting again")), (1, 1));
    assert_eq!(told("LimitNOFILE"), 2, "at the start, and when it paused");
    assert_eq!(proxy.get("/").status(), 200);
}

#[test]
fn idle_clients_leave_descriptors_for_upstreams() {
    if is_oracle() {
        return;
    }
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin).descriptors(128));
    let mut clients: Vec<Client> = (0..150).map(|_| proxy.connect()).collect();
    let most = (128 - 32 - 9) / 2;
    proxy.stat_becomes("http.front.downstream_cx_active", most);
    proxy.rests();
    for client in clients.iter_mut().take(usize::try_from(most).unwrap()) {
        assert_eq!(client.get("/").status(), 200);
    }
    // Whoever waits gets the place of one that leaves.
    let waiting = clients.pop().unwrap();
    drop(clients);
    let mut waiting = waiting;
    assert_eq!(waiting.get("/").status(), 200);
}
