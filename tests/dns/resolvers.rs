//! Asked by programs that others wrote: hickory's resolver and `dig`.

use std::{net::IpAddr, process::Stdio};

use hickory_proto::rr::RecordType;
use hickory_resolver::{
    Resolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};

use crate::{
    fixture::{SHOP, Serving, World, version},
    helpers::skip::skip,
};

#[tokio::test]
async fn hickorys_resolver_gets_exact_shares_and_falls_back_to_tcp() {
    let serving = Serving::start(&World::shop(60, 40, (7500, 2500))).await;
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut c| {
        c.port = serving.address.port();
        c
    });
    let server = NameServerConfig::new(serving.address.ip(), true, connections.to_vec());
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().cache_size = 0;
    builder.options_mut().case_randomization = true;
    builder.options_mut().ip_strategy = hickory_resolver::config::LookupIpStrategy::Ipv4AndIpv6;
    let resolver = builder.build().unwrap();
    let mut canary = 0;
    for _ in 0..20 {
        let found = resolver.lookup_ip(SHOP).await.unwrap();
        let v4: Vec<_> = found
            .iter()
            .map(|ip| match ip {
                IpAddr::V4(v4) => v4,
                IpAddr::V6(v6) => panic!("{v6}"),
            })
            .collect();
        canary += u32::from(version(&v4) == 2);
    }
    assert_eq!(canary, 5);
    let all = resolver.lookup(format!("mix.{SHOP}"), RecordType::SRV).await.unwrap();
    assert_eq!(all.answers().len(), 100, "all of a big answer, over TCP");
    let counts = serving.responder.counts();
    assert!(counts.truncated >= 1 && counts.tcp >= 1, "{counts:?}");
    assert!(resolver.lookup_ip("other.production.svc.slipway.internal.").await.is_err());
    serving.stop().await;
}

#[tokio::test]
async fn dig_agrees() {
    let serving = Serving::start(&World::shop(60, 40, (7500, 2500))).await;
    let port = serving.address.port().to_string();
    let dig = async |args: &[&str]| {
        let mut command = tokio::process::Command::new("dig");
        command.args(["@127.0.0.1", "-p", &port, "+time=5", "+tries=1"]).args(args).stdin(Stdio::null());
        command.output().await.map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
    };
    let first = match dig(&[SHOP]).await {
        Ok(text) => text,
        Err(e) => return skip("dig_agrees", &format!("dig cannot be run: {e}")),
    };
    assert!(first.contains("status: NOERROR") && first.contains("flags: qr aa rd;"), "{first}");
    assert!(first.contains("EDNS: version: 0, flags:; udp: 1232"), "{first}");
    assert!(!first.contains("WARNING: Message parser"), "{first}");
    let lines = async |args: &[&str]| dig(args).await.unwrap_or_default().lines().count();
    assert_eq!(lines(&["+short", SHOP]).await, 8);
    assert_eq!(lines(&["+short", &format!("mix.{SHOP}"), "SRV"]).await, 100);
    let status = async |args: &[&str], wanted: &str| {
        let text = dig(args).await.unwrap_or_default();
        assert!(text.contains(&format!("status: {wanted}")), "{args:?}: {text}");
        text
    };
    status(&["x.slipway.internal"], "NXDOMAIN").await;
    let refused = status(&["example.com"], "REFUSED").await;
    assert!(refused.contains("EDE: 20"), "{refused}");
    let transfer = dig(&["slipway.internal", "AXFR"]).await.unwrap_or_default();
    assert!(transfer.contains("Transfer failed"), "{transfer}");
    status(&["version.bind", "TXT", "CH"], "REFUSED").await;
    status(&["+opcode=NOTIFY", "slipway.internal", "SOA"], "NOTIMP").await;
    let any = status(&[SHOP, "ANY"], "NOERROR").await;
    assert!(any.contains("HINFO"), "{any}");
    serving.store.set_ready(false);
    let early = status(&[SHOP], "SERVFAIL").await;
    assert!(early.contains("EDE: 14 (Not Ready)"), "{early}");
    serving.stop().await;
}
