//! Which names exist, what each is answered, and how absence is told: NODATA, NXDOMAIN, REFUSED.

use hickory_proto::{
    op::ResponseCode,
    rr::{Name, RData, RecordType},
};
use slipway::model::InstanceId;

use crate::fixture::{SHOP, Serving, World, addresses, ip, query, shop, version};

const ZONE: &str = "slipway.internal.";

#[tokio::test]
async fn absence_is_told_apart() {
    let serving = Serving::start(&World::shop(2, 1, (9000, 1000))).await;
    let client = serving.client().await;
    let empty = [
        ("svc.slipway.internal.".to_string(), RecordType::A),
        ("production.svc.slipway.internal.".into(), RecordType::A),
        (SHOP.into(), RecordType::AAAA),
        (SHOP.into(), RecordType::MX),
        (SHOP.into(), RecordType::HTTPS),
        (format!("previous.{SHOP}"), RecordType::A),
        (format!("_tcp.{SHOP}"), RecordType::A),
        (format!("_http._tcp.{SHOP}"), RecordType::A),
        (format!("_rollout.{SHOP}"), RecordType::A),
        (format!("mix.{SHOP}"), RecordType::A),
        (format!("i-100-0.{SHOP}"), RecordType::SRV),
        (ZONE.into(), RecordType::A),
        ("ns1.slipway.internal.".into(), RecordType::AAAA),
        ("api1.slipway.internal.".into(), RecordType::AAAA),
        ("_tcp.slipway.internal.".into(), RecordType::SRV),
        ("_api._tcp.slipway.internal.".into(), RecordType::A),
        ("_dns-version.slipway.internal.".into(), RecordType::A),
    ];
    for (name, kind) in empty {
        let m = client.ask(&name, kind).await;
        assert_eq!(m.metadata.response_code, ResponseCode::NoError, "{name} {kind}");
        assert!(m.answers.is_empty() && m.metadata.authoritative, "{name} {kind}: NODATA");
        negative_soa(&m);
    }
    let unknown = [
        "other.production.svc.slipway.internal.".to_string(),
        "shop.staging.svc.slipway.internal.".into(),
        "staging.svc.slipway.internal.".into(),
        "x.slipway.internal.".into(),
        "ns9.slipway.internal.".into(),
        format!("k-.{SHOP}"),
        format!("t-.{SHOP}"),
        "api9.slipway.internal.".into(),
        "_api._udp.slipway.internal.".into(),
        format!("x.{SHOP}"),
        format!("v-9-9-9.{SHOP}"),
        format!("i-999-0.{SHOP}"),
        format!("_udp.{SHOP}"),
        format!("_grpc._tcp.{SHOP}"),
        format!("_http._udp.{SHOP}"),
        format!("_http._tcp.i-100-0.{SHOP}"),
        format!("_http._tcp.v-9-9-9.{SHOP}"),
    ];
    for name in unknown {
        for kind in [RecordType::A, RecordType::SRV] {
            let m = client.ask(&name, kind).await;
            assert_eq!(m.metadata.response_code, ResponseCode::NXDomain, "{name} {kind}");
            assert!(m.metadata.authoritative);
            negative_soa(&m);
        }
    }
    for name in ["example.com.", "internal.", "notslipway.internal.", "."] {
        let m = client.ask(name, RecordType::A).await;
        assert_eq!(m.metadata.response_code, ResponseCode::Refused, "{name}");
        assert!(!m.metadata.authoritative && m.authorities.is_empty());
    }
    serving.stop().await;
}

fn negative_soa(m: &hickory_proto::op::Message) {
    let soa = m.authorities.iter().find_map(|r| match &r.data {
        RData::SOA(soa) => Some((r.ttl, soa.minimum, r.name.to_string())),
        _ => None,
    });
    assert_eq!(soa, Some((2, 2, ZONE.to_string())));
}

#[tokio::test]
async fn pins_name_what_they_say() {
    let mut world = World::shop(3, 2, (9000, 1000));
    let serving = Serving::start(&world).await;
    let client = serving.client().await;
    let pins = [
        ("stable", 1, 5),
        ("active", 1, 5),
        ("canary", 2, 5),
        ("preview", 2, 5),
        ("v-1-0-0", 1, 30),
        ("v-2-0-0", 2, 30),
    ];
    for (prefix, expected, ttl) in pins {
        for _ in 0..10 {
            let m = client.ask(&format!("{prefix}.{SHOP}"), RecordType::A).await;
            assert_eq!(version(&addresses(&m)), expected, "{prefix}");
            assert!(m.answers.iter().all(|r| r.ttl == ttl), "{prefix}");
        }
    }
    let m = client.ask(&format!("i-200-1.{SHOP}"), RecordType::A).await;
    assert_eq!((addresses(&m), m.answers[0].ttl), (vec!["10.0.2.2".parse().unwrap()], 30));
    // On its way out it can still be reached by who has its name, and is not kept; what does not run has no address.
    world.drain(InstanceId { index: 200, ordinal: 1 });
    world.change(InstanceId { index: 200, ordinal: 0 }, |i| i.life = slipway::model::Life::Stopping);
    serving.publish(&world);
    let m = client.ask(&format!("i-200-1.{SHOP}"), RecordType::A).await;
    assert_eq!((m.answers.len(), m.answers[0].ttl), (1, 0));
    assert!(client.a(&format!("i-200-0.{SHOP}")).await.is_empty());
    assert!(client.a(&format!("canary.{SHOP}")).await.is_empty());
    assert!(client.a(&format!("v-2-0-0.{SHOP}")).await.is_empty());
    serving.stop().await;
}

#[tokio::test]
async fn srv_names_one_version_with_targets_and_their_addresses() {
    let serving = Serving::start(&World::shop(3, 3, (5000, 5000))).await;
    let client = serving.client().await;
    let names = [(SHOP.to_string(), 8080), (format!("_http._tcp.{SHOP}"), 8080), (format!("_admin._tcp.{SHOP}"), 9000)];
    for (name, port) in names {
        let mut canary = 0;
        for _ in 0..10 {
            let m = client.tcp(&query(&name, RecordType::SRV)).await;
            assert_eq!(m.answers.len(), 3, "{name}");
            let targets: Vec<Name> = m
                .answers
                .iter()
                .map(|r| match &r.data {
                    RData::SRV(s) => {
                        assert_eq!((s.priority, s.port, r.ttl), (0, port, 5));
                        s.target.clone()
                    }
                    other => panic!("{other:?}"),
                })
                .collect();
            assert!(m.additionals.iter().all(|r| targets.contains(&r.name) && r.ttl == 5));
            let near: Vec<_> = m
                .additionals
                .iter()
                .filter_map(|r| match &r.data {
                    RData::A(a) => Some(a.0),
                    _ => None,
                })
                .collect();
            assert_eq!(near.len(), 3);
            canary += u32::from(version(&near) == 2);
            let target = targets[0].to_string();
            assert!(near.contains(&client.a(&target).await[0]), "{target} resolves to its additional record");
        }
        assert_eq!(canary, 5, "{name}: exact shares");
    }
    serving.stop().await;
}

#[tokio::test]
async fn mix_lists_every_version_with_its_weight() {
    let serving = Serving::start(&World::shop(4, 2, (9000, 1000))).await;
    let client = serving.client().await;
    for name in [format!("mix.{SHOP}"), format!("_http._tcp.mix.{SHOP}")] {
        let m = client.tcp(&query(&name, RecordType::SRV)).await;
        let mut by_version = [0_u32; 3];
        for r in &m.answers {
            let RData::SRV(s) = &r.data else { panic!("{r:?}") };
            by_version[if s.target.to_string().starts_with("i-100-") { 1 } else { 2 }] += u32::from(s.weight);
        }
        assert_eq!(m.answers.len(), 6);
        // The largest weight is all of sixteen bits, as proxies keep only the upper ones: 4 of 65,535 to 2 of 14,563 is
        // 90 to 10.
        assert_eq!(by_version, [0, 4 * 65_535, 2 * 14_563]);
    }
    let serving_all = Serving::start(&World::shop(4, 2, (10_000, 0))).await;
    let m = serving_all.client().await.tcp(&query(&format!("mix.{SHOP}"), RecordType::SRV)).await;
    assert_eq!(m.answers.len(), 4, "a version without weight is left out");
    serving_all.stop().await;
    serving.stop().await;
}

#[tokio::test]
async fn txt_says_where_the_rollout_stands() {
    let world = World::shop(1, 1, (9000, 1000));
    let serving = Serving::start(&world).await;
    let client = serving.client().await;
    let m = client.ask(&format!("_rollout.{SHOP}"), RecordType::TXT).await;
    let RData::TXT(txt) = &m.answers[0].data else { panic!("{m:?}") };
    let texts: Vec<String> = txt.txt_data.iter().map(|t| String::from_utf8_lossy(t).into_owned()).collect();
    let index = world.0.applied.index;
    let expected = [
        "txtvers=1".to_string(),
        format!("gen=1.{index}"),
        format!("idx={index}"),
        "phase=idle".into(),
        "active=1.0.0".into(),
        "canary=2.0.0".into(),
        "bps=1000".into(),
        "node=2".into(),
        "answers=1.0.0:0/2.0.0:0".into(),
        "requests=-".into(),
        "clients=0".into(),
        "spread=0".into(),
        "lease=off".into(),
    ];
    assert_eq!(texts, expected);
    assert_eq!(m.answers[0].ttl, 0);
    // What instances count, as the leader tells every node.
    let counted = [("1.0.0".to_string(), 90), ("2.0.0".to_string(), 11)].into();
    serving.store.set_requests([(shop(), counted)].into(), serving.clock.mono());
    let m = client.ask(&format!("_rollout.{SHOP}"), RecordType::TXT).await;
    let RData::TXT(txt) = &m.answers[0].data else { panic!("{m:?}") };
    assert!(txt.txt_data.iter().any(|t| &**t == b"requests=1.0.0:90/2.0.0:11"), "{m:?}");
    serving.stop().await;
}

#[tokio::test]
async fn the_zone_has_a_start_and_servers() {
    let mut world = World::shop(1, 0, (10_000, 0));
    let serving = Serving::start(&world).await;
    let client = serving.client().await;
    let serial = async || {
        let m = client.ask(ZONE, RecordType::SOA).await;
        let RData::SOA(soa) = &m.answers[0].data else { panic!("{m:?}") };
        assert_eq!(soa.mname.to_string(), "ns1.slipway.internal.");
        u64::from(soa.serial)
    };
    let first = world.0.applied.index;
    assert_eq!(serial().await, first);
    world.at(5000);
    serving.publish(&world);
    assert_eq!(serial().await, first, "an index without a change of the view");
    world.route(10_000, 0);
    serving.publish(&world);
    assert_eq!(serial().await, world.0.applied.index);
    let m = client.ask(ZONE, RecordType::NS).await;
    assert_eq!((m.answers.len(), m.additionals.len()), (3, 3));
    let m = client.ask("ns3.slipway.internal.", RecordType::A).await;
    assert_eq!(addresses(&m)[0], ip("127.0.0.3"));
    serving.stop().await;
}

#[tokio::test]
async fn a_deployment_without_a_route_exists_and_has_nothing() {
    let mut world = World::new();
    world.deploy();
    let serving = Serving::start(&world).await;
    let client = serving.client().await;
    for kind in [RecordType::A, RecordType::SRV] {
        let m = client.ask(SHOP, kind).await;
        assert_eq!((m.metadata.response_code, m.answers.len()), (ResponseCode::NoError, 0));
    }
    world.0.deployments.clear();
    world.at(2000);
    serving.publish(&world);
    assert_eq!(client.ask(SHOP, RecordType::A).await.metadata.response_code, ResponseCode::NXDomain);
    serving.stop().await;
}

#[tokio::test]
async fn case_does_not_matter_and_is_echoed() {
    let serving = Serving::start(&World::shop(2, 1, (9000, 1000))).await;
    let client = serving.client().await;
    let spelled = "sHoP.PRODuction.sVc.Slipway.INTERNAL.";
    let m = client.ask(spelled, RecordType::A).await;
    let name = Name::from_ascii(spelled).unwrap();
    assert!(m.queries[0].name().eq_case(&name));
    assert!(!m.answers.is_empty() && m.answers.iter().all(|r| r.name.eq_case(&name)));
    serving.stop().await;
}
