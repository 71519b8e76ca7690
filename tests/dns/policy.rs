//! Who gets which version: exact shares, agreeing siblings, switches, health.

use std::collections::BTreeSet;
use std::time::Duration;

use hickory_proto::{
    op::ResponseCode,
    rr::{RData, RecordType},
};
use slipway::{
    dns::DnsLimits,
    model::{BasisPoints, DnsPolicy, Health, Life, OnPanic, Pair, WhenEmpty},
    state::{Arm, Role, RouteMode},
};

use crate::fixture::{SHOP, Serving, World, addresses, pair, shop, switched, version};

#[tokio::test]
async fn shares_are_exact_over_the_wire_in_every_deck() {
    for (stable, candidate, deck, of_deck) in [(9000, 1000, 10, 1), (7500, 2500, 4, 1), (9700, 300, 100, 3)] {
        let serving = Serving::start(&World::shop(4, 2, (stable, candidate))).await;
        let client = serving.client().await;
        for _ in 0..3 {
            let mut canary = 0;
            for _ in 0..deck {
                canary += u32::from(version(&client.a(SHOP).await) == 2);
            }
            assert_eq!(canary, of_deck, "{candidate} basis points, deck of {deck}");
        }
        serving.stop().await;
    }
}

/// A candidate without traffic comes and goes between two versions that have some: the route's generation stays, and so
/// do the deck and the counts of both.
#[tokio::test]
async fn an_arm_that_comes_and_goes_leaves_the_others_their_deck_and_their_counts() {
    let mut world = World::shop(1, 1, (5000, 5000));
    world.deployment(|d| {
        let other = d.arms.take(Role::Candidate).unwrap();
        d.arms.put(Arm { role: Role::Previous, ..other });
    });
    let serving = Serving::start(&world).await;
    let client = serving.client().await;
    for turn in 0..20 {
        let seen = [version(&client.a(SHOP).await), {
            match turn % 2 {
                0 => world.arm(Role::Candidate, pair("3.0.0")),
                _ => world.deployment(|d| drop(d.arms.take(Role::Candidate))),
            };
            serving.publish(&world);
            version(&client.a(SHOP).await)
        }];
        assert_eq!(seen.iter().sum::<u8>(), 3, "a deck of two has one card of each, in turn {turn}: {seen:?}");
    }
    let r = serving.store.realised(&shop(), serving.clock.mono()).unwrap();
    let counts: Vec<(Role, u64)> = r.versions.iter().map(|(role, _, _, n)| (*role, *n)).collect();
    assert_eq!(counts, [(Role::Stable, 20), (Role::Previous, 20)]);
    serving.stop().await;
}

#[tokio::test]
async fn what_was_answered_is_told_beside_what_is_wanted() {
    let mut world = World::shop(2, 2, (9000, 1000));
    let serving = Serving::start(&world).await;
    let client = serving.client().await;
    let realised = |s: &Serving| s.store.realised(&shop(), s.clock.mono()).unwrap();
    for _ in 0..20 {
        client.a(SHOP).await;
    }
    let r = realised(&serving);
    let counts: Vec<u64> = r.versions.iter().map(|(_, _, _, n)| *n).collect();
    assert_eq!(counts, [18, 2]);
    assert_eq!((r.share(Role::Candidate), r.clients, r.largest_bp), (Some(1000), 1, 10_000));
    assert_eq!(r.spread_bp, 3000, "one client is all or nothing: sqrt(0.1 * 0.9)");
    // What the name itself does not choose by the policy is no answer of it.
    client.a(&format!("canary.{SHOP}")).await;
    assert_eq!(realised(&serving).versions[1].3, 2);
    client.a(&format!("k-alice.{SHOP}")).await;
    assert_eq!(realised(&serving).versions.iter().map(|v| v.3).sum::<u64>(), 21);
    world.route(5000, 5000);
    serving.publish(&world);
    let r = realised(&serving);
    assert_eq!((r.versions[1].3, r.clients), (0, 1), "counts begin anew with a route, clients do not");
    serving.stop().await;
}

#[tokio::test]
async fn siblings_agree_and_a_repeated_type_draws_anew() {
    let mut world = World::shop(2, 2, (5000, 5000));
    for n in 0..2 {
        world.instance(101, n, "1.0.0", &format!("fd00:1::{n}"));
        world.instance(201, n, "2.0.0", &format!("fd00:2::{n}"));
    }
    let serving = Serving::start(&world).await;
    let (client, other_socket) = (serving.client().await, serving.client().await);
    let v6 = |m: &hickory_proto::op::Message| -> u16 {
        let found: BTreeSet<u16> = m
            .answers
            .iter()
            .filter_map(|r| match &r.data {
                RData::AAAA(a) => Some(a.0.segments()[1]),
                _ => None,
            })
            .collect();
        assert_eq!(found.len(), 1);
        found.into_iter().next().unwrap()
    };
    let mut canary = 0;
    for n in 0..40 {
        let first = version(&client.a(SHOP).await);
        // Some clients use one socket for both families, others two.
        let asking = if n % 2 == 0 { &client } else { &other_socket };
        let second = v6(&asking.ask(SHOP, RecordType::AAAA).await);
        assert_eq!(u16::from(first), second, "A and AAAA of one look-up");
        canary += u32::from(first == 2);
    }
    assert_eq!(canary, 20, "a pair takes one card");
    // After two seconds an AAAA is a look-up of its own.
    let mut agreed = 0;
    for _ in 0..40 {
        let first = version(&client.a(SHOP).await);
        serving.clock.advance(Duration::from_millis(2001));
        agreed += u32::from(u16::from(first) == v6(&client.ask(SHOP, RecordType::AAAA).await));
        serving.clock.advance(Duration::from_millis(2001));
    }
    assert!(agreed < 40, "draws are independent once the memo is over");
    serving.stop().await;
}

#[tokio::test]
async fn a_family_that_nobody_has_takes_no_cards() {
    let serving = Serving::start(&World::shop(2, 2, (5000, 5000))).await;
    let client = serving.client().await;
    let mut canary = 0;
    for _ in 0..20 {
        assert!(client.ask(SHOP, RecordType::AAAA).await.answers.is_empty());
        canary += u32::from(version(&client.a(SHOP).await) == 2);
    }
    assert_eq!(canary, 10);
    serving.stop().await;
}

#[tokio::test]
async fn after_a_switch_no_answer_is_old() {
    let mut world = World::shop(3, 3, (10_000, 0));
    world.route_as(RouteMode::Switch, 1, 10_000, 0);
    let serving = Serving::start(&world).await;
    let client = serving.client().await;
    assert_eq!(version(&client.a(SHOP).await), 1);
    assert_eq!(version(&client.a(&format!("active.{SHOP}")).await), 1);
    assert_eq!(version(&client.a(&format!("preview.{SHOP}")).await), 2);
    for turn in 0..6_u8 {
        world.deployment(|d| switched(d, if turn == 0 { Role::Candidate } else { Role::Previous }));
        world.route_as(RouteMode::Switch, 1, 10_000, 0);
        let mut served = serving.store.served_index();
        serving.publish(&world);
        assert_eq!(*served.borrow_and_update(), world.0.applied.index);
        let expected = if turn % 2 == 0 { 2 } else { 1 };
        for _ in 0..50 {
            let m = client.ask(SHOP, RecordType::A).await;
            assert_eq!(version(&addresses(&m)), expected);
            assert!(m.answers.iter().all(|r| r.ttl == 1));
        }
        assert_eq!(version(&client.a(&format!("previous.{SHOP}")).await), 3 - expected);
        assert!(client.a(&format!("preview.{SHOP}")).await.is_empty());
    }
    serving.stop().await;
}

#[tokio::test]
async fn a_sibling_of_an_older_generation_is_not_followed() {
    let mut world = World::shop(1, 1, (10_000, 0));
    let id = world.instance(101, 0, "2.0.0", "fd00:2::1");
    let serving = Serving::start(&world).await;
    let client = serving.client().await;
    assert_eq!(version(&client.a(SHOP).await), 1);
    world.route(0, 10_000);
    serving.publish(&world);
    let m = client.ask(SHOP, RecordType::AAAA).await;
    assert_eq!(m.answers.len(), 1, "{id} is of the new weight's version");
    serving.stop().await;
}

#[tokio::test]
async fn a_changed_weight_is_a_new_deck_and_changed_health_is_not() {
    let mut world = World::shop(4, 4, (5000, 5000));
    let serving = Serving::start(&world).await;
    let client = serving.client().await;
    // Ten decks of two, with a change of health between the two cards of each.
    let mut canary = 0;
    for n in 0..20 {
        canary += u32::from(version(&client.a(SHOP).await) == 2);
        let id = slipway::model::InstanceId { index: 100, ordinal: 0 };
        world.change(id, |i| i.health = if n % 2 == 0 { Health::Failing } else { Health::Passing });
        serving.publish(&world);
    }
    assert_eq!(canary, 10);
    world.route(0, 10_000);
    serving.publish(&world);
    for _ in 0..10 {
        assert_eq!(version(&client.a(SHOP).await), 2);
    }
    serving.stop().await;
}

#[tokio::test]
async fn unhealthy_and_draining_instances_leave_and_shares_are_renormalised() {
    let mut world = World::shop(3, 1, (5000, 5000));
    let id = |index, ordinal| slipway::model::InstanceId { index, ordinal };
    let serving = Serving::start(&world).await;
    let client = serving.client().await;
    world.fail(id(100, 0)).drain(id(100, 1));
    serving.publish(&world);
    for _ in 0..10 {
        let got = client.a(SHOP).await;
        assert!(got.len() == 1 && (got[0].octets()[3] == 3 || version(&got) == 2), "{got:?}");
    }
    // The candidate has nothing left: stable takes all of it.
    world.change(id(200, 0), |i| i.health = Health::Unknown);
    serving.publish(&world);
    for _ in 0..10 {
        assert_eq!(version(&client.a(SHOP).await), 1);
    }
    assert_eq!(serving.responder.counts().renormalised, 10);
    world.change(id(100, 2), |i| i.life = Life::Starting);
    serving.publish(&world);
    let m = client.ask(SHOP, RecordType::A).await;
    assert!(m.answers.is_empty() && m.metadata.response_code == hickory_proto::op::ResponseCode::NoError);
    serving.stop().await;
}

#[tokio::test]
async fn instances_of_a_lost_worker_leave_in_time_unless_too_few_would_remain() {
    let mut world = World::shop(8, 0, (10_000, 0));
    for n in 0..4 {
        world.worker(n, None);
    }
    let serving = Serving::start(&world).await;
    let client = serving.client().await;
    let seen = async || {
        let mut all = BTreeSet::new();
        for _ in 0..4 {
            all.extend(client.a(SHOP).await);
        }
        all.len()
    };
    assert_eq!(seen().await, 8);
    world.worker(1, Some(2000)).at(12_000);
    serving.publish(&world);
    assert_eq!(seen().await, 8, "10 s after its last report it is lost, and still served");
    world.at(16_999);
    serving.publish(&world);
    assert_eq!(seen().await, 8);
    // Only time passes: no row changes.
    world.at(17_000);
    serving.publish(&world);
    assert_eq!(seen().await, 6);
    world.worker(2, Some(2000)).worker(3, Some(2000));
    serving.publish(&world);
    assert_eq!(seen().await, 8, "a silence of more than half is not believed");
    world.worker(2, None).worker(3, None);
    serving.publish(&world);
    assert_eq!(seen().await, 6);
    serving.stop().await;
}

#[tokio::test]
async fn at_most_eight_endpoints_in_changing_order() {
    let serving = Serving::start(&World::shop(20, 0, (10_000, 0))).await;
    let client = serving.client().await;
    let (mut all, mut firsts) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..60 {
        let got = client.a(SHOP).await;
        assert_eq!(got.len(), 8);
        firsts.insert(got[0]);
        all.extend(got);
    }
    assert_eq!(all.len(), 20);
    assert!(firsts.len() > 5);
    serving.stop().await;
}

/// `rollout restart` runs a version again under its next spec.
#[tokio::test]
async fn one_version_on_two_arms_is_told_apart_by_its_spec() {
    let mut world = World::shop(1, 0, (10_000, 0));
    let again = Pair { spec: 2, ..pair("1.0.0") };
    let fresh = world.instance(300, 0, "1.0.0", "10.0.3.1");
    world.change(fresh, |i| i.pair = again.clone());
    world.arm(Role::Candidate, again);
    let serving = Serving::start(&world).await;
    let client = serving.client().await;
    assert_eq!(version(&client.a(&format!("stable.{SHOP}")).await), 1);
    assert_eq!(version(&client.a(&format!("canary.{SHOP}")).await), 3);
    serving.stop().await;
}

#[tokio::test]
async fn the_largest_ttl_handed_out_is_known_until_caches_let_go() {
    let world = World::shop(1, 1, (5000, 5000));
    let serving = Serving::start(&world).await;
    let client = serving.client().await;
    let largest = || serving.store.ttls_handed_out(serving.clock.mono()).get(&shop()).copied();
    assert_eq!(largest(), None);
    client.a(SHOP).await;
    assert_eq!(largest(), Some(5000));
    serving.clock.advance(Duration::from_secs(1));
    client.a(&format!("v-1-0-0.{SHOP}")).await;
    serving.publish(&world);
    assert_eq!(largest(), Some(30_000), "a version pin may be cached for 30 s");
    serving.clock.advance(Duration::from_secs(30));
    client.a(&format!("canary.{SHOP}")).await;
    client.ask(SHOP, RecordType::AAAA).await;
    assert_eq!(largest(), Some(30_000));
    serving.clock.advance(Duration::from_millis(1));
    assert_eq!(largest(), Some(5000));
    serving.clock.advance(Duration::from_secs(5));
    assert_eq!(largest(), None);
    serving.stop().await;
}

#[tokio::test]
async fn a_watched_state_is_served_and_an_older_one_is_not() {
    let mut world = World::shop(1, 1, (10_000, 0));
    let serving = Serving::start_unready(DnsLimits::default()).await;
    let (states, receiver) = tokio::sync::watch::channel(world.state());
    let store = serving.store.clone();
    let follower = tokio::spawn(async move { store.follow(receiver).await });
    serving.store.set_ready(true);
    let mut served = serving.store.served_index();
    let old = world.state();
    let index = world.route(0, 10_000).0.applied.index;
    states.send(world.state()).unwrap();
    let reached = served.wait_for(|i| *i >= index);
    tokio::time::timeout(Duration::from_secs(5), reached).await.unwrap().unwrap();
    let client = serving.client().await;
    assert_eq!(version(&client.a(SHOP).await), 2);
    serving.store.publish(&old);
    assert_eq!(*served.borrow(), index);
    assert_eq!(version(&client.a(SHOP).await), 2, "a view never goes back");
    drop(states);
    follower.await.unwrap();
    serving.stop().await;
}

#[test]
fn a_view_of_many_deployments_follows_one_change_in_milliseconds() {
    let mut world = World::shop(4, 4, (5000, 5000));
    let template = world.0.deployments.values().next().unwrap().clone();
    let instance = world.0.instances.values().next().unwrap().clone();
    for n in 0..1000_u64 {
        let id: slipway::model::DeploymentId = format!("production/s{n}").parse().unwrap();
        let mut row = template.clone();
        row.id = id.clone();
        world.0.deployments.insert(id.clone(), row);
        for ordinal in 0..4 {
            let mut i = instance.clone();
            (i.id, i.deployment) = (slipway::model::InstanceId { index: 1000 + n, ordinal }, id.clone());
            world.0.instances.insert(i.id, i);
        }
    }
    let store = slipway::dns::ViewStore::new();
    store.publish(&world.state());
    let mut best = Duration::MAX;
    for n in 0..10 {
        world.route(10_000 - n, n);
        let state = world.state();
        let begun = std::time::Instant::now();
        store.publish(&state);
        best = best.min(begun.elapsed());
        assert_eq!(store.view().serial, state.applied.index);
    }
    // A debug build on a busy machine; what would fail here is a rebuild of everything.
    assert!(best < Duration::from_millis(20), "{best:?}");
    let serial = store.view().serial;
    store.publish(&world.at(99_000).state());
    assert_eq!((store.view().serial, store.view().index), (serial, serial + 1), "time alone changes no view");
}

#[tokio::test]
async fn a_strict_service_fails_rather_than_shift_its_shares() {
    let mut world = World::shop(2, 1, (5000, 5000));
    world.fail(slipway::model::InstanceId { index: 200, ordinal: 0 });
    for (strict, failures) in [(false, 0), (true, 5)] {
        if strict {
            world.policy(DnsPolicy { when_empty: WhenEmpty::Strict, ..DnsPolicy::default() });
        }
        let serving = Serving::start(&world).await;
        let client = serving.client().await;
        let mut failed = 0;
        for _ in 0..10 {
            let m = client.ask(SHOP, RecordType::A).await;
            match m.metadata.response_code {
                ResponseCode::ServFail => failed += 1,
                _ => assert_eq!(version(&addresses(&m)), 1),
            }
        }
        assert_eq!(failed, failures);
        let mut keyed = BTreeSet::new();
        for n in 0..20 {
            keyed.insert(client.ask(&format!("k-{n}.{SHOP}"), RecordType::A).await.metadata.response_code.low());
        }
        assert_eq!(keyed.contains(&2), strict, "a key keeps its version, and waits for it");
        let m = client.ask(&format!("canary.{SHOP}"), RecordType::A).await;
        assert_eq!(m.metadata.response_code, ResponseCode::NoError, "a pin says what is there: nothing");
        assert!(m.answers.is_empty());
        serving.stop().await;
    }
}

#[tokio::test]
async fn below_the_threshold_the_service_says_what_is_named() {
    let id = |n| slipway::model::InstanceId { index: 100, ordinal: n };
    let on = |on_panic| DnsPolicy { on_panic, ..DnsPolicy::default() };
    let cases = [
        (DnsPolicy::default(), Some(1)),
        (on(OnPanic::Nodata), Some(1)),
        (on(OnPanic::FailOpen), Some(4)),
        (on(OnPanic::LastGood), Some(2)),
        (on(OnPanic::Servfail), None),
        (DnsPolicy { panic_below: Some(BasisPoints::percent(20)), ..on(OnPanic::FailOpen) }, Some(1)),
    ];
    for (policy, named) in cases {
        let mut world = World::shop(4, 0, (10_000, 0));
        world.policy(policy);
        let serving = Serving::start(&world).await;
        let client = serving.client().await;
        assert_eq!(client.a(SHOP).await.len(), 4, "{policy:?}: all pass");
        for n in 0..3 {
            world.fail(id(n));
            serving.publish(&world);
        }
        for name in [SHOP.to_string(), format!("stable.{SHOP}"), format!("k-x.{SHOP}")] {
            let m = client.ask(&name, RecordType::A).await;
            let seen = (m.metadata.response_code == ResponseCode::NoError).then_some(m.answers.len());
            assert_eq!(seen, named, "{policy:?} {name}");
        }
        // What has stopped is never named, and what is drained neither.
        world.change(id(0), |i| i.life = Life::Gone);
        world.drain(id(1));
        serving.publish(&world);
        let m = client.ask(SHOP, RecordType::A).await;
        assert!(m.answers.len() <= 2, "{policy:?}: {:?}", m.answers);
        for n in 2..4 {
            world.change(id(n), |i| i.health = Health::Passing);
        }
        serving.publish(&world);
        assert_eq!(client.a(SHOP).await.len(), 2, "{policy:?}: enough pass again");
        serving.stop().await;
    }
}
