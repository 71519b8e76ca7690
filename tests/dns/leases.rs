//! What is answered without a lease: bound services as their policy says, all others from the last good view.

use std::{sync::Arc, time::Duration};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        RData, RecordType,
        rdata::opt::{EdnsCode, EdnsOption},
    },
};
use slipway::{
    model::{Millis, Period},
    state::{ArmedBy, Arming, LeaseMode, OnExpiry, Role, RouteMode},
    traffic::lease::Hold,
};

use crate::fixture::{Client, SHOP, Serving, World, addresses, edns, pair, query, shop, version};

fn world() -> World {
    let mut w = World::shop(2, 2, (10_000, 0));
    w.route_as(RouteMode::Switch, 1, 10_000, 0);
    w
}

fn arming(w: &mut World) -> &mut World {
    let index = w.0.applied.index;
    let arming = Arming { index, since: Millis(0), owner: ArmedBy::Switch(index), confirmed: Default::default() };
    Arc::make_mut(&mut w.0.fences).armed.insert(shop(), arming);
    w.at(1001)
}

/// Code, extended error, answer.
async fn ask(c: &Client, name: &str, kind: RecordType) -> (ResponseCode, Option<u16>, Message) {
    read(c.send(&edns(query(name, kind), 1232, 0)).await.1)
}

fn read(m: Message) -> (ResponseCode, Option<u16>, Message) {
    let option = m.edns.as_ref().and_then(|e| e.option(EdnsCode::Unknown(15)).cloned());
    let extended = option.map(|o| match o {
        EdnsOption::Unknown(_, data) => u16::from_be_bytes([data[0], data[1]]),
        other => panic!("{other:?}"),
    });
    (m.metadata.response_code, extended, m)
}

async fn txt(c: &Client) -> Vec<String> {
    let m = c.ask(&format!("_rollout.{SHOP}"), RecordType::TXT).await;
    let RData::TXT(t) = &m.answers[0].data else { panic!("{m:?}") };
    t.txt_data.iter().map(|b| String::from_utf8_lossy(b).into_owned()).collect()
}

#[tokio::test]
async fn an_armed_service_is_answered_only_with_a_lease() {
    let mut w = world();
    let serving = Serving::start(&w).await;
    let c = serving.client().await;
    let (code, extended, m) = ask(&c, SHOP, RecordType::A).await;
    assert_eq!((code, extended, m.answers[0].ttl), (ResponseCode::NoError, None, 1), "unarmed: no lease is needed");
    assert!(txt(&c).await.contains(&"lease=off".to_string()));

    serving.publish(arming(&mut w));
    let (code, extended, _) = ask(&c, SHOP, RecordType::A).await;
    assert_eq!((code, extended), (ResponseCode::ServFail, Some(14)), "armed, and no lease was had yet");
    let index = w.0.applied.index;
    serving.store.set_hold(Hold { index, until: 5000 });
    let (code, _, m) = ask(&c, SHOP, RecordType::A).await;
    assert_eq!((code, m.answers[0].ttl), (ResponseCode::NoError, 0), "nothing that a cache may keep while armed");
    assert!(txt(&c).await.contains(&"lease=held".to_string()));

    serving.clock.advance(Duration::from_millis(4999));
    assert_eq!(ask(&c, SHOP, RecordType::A).await.0, ResponseCode::NoError);
    serving.clock.advance(Duration::from_millis(1));
    for name in [SHOP.to_string(), format!("active.{SHOP}"), format!("_http._tcp.{SHOP}")] {
        let kind = if name.starts_with('_') { RecordType::SRV } else { RecordType::A };
        let (code, extended, m) = ask(&c, &name, kind).await;
        assert_eq!((code, extended, m.answers.len()), (ResponseCode::ServFail, Some(22), 0), "{name}");
    }
    assert!(txt(&c).await.contains(&"lease=over".to_string()));
    // What says the same whatever is switched needs none.
    assert_eq!(ask(&c, &format!("v-1-0-0.{SHOP}"), RecordType::A).await.0, ResponseCode::NoError);
    let events = |s: &Serving| {
        let counts = s.responder.counts().events();
        ["stale", "fenced", "not_ready"].map(|kind| counts.iter().find(|(k, _)| *k == kind).unwrap().1)
    };
    assert_eq!(events(&serving), [0, 3, 1], "what the lease did is counted");

    // A lease for a newer view than the one that is served is of no use.
    serving.store.set_hold(Hold { index: index + 1000, until: 90_000 });
    assert_eq!(ask(&c, SHOP, RecordType::A).await.0, ResponseCode::ServFail);
    // Disarmed, the last good view answers again.
    Arc::make_mut(&mut w.0.fences).armed.clear();
    serving.publish(w.at(1002));
    assert_eq!(version(&addresses(&ask(&c, SHOP, RecordType::A).await.2)), 1);
    serving.stop().await;
}

#[tokio::test]
async fn every_name_that_moves_with_a_switch_needs_a_lease_whatever_is_asked_and_however() {
    let mut w = world();
    w.arm(Role::Previous, pair("0.9.0")).instance(300, 0, "0.9.0", "10.0.3.1");
    for (index, version) in [(100, "1.0.0"), (200, "2.0.0"), (300, "0.9.0")] {
        w.instance(index, 7, version, &format!("fd00:{index}::7"));
    }
    let serving = Serving::start(arming(&mut w)).await;
    let c = serving.client().await;
    let sets = ["", "stable.", "canary.", "previous.", "active.", "preview.", "mix.", "k-x.", "t-x."];
    let kinds = [RecordType::A, RecordType::AAAA, RecordType::SRV];
    let moving = sets.iter().flat_map(|set| {
        let names = kinds.map(|kind| (format!("{set}{SHOP}"), kind));
        names.into_iter().chain([(format!("_http._tcp.{set}{SHOP}"), RecordType::SRV)])
    });
    let moving: Vec<(String, RecordType)> = moving.collect();
    let still = kinds.iter().flat_map(|kind| ["v-1-0-0.", "i-100-7."].map(|set| (format!("{set}{SHOP}"), *kind)));
    let still: Vec<(String, RecordType)> =
        still.chain([(format!("_http._tcp.v-1-0-0.{SHOP}"), RecordType::SRV)]).collect();
    let index = w.0.applied.index;
    for (until, passes, refused) in [(0, 0, Some(14)), (5000, 0, None), (5000, 5000, Some(22))] {
        serving.store.set_hold(Hold { index, until });
        serving.clock.advance(Duration::from_millis(passes));
        for (name, kind, refused) in moving
            .iter()
            .map(|(name, kind)| (name, *kind, refused))
            .chain(still.iter().map(|(name, kind)| (name, *kind, None)))
        {
            let question = edns(query(name, kind), 1232, 0);
            for (how, m) in [("UDP", c.send(&question).await.1), ("TCP", c.tcp(&question).await)] {
                let (code, extended, m) = read(m);
                let place = format!("{name} {kind} over {how}, lease until {until}");
                if refused.is_some() {
                    assert_eq!((code, extended, m.answers.len()), (ResponseCode::ServFail, refused, 0), "{place}");
                    continue;
                }
                assert_eq!((code, extended), (ResponseCode::NoError, None), "{place}");
                // All versions at once have no one address, and an instance no port of its own.
                let none = name.starts_with("mix.") && kind != RecordType::SRV
                    || name.starts_with("i-") && kind != RecordType::AAAA;
                assert_eq!(m.answers.is_empty(), none, "{place}: {m:?}");
            }
        }
    }
    serving.stop().await;
}

#[tokio::test]
async fn stale_answers_say_so_and_end() {
    let mut w = world();
    let f = Arc::make_mut(&mut w.0.fences);
    f.mode = LeaseMode::Always;
    f.on_expiry.insert(shop(), OnExpiry::Stale { max: Period(3000) });
    w.at(1001);
    let serving = Serving::start(&w).await;
    let c = serving.client().await;
    assert_eq!(ask(&c, SHOP, RecordType::A).await.1, Some(14));
    serving.store.set_hold(Hold { index: 1, until: 1000 });
    assert_eq!(ask(&c, SHOP, RecordType::A).await.1, None);
    serving.clock.advance(Duration::from_millis(3999));
    let (code, extended, m) = ask(&c, SHOP, RecordType::A).await;
    assert_eq!((code, extended, m.answers.len()), (ResponseCode::NoError, Some(3), 2));
    serving.clock.advance(Duration::from_millis(1));
    assert_eq!(ask(&c, SHOP, RecordType::A).await.1, Some(22));
    assert_eq!(serving.responder.counts().stale, 1);
    serving.stop().await;
}
