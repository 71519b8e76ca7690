//! One look-up that changes its way: what was asked over UDP and its sibling over TCP are of one version.

use hickory_proto::rr::{RData, RecordType};

use crate::fixture::{SHOP, Serving, World, query, version};

#[tokio::test]
async fn an_a_over_udp_and_its_aaaa_over_tcp_are_of_one_version_and_take_one_card() {
    let mut world = World::shop(1, 1, (5000, 5000));
    world.instance(101, 0, "1.0.0", "fd00:1::1");
    world.instance(201, 0, "2.0.0", "fd00:2::1");
    let serving = Serving::start(&world).await;
    let client = serving.client().await;
    let mut canary = 0;
    for n in 0..40 {
        let first = version(&client.a(SHOP).await);
        let m = client.tcp(&query(SHOP, RecordType::AAAA)).await;
        let RData::AAAA(second) = &m.answers[0].data else { panic!("{m:?}") };
        assert_eq!(u16::from(first), second.0.segments()[1], "pair {n}");
        canary += u32::from(first == 2);
    }
    assert_eq!(canary, 20, "a pair takes one card");
    serving.stop().await;
}
