//! Views that are published while clients ask.

use std::{net::Ipv4Addr, sync::Arc};

use hickory_proto::rr::RecordType;
use slipway::model::InstanceId;

use crate::fixture::{SHOP, Serving, World, addresses, query};

/// Questions of each client.
const QUESTIONS: u32 = 400;

/// The one instance's address says of which index the view is that names it.
fn told(world: &mut World) -> &mut World {
    let index = u32::try_from(world.0.applied.index + 1).unwrap();
    world.change(InstanceId { index: 100, ordinal: 0 }, |i| {
        i.address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() + index).to_string();
    })
}

/// Who reads which index is served and asks then is never answered from before it, whoever publishes meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_answer_is_older_than_the_index_that_was_served_when_it_was_asked_for() {
    let mut world = World::shop(1, 0, (10_000, 0));
    let serving = Arc::new(Serving::start(told(&mut world)).await);
    let clients: Vec<_> = (0..6)
        .map(|n| {
            let serving = Arc::clone(&serving);
            tokio::spawn(async move {
                let (client, question) = (serving.client().await, query(SHOP, RecordType::A));
                let mut moved = 0;
                for _ in 0..QUESTIONS {
                    let before = *serving.store.served_index().borrow();
                    let m = if n % 3 == 0 { client.tcp(&question).await } else { client.send(&question).await.1 };
                    let of = addresses(&m)[0].to_bits() - Ipv4Addr::new(10, 0, 0, 0).to_bits();
                    assert!(u64::from(of) >= before, "asked when {before} was served, answered from {of}");
                    moved += u32::from(u64::from(of) > before);
                }
                moved
            })
        })
        .collect();
    while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
        serving.publish(told(&mut world));
        tokio::task::yield_now().await;
    }
    let mut moved = 0;
    for client in clients {
        moved += client.await.unwrap();
    }
    assert!(moved > QUESTIONS / 10, "only {moved} questions met a publish");
    Arc::into_inner(serving).unwrap().stop().await;
}
