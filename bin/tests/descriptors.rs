//! File descriptors: the limit is raised as far as possible, and a shortage loses no client.

use std::thread;

use crate::support::{Client, Config, Origin, Proxy, is_oracle, wait_until};

#[test]
fn the_soft_limit_is_raised_to_the_hard_one() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin).soft_and_hard_descriptors(100, 400));
    // Each request needs two.
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
fn every_client_is_answered_even_if_there_are_more_than_descriptors() {
    if is_oracle() {
        return; // Envoy accepts until there are no descriptors left for upstreams.
    }
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin).descriptors(128).shards(2));
    let clients: Vec<Client> = (0..150).map(|_| proxy.connect()).collect();
    thread::scope(|scope| {
        for mut client in clients {
            scope.spawn(move || assert_eq!(client.get("/").status(), 200));
        }
    });
    let logged = |words: &str| proxy.log().lines().filter(|line| line.contains(words)).count();
    wait_until("the log to say that it paused", || logged("accepting paused at ") > 0);
    wait_until("the log to say that it is over", || logged("accepting resumed") > 0);
    assert_eq!((logged("accepting paused at "), logged("accepting resumed")), (1, 1));
    assert_eq!(logged("LimitNOFILE"), 2, "at the start, and when it paused");
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
    proxy.stays_idle();
    for client in clients.iter_mut().take(usize::try_from(most).unwrap()) {
        assert_eq!(client.get("/").status(), 200);
    }
    // A waiting client gets the descriptor of one that leaves.
    let waiting = clients.pop().unwrap();
    drop(clients);
    let mut waiting = waiting;
    assert_eq!(waiting.get("/").status(), 200);
}
