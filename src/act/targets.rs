//! Which targets a smoke test may ask: only addresses that a sane worker can have named.
//!
//! A target is an address that a worker named at its registration, and the leader's machine asks it. So a worker must
//! not be able to point it at what only that machine reaches. Invariant: a loopback address is asked only where all
//! addresses of the worker that has it are loopback, as in `slipwayd dev` and the demo, where nodes and workers are one
//! machine. Not here: asking.

use std::net::{IpAddr, SocketAddr};

use crate::{
    model::unfit,
    state::{Delivery, State, Worker},
};

/// Why this delivery is not made: the first target that may not be asked.
pub fn refusal(state: &State, delivery: &Delivery) -> Option<String> {
    delivery.targets.iter().find_map(|target| problem(state, target).map(|why| format!("{target} is not asked: {why}")))
}

fn problem(state: &State, target: &str) -> Option<String> {
    let Ok(at) = target.parse::<SocketAddr>() else { return Some("it is not an address with a port".into()) };
    let address = at.ip().to_canonical();
    if let Some(why) = unfit(address) {
        return Some(format!("{address} {why}"));
    }
    let by_pool = state.workers.with_address(at.ip()).filter_map(|name| state.workers.get(name));
    let by_host = state.workers.values().filter(|w| w.host.parse() == Ok(at.ip()));
    let nobodys = address.is_loopback() && !by_pool.chain(by_host).any(keeps_to_loopback);
    nobodys.then(|| {
        format!("{address} is loopback, so it would be another machine's at each node; give the worker an address that others reach")
    })
}

/// Whether a worker has none but loopback addresses.
fn keeps_to_loopback(worker: &Worker) -> bool {
    let mut all = worker.pool.keys().chain([&worker.host]).map(|a| a.parse::<IpAddr>());
    all.all(|a| a.is_ok_and(|a| a.to_canonical().is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{ClusterId, Millis, Principal, WorkerName},
        state::{
            Command, LogId, NewNode, Stamped, apply,
            command::{ClusterInit, WorkerRegistered},
        },
    };

    fn commit(state: &mut State, body: Command) -> Result<(), String> {
        let at = LogId { term: 1, index: state.applied.index + 1 };
        let principal = Principal::local_operator();
        let stamped = Stamped { at: Millis(at.index), wall: 1, term: 1, principal, request: None, body };
        apply(state, at, &stamped).map(drop).map_err(|e| e.to_string())
    }

    fn registered(state: &mut State, n: u32, host: &str, pool: &[&str]) -> Result<(), String> {
        let command = Command::WorkerRegistered(WorkerRegistered {
            name: WorkerName::new(&format!("w{n}")).unwrap(),
            key: format!("{n:064x}"),
            labels: Default::default(),
            capacity: 20,
            build: "1".into(),
            host: host.into(),
            pool: pool.iter().map(ToString::to_string).collect(),
            absent: Vec::new(),
            keeping: String::new(),
        });
        commit(state, command)
    }

    fn asked(state: &State, target: &str) -> Option<String> {
        let delivery = Delivery {
            meta: Default::default(),
            path: "/smoke".into(),
            targets: vec![target.into()],
            rollout: crate::model::RolloutId(1),
            step: 0,
            attempt: 1,
            expires: Millis(0),
        };
        refusal(state, &delivery)
    }

    #[test]
    fn a_smoke_test_asks_no_address_of_the_leaders_own_unless_the_fleet_is_on_loopback() {
        let mut s = State::default();
        let node = NewNode {
            name: "n1".into(),
            peer_addr: "10.0.0.1:7653".into(),
            client_addr: "10.0.0.1:7652".into(),
            dns_addr: "10.0.0.1:53".into(),
            level: 1,
        };
        let (id, name, zone) = (ClusterId::new("c1").unwrap(), "test".into(), "slipway.internal".into());
        commit(&mut s, Command::ClusterInit(ClusterInit { id, name, zone, node })).unwrap();
        // What no instance can have is refused at the door, and not asked should it be there.
        for odd in ["169.254.169.254", "fe80::1", "0.0.0.0", "::ffff:169.254.169.254"] {
            let said = registered(&mut s, 1, "10.0.0.9", &[odd]).unwrap_err();
            assert!(said.contains(odd) && said.contains("no instance can have it"), "{said}");
            let said = registered(&mut s, 1, odd, &[]).unwrap_err();
            assert!(said.contains(odd), "{said}");
        }
        for odd in ["169.254.169.254:80", "[fe80::1]:80", "[::ffff:169.254.169.254]:80", "224.0.0.1:80"] {
            assert!(asked(&s, odd).is_some_and(|why| why.starts_with(odd)), "{odd}");
        }
        // A worker that others reach points it at loopback, by its pool or by the host that it was given.
        registered(&mut s, 1, "127.0.0.1", &["10.1.1.1"]).unwrap();
        registered(&mut s, 2, "10.0.0.9", &["127.0.0.2"]).unwrap();
        assert_eq!(asked(&s, "10.1.1.1:80"), None);
        for own in ["127.0.0.1:80", "127.0.0.2:80", "[::1]:80"] {
            assert!(asked(&s, own).is_some_and(|why| why.contains("is loopback")), "{own}");
        }
        // Nodes and workers on one machine.
        registered(&mut s, 3, "127.0.0.1", &["127.60.1.1"]).unwrap();
        assert_eq!((asked(&s, "127.60.1.1:80"), asked(&s, "127.0.0.1:80")), (None, None));
        assert!(asked(&s, "127.0.0.2:80").is_some());
    }
}
