//! Sticky and tenant names, what is active and what is previewed, slugs that collide, reverse names, the API and the
//! version of names.

use std::collections::{BTreeMap, BTreeSet};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{RData, RecordType},
};
use slipway::{
    model::{BasisPoints, InstanceId, Version},
    state::{KeySlots, Role, RouteMode},
    traffic::{End, Key, Run, SlotTable, Slots},
};

use crate::fixture::{SHOP, Serving, World, addresses, ip, odd, pair, query, shop, switched, version};

async fn sticky(client: &crate::fixture::Client, keys: u32) -> BTreeMap<u32, u8> {
    let mut found = BTreeMap::new();
    for n in 0..keys {
        found.insert(n, version(&client.a(&format!("k-user{n}.{SHOP}")).await));
    }
    found
}

#[tokio::test]
async fn a_key_has_one_version_on_every_node_and_only_moves_forward() {
    let mut world = World::shop(2, 2, (10_000, 0));
    let (one, two) = (Serving::start(&world).await, Serving::start(&world).await);
    let (a, b) = (one.client().await, two.client().await);
    let mut before = sticky(&a, 60).await;
    assert!(before.values().all(|v| *v == 1));
    let mut at = Vec::new();
    for bps in [500, 2500, 5000, 9000, 10_000] {
        world.route(10_000 - bps, bps);
        one.publish(&world);
        two.publish(&world);
        let after = sticky(&a, 60).await;
        assert_eq!(after, sticky(&b, 60).await, "the same on another node");
        assert!(before.iter().all(|(k, v)| *v == 1 || after[k] == 2), "no key goes back while the weight rises");
        let table = SlotTable::new(7, &Slots::from_both_ends(&[(10_000 - bps, End::Front), (bps, End::Back)]).unwrap());
        for (n, v) in &after {
            let slot = Key::new(&format!("USER{n}")).unwrap().slot(7);
            assert_eq!(usize::from(*v), table.arm(slot) + 1, "as the table says that the API reads too");
        }
        at.push((bps, after.clone()));
        before = after;
    }
    // On the rollback each key leaves as late as it came early.
    for (bps, then) in at.iter().rev() {
        world.route(10_000 - bps, *bps);
        one.publish(&world);
        assert_eq!(sticky(&a, 60).await, *then);
    }
    let m = a.ask(&format!("k-user1.{SHOP}"), RecordType::A).await;
    assert!(m.answers.iter().all(|r| r.ttl == 5), "as long as the route's");
    for server in [one, two] {
        server.stop().await;
    }
}

/// Which version a key has is a contract over builds: one that changed it would move every sticky client. The digits
/// are versions of `user0`, `user1`, ... under salt 7; they were computed apart from this code (SHA-256, SplitMix64,
/// Fisher and Yates) and may not change.
#[tokio::test]
async fn which_version_a_key_has_is_the_same_in_every_build() {
    let golden = [
        (500, "11111112111111111111"),
        (2500, "12111112112111111111"),
        (5000, "12212212122212111122"),
        (9000, "22222222222222221222"),
    ];
    let mut world = World::shop(2, 2, (10_000, 0));
    let serving = Serving::start(&world).await;
    let client = serving.client().await;
    let mut seen = Vec::new();
    for (bps, _) in golden {
        world.route(10_000 - bps, bps);
        serving.publish(&world);
        seen.push((bps, sticky(&client, 20).await.values().map(ToString::to_string).collect::<String>()));
    }
    assert_eq!(seen, golden.map(|(bps, versions)| (bps, versions.to_string())));
    let slots: Vec<u16> = (0..6).map(|n| Key::new(&format!("user{n}")).unwrap().slot(7)).collect();
    assert_eq!(slots, [4842, 3204, 955, 372, 781, 8872], "where a key falls, before any table");
    serving.stop().await;
}

/// With a history the table is what was agreed on, not what the weights alone would say; three versions, and the same
/// on every node.
#[tokio::test]
async fn keys_follow_the_slots_that_were_agreed_on() {
    let mut world = World::shop(2, 2, (6000, 3000));
    world.arm(Role::Previous, pair("3.0.0"));
    world.instance(300, 0, "3.0.0", "10.0.3.1");
    world.deployment(|d| d.arms.get_mut(Role::Previous).unwrap().weight = BasisPoints(1000));
    let run = |start, len| vec![Run::up(start, len)];
    let parts = [("3.0.0", run(0, 1000)), ("2.0.0", run(1000, 3000)), ("1.0.0", run(4000, 6000))];
    let parts = parts.map(|(version, runs)| (pair(version), runs));
    world.0.slots.insert(shop(), KeySlots::from_parts(parts.to_vec()).unwrap());
    let table = SlotTable::new(7, &Slots::from_runs(vec![run(4000, 6000), run(1000, 3000), run(0, 1000)]).unwrap());
    let (one, two) = (Serving::start(&world).await, Serving::start(&world).await);
    let (a, b) = (one.client().await, two.client().await);
    let found = sticky(&a, 80).await;
    assert_eq!(found, sticky(&b, 80).await);
    for (n, v) in &found {
        let slot = Key::new(&format!("user{n}")).unwrap().slot(7);
        assert_eq!(usize::from(*v), table.arm(slot) + 1, "user{n}");
    }
    assert_eq!(found.values().collect::<BTreeSet<_>>().len(), 3);
    for server in [one, two] {
        server.stop().await;
    }
}

#[tokio::test]
async fn every_type_about_a_key_agrees_and_case_does_not_matter() {
    let mut world = World::shop(2, 2, (5000, 5000));
    for n in 0..2 {
        world.instance(101, n, "1.0.0", &format!("fd00:1::{n}"));
        world.instance(201, n, "2.0.0", &format!("fd00:2::{n}"));
    }
    let serving = Serving::start(&world).await;
    let client = serving.client().await;
    let mut seen = BTreeSet::new();
    for n in 0..20 {
        let name = format!("k-a-{n}.{SHOP}");
        let v = version(&client.a(&name).await);
        assert_eq!(v, version(&client.a(&name.to_ascii_uppercase()).await));
        assert_eq!(v, version(&client.a(&format!("t-a-{n}.{SHOP}")).await), "a tenant is keyed by its name");
        let m = client.ask(&name, RecordType::AAAA).await;
        assert!(m.answers.iter().all(|r| matches!(&r.data, RData::AAAA(a) if a.0.segments()[1] == u16::from(v))));
        let m = client.tcp(&query(&format!("_http._tcp.{name}"), RecordType::SRV)).await;
        assert!(!m.answers.is_empty());
        for r in &m.answers {
            let RData::SRV(s) = &r.data else { panic!("{r:?}") };
            assert!(s.target.to_string().starts_with(&format!("i-{v}0")), "{}", s.target);
        }
        seen.insert(v);
    }
    assert_eq!(seen.len(), 2);
    // Odd characters are characters, but for those that no key has.
    for (label, code, answers) in [
        ("k-a.b", ResponseCode::NoError, true),
        ("k-_", ResponseCode::NoError, true),
        ("k--", ResponseCode::NoError, true),
        ("t-a@b", ResponseCode::NoError, true),
        ("k-a b", ResponseCode::NXDomain, false),
        ("k-\u{e4}", ResponseCode::NXDomain, false),
        ("k-\0", ResponseCode::NXDomain, false),
    ] {
        let (_, m) = client.send(&odd(label.as_bytes(), RecordType::A)).await;
        assert_eq!((m.metadata.response_code, !m.answers.is_empty()), (code, answers), "{label:?}");
    }
    let (_, m) = client.send(&odd(b"k-\xff\xfe", RecordType::A)).await;
    assert_eq!(m.metadata.response_code, ResponseCode::NXDomain);
    serving.stop().await;
}

#[tokio::test]
async fn a_key_of_a_version_that_is_down_goes_elsewhere_and_comes_back() {
    let mut world = World::shop(1, 1, (5000, 5000));
    let serving = Serving::start(&world).await;
    let client = serving.client().await;
    let before = sticky(&client, 20).await;
    let id = InstanceId { index: 200, ordinal: 0 };
    world.fail(id);
    serving.publish(&world);
    assert!(sticky(&client, 20).await.values().all(|v| *v == 1));
    assert!(serving.responder.counts().renormalised > 0);
    world.change(id, |i| i.health = slipway::model::Health::Passing);
    serving.publish(&world);
    assert_eq!(sticky(&client, 20).await, before);
    serving.stop().await;
}

#[tokio::test]
async fn preview_is_never_what_is_active() {
    let mut world = World::shop(2, 2, (10_000, 0));
    world.route_as(RouteMode::Switch, 1, 10_000, 0);
    let serving = Serving::start(&world).await;
    let client = serving.client().await;
    let both = async || {
        let (active, preview) = (client.a(&format!("active.{SHOP}")).await, client.a(&format!("preview.{SHOP}")).await);
        (version(&active), preview.first().map(|_| version(&preview)))
    };
    assert_eq!(both().await, (1, Some(2)));
    // A rollback by capacity leaves the traffic with the candidate until stable can carry it.
    world.route_as(RouteMode::Switch, 1, 0, 10_000);
    serving.publish(&world);
    assert_eq!(both().await, (2, None));
    assert_eq!(version(&client.a(SHOP).await), 2);
    world.deployment(|d| switched(d, Role::Candidate));
    world.route_as(RouteMode::Switch, 1, 10_000, 0);
    serving.publish(&world);
    assert_eq!(both().await, (2, None), "there is nothing to preview after a switch");
    assert_eq!(version(&client.a(&format!("previous.{SHOP}")).await), 1);
    serving.stop().await;
}

/// Two versions whose slugs are the same: 24 bits of hash are not for ever.
fn collision() -> (String, String) {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for n in 0..1_u32 << 16 {
        let parts: String = (0..16).map(|bit| if n >> bit & 1 == 0 { ".a" } else { "-a" }).collect();
        let text = format!("1.0.0-a{parts}");
        let slug = text.parse::<Version>().unwrap().slug();
        if let Some(other) = seen.insert(slug, text.clone()) {
            return (other, text);
        }
    }
    panic!("no two of 65,536 slugs are the same");
}

#[tokio::test]
async fn a_slug_of_two_versions_names_one_of_them() {
    let (first, second) = collision();
    let mut world = World::new();
    world.deploy();
    world.arm(Role::Stable, pair(&first)).arm(Role::Candidate, pair(&second));
    world.instance(100, 0, &first, "10.0.1.1");
    world.instance(200, 0, &second, "10.0.2.1");
    world.route(5000, 5000);
    let serving = Serving::start(&world).await;
    let client = serving.client().await;
    let slug = first.parse::<Version>().unwrap().slug();
    for _ in 0..10 {
        assert_eq!(version(&client.a(&format!("v-{slug}.{SHOP}")).await), 1, "stable's, and never both");
    }
    serving.stop().await;
}

fn targets(m: &Message) -> Vec<String> {
    let names = m.answers.iter().map(|r| match &r.data {
        RData::PTR(p) => p.0.to_string(),
        other => panic!("{other:?}"),
    });
    names.collect()
}

#[tokio::test]
async fn reverse_names_lead_to_instances_and_absence_is_told_apart() {
    let mut world = World::shop(2, 1, (9000, 1000));
    world.instance(101, 0, "1.0.0", "fd00::1");
    let serving = Serving::start(&world).await;
    let client = serving.client().await;
    let ptr = async |name: &str| client.ask(name, RecordType::PTR).await;
    let m = ptr("2.1.0.10.in-addr.arpa.").await;
    assert_eq!(targets(&m), [format!("i-100-1.{SHOP}")]);
    assert!(m.metadata.authoritative && m.answers[0].ttl == 30);
    assert_eq!(client.a(&targets(&m)[0]).await[0], ip("10.0.1.2"), "there and back");
    let six = format!("1.{}0.0.d.f.ip6.arpa.", "0.".repeat(27));
    assert_eq!(targets(&ptr(&six).await), [format!("i-101-0.{SHOP}")]);
    for (name, kind) in [
        ("1.0.10.in-addr.arpa.", RecordType::PTR),
        ("0.10.in-addr.arpa.", RecordType::A),
        ("10.in-addr.arpa.", RecordType::PTR),
        ("2.1.0.10.in-addr.arpa.", RecordType::A),
        ("d.f.ip6.arpa.", RecordType::TXT),
        ("c.f.ip6.arpa.", RecordType::TXT),
        ("17.172.in-addr.arpa.", RecordType::PTR),
    ] {
        let m = client.ask(name, kind).await;
        assert_eq!((m.metadata.response_code, m.answers.len()), (ResponseCode::NoError, 0), "{name} {kind}");
        let soa = m.authorities.iter().find(|r| r.record_type() == RecordType::SOA).unwrap();
        assert!(name.ends_with(&soa.name.to_string()), "{name}: {}", soa.name);
    }
    for name in [
        "9.1.0.10.in-addr.arpa.",
        "9.10.in-addr.arpa.",
        "x.10.in-addr.arpa.",
        "1.1.1.0.10.in-addr.arpa.",
        "02.1.0.10.in-addr.arpa.",
    ] {
        assert_eq!(ptr(name).await.metadata.response_code, ResponseCode::NXDomain, "{name}");
    }
    for name in ["8.8.8.8.in-addr.arpa.", "in-addr.arpa.", "172.in-addr.arpa.", "168.192.in-addr.arpa."] {
        assert_eq!(ptr(name).await.metadata.response_code, ResponseCode::Refused, "{name}");
    }
    for kind in [RecordType::SOA, RecordType::NS] {
        assert!(!client.ask("10.in-addr.arpa.", kind).await.answers.is_empty(), "{kind}");
    }
    // Gone from the view, gone from the reverse names; what is on its way out still has its name.
    let id = InstanceId { index: 100, ordinal: 1 };
    world.drain(id);
    serving.publish(&world);
    let m = ptr("2.1.0.10.in-addr.arpa.").await;
    assert_eq!((m.answers.len(), m.answers[0].ttl), (1, 0));
    world.change(id, |i| i.life = slipway::model::Life::Gone);
    serving.publish(&world);
    assert_eq!(ptr("2.1.0.10.in-addr.arpa.").await.metadata.response_code, ResponseCode::NXDomain);
    world.change(InstanceId { index: 100, ordinal: 0 }, |i| i.address = "10.0.1.77".into());
    world.instance(300, 0, "1.0.0", "10.0.1.77");
    serving.publish(&world);
    assert_eq!(targets(&ptr("77.1.0.10.in-addr.arpa.").await).len(), 2, "an address may be shared");
    assert_eq!(ptr("1.1.0.10.in-addr.arpa.").await.metadata.response_code, ResponseCode::NXDomain);
    world.0.deployments.clear();
    world.at(2000);
    serving.publish(&world);
    assert_eq!(ptr("77.1.0.10.in-addr.arpa.").await.metadata.response_code, ResponseCode::NXDomain);
    serving.stop().await;
}

#[tokio::test]
async fn the_api_can_be_found_and_the_names_have_a_version() {
    let serving = Serving::start(&World::shop(1, 0, (10_000, 0))).await;
    let client = serving.client().await;
    let m = client.tcp(&query("_api._tcp.slipway.internal.", RecordType::SRV)).await;
    assert_eq!((m.answers.len(), m.additionals.len()), (3, 3));
    let RData::SRV(srv) = &m.answers[1].data else { panic!("{m:?}") };
    assert_eq!((srv.port, srv.target.to_string().as_str()), (7001, "api2.slipway.internal."));
    assert_eq!(addresses(&client.ask("api2.slipway.internal.", RecordType::A).await)[0], ip("127.0.0.2"));
    let m = client.ask("_dns-version.slipway.internal.", RecordType::TXT).await;
    let RData::TXT(txt) = &m.answers[0].data else { panic!("{m:?}") };
    assert_eq!(&*txt.txt_data[0], b"1.0");
    serving.stop().await;
}
