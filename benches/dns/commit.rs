//! From commit to served answer at full size: 1,000 services with 100,000 instances, built through real commands.
//!
//! Each round is one committed entry that changes what DNS may name (an instance's health, as its worker reports it):
//! decoded, applied, published to the view, and asked for once. The time is from the entry's bytes to the answer's. No
//! disk and no network are in it.

use std::{sync::Arc, time::Instant};

use slipway::{
    clock::Clock,
    dns::{Responder, Transport, ViewStore},
    state::State,
};

use super::{
    fleet::{GROUP, World, deployment, transition},
    names,
};

const ROUNDS: usize = 2000;

/// Runs in a process of its own; prints the line of figures, and the 99th percentile in milliseconds last.
pub fn run(services: u32) {
    let began = Instant::now();
    let mut world = World::new(services);
    let built = began.elapsed().as_secs_f64();
    let store = Arc::new(ViewStore::new());
    store.set_node(1);
    let began = Instant::now();
    store.publish(&world.state);
    let whole_ms = began.elapsed().as_secs_f64() * 1e3;
    store.set_ready(true);
    let responder = Responder::new(Arc::clone(&store), Clock::real());
    let instances = world.state.instances.len();
    let mut took = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let service = (round as u32 * 7919) % services + 1;
        let (worker, instance) = some_instance(&world.state, service, round);
        let command = transition(&world, service, worker, instance);
        let entry = world.entry(command, false, 1);
        let query = names::query(&names::service(service));
        let before = Arc::clone(&world.state);
        let began = Instant::now();
        world.commit(&entry).expect("it is applied");
        store.publish(&world.state);
        let answer = responder.respond(&query, ([127, 0, 0, 1], 9).into(), Transport::Udp).expect("an answer");
        took.push(began.elapsed().as_secs_f64() * 1e3);
        assert!(answer[3] & 0x0f == 0 && *store.served_index().borrow() == world.index(), "it is served");
        // The State before ends here, as its last reader lets go of it some time later.
        drop(before);
    }
    took.sort_by(f64::total_cmp);
    let at = |part: usize| took[ROUNDS * part / 1000];
    println!(
        "# commit to served answer, {services} services, {instances} instances (built in {built:.0} s; first view {whole_ms:.0} ms): p50 {:.3} ms, p99 {:.3} \
         ms, p99.9 {:.3} ms of {ROUNDS} health changes",
        at(500),
        at(990),
        at(999)
    );
    println!("{:.3}", at(990));
}

/// An instance of the service, and the number of its worker.
fn some_instance(state: &State, service: u32, round: usize) -> (u32, slipway::model::InstanceId) {
    let all: Vec<_> = state.instances_of(&deployment(service)).collect();
    let row = all[round % all.len()];
    let number = row.worker.as_str().rsplit('-').next().and_then(|n| n.parse().ok()).expect("w<service>-<number>");
    assert!(number < GROUP);
    (number, row.id)
}
