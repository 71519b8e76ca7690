//! Bad input through the CLI: the message names the thing and the fix, and nothing is lost.

use std::io::Write;

use crate::lab::{EventWatch, Lab, SHOP, SOON, Said, number, spec, text};

fn archive(lab: &Lab, name: &str, make: impl FnOnce(&mut tar::Builder<flate2::write::GzEncoder<Vec<u8>>>)) -> String {
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    make(&mut builder);
    let bytes = builder.into_inner().unwrap().finish().unwrap();
    let path = lab.dir().join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_string()
}

/// An entry with any name and, when there is one, a link's target.
fn entry(name: &str, link: Option<&str>, data: &[u8]) -> (tar::Header, Vec<u8>) {
    let mut header = tar::Header::new_gnu();
    // As written: the safe way to set a name refuses what is wanted here.
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_mode(0o755);
    header.set_size(data.len() as u64);
    header.set_entry_type(tar::EntryType::Regular);
    if let Some(target) = link {
        header.set_entry_type(tar::EntryType::Symlink);
        header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
    }
    header.set_cksum();
    (header, data.to_vec())
}

fn refused(said: Said, wants: &[&str]) {
    assert!((1..=2).contains(&said.code), "{}: exit code {}\n{}{}", said.line, said.code, said.out, said.err);
    said.says(wants);
}

#[test]
fn names_and_values() {
    let lab = Lab::new(1, 1);
    let good = spec("strategy: canary, steps: [50, 100], bake: 1s, min_requests: 0");
    lab.apply(&good);
    lab.push("1.0.0");
    let apply = |text: &str| {
        let path = lab.dir().join("bad.yaml");
        std::fs::write(&path, text).unwrap();
        lab.slipway(&["apply", "-f", path.to_str().unwrap()])
    };
    refused(apply(&good.replace("placement:", "placment:")), &["bad.yaml", "placment", "placement"]);
    refused(apply(&good.replace("canary", "canery")), &["canery", "canary"]);
    refused(apply(&good.replace("[50, 100]", "[50, 25]")), &["steps", "25 %", "rise"]);
    refused(apply(&good.replace("[50, 100]", "[50, 120]")), &["120"]);
    refused(apply(&good.replace("service: shop", "service: canary")), &["canary", "reserved"]);
    refused(apply(&good.replace("service: shop", "service: Shop_1")), &["Shop_1", "a-z"]);
    refused(apply(&good.replace("environment: production", "environment: producton")), &["producton", "production"]);
    refused(apply(&good.replace("bake: 1s", "bake: soon")), &["soon", "duration"]);
    refused(apply(&good.replace("[bin/shop", "[../bin/shop")), &["run.command", "../bin/shop"]);

    let start = |args: &[&str]| {
        let mut all = vec!["rollout", "start"];
        all.extend(args);
        lab.slipway(&all)
    };
    refused(start(&["production/shpo", "--to", "1.0.0"]), &["shpo", "shop"]);
    refused(start(&["production/shop", "--to", "1.0.1"]), &["1.0.1", "1.0.0"]);
    refused(start(&["production/shop", "--to", "one"]), &["one"]);
    refused(start(&["production/shop", "--to", "1.0.0", "--strategy", "canari"]), &["canari", "canary"]);
    refused(start(&["production/shop", "--to", "1.0.0", "--steps", "50,25"]), &["25 %", "rise"]);
    refused(lab.slipway(&["rollout", "status", "r-99999"]), &["r-99999"]);
    refused(lab.slipway(&["release", "push", "shop", "1/0", "."]), &["1/0", "'/' is none of letters"]);
    refused(lab.slipway(&["release", "push", "shop", "latest", "."]), &["latest", "a meaning of its own"]);
    refused(lab.slipway(&["release", "push", "canary", "1.0.0", "."]), &["canary", "reserved"]);
    refused(lab.slipway(&["release", "push", "shop", "1.0.1", "/no/such/directory"]), &["/no/such/directory"]);

    // Nothing of all that took effect.
    lab.roll("1.0.0", &[]).ok();
    lab.runs(&[("1.0.0", 2)]);
    let shown = lab.slipway(&["deployment", "show", "production/shop", "-o", "json"]).ok().json();
    assert_eq!(number(&shown, "spec"), 1);
    refused(start(&["production/shop", "--to", "1.0.0"]), &["1.0.0", "already", "restart"]);

    // A version is what it was: other content under it is refused, the same content is fine.
    let dir = lab.dir().join("shop-1.0.0");
    let push = || lab.slipway(&["release", "push", "shop", "1.0.0", dir.to_str().unwrap()]);
    push().ok();
    std::fs::write(dir.join("more"), "x").unwrap();
    refused(push(), &["1.0.0"]);
    lab.finish();
}

#[test]
fn one_rollout_at_a_time() {
    let lab = Lab::new(3, 1);
    lab.apply(&spec("strategy: canary, steps: [50, 100], bake: 10m, min_requests: 0"));
    for version in ["1.0.0", "2.0.0", "3.0.0"] {
        lab.push(version);
    }
    lab.roll("1.0.0", &["--bake", "1s"]).ok();
    // Two in the same instant, through two nodes: one wins, the other one is told which.
    for round in 0..3 {
        let (a, b) = std::thread::scope(|scope| {
            let at = |n: u8, to: &'static str| {
                let (lab, node) = (&lab, lab.client(n));
                scope.spawn(move || {
                    let args = ["--node", &node, "rollout", "start", "production/shop", "--to", to, "-o", "json"];
                    lab.slipway(&args)
                })
            };
            let (a, b) = (at(1 + round, "2.0.0"), at(1 + (round + 1) % 3, "3.0.0"));
            (a.join().unwrap(), b.join().unwrap())
        });
        let (won, lost) = if a.code == 0 { (a, b) } else { (b, a) };
        let id = text(&won.ok().json(), "rollout").to_string();
        lost.exits(1).says(&[&id, "explain"]);
        // A third, later, is refused as well.
        let said = lab.slipway(&["rollout", "start", "production/shop", "--to", "2.0.0"]);
        said.exits(1).says(&[&id]);
        lab.slipway(&["rollout", "rollback", &id, "--watch", "--within", "60s"]).ok();
        lab.slipway(&["rollout", "pause", &id]).exits(1).says(&[&id, "rolled back", "slipway rollout start"]);
        lab.slipway(&["rollout", "resume", &id]).exits(1).says(&[&id]);
    }
    lab.runs(&[("1.0.0", 2)]);
    lab.finish();
}

#[test]
fn packages_that_are_refused() {
    let lab = Lab::new(1, 1);
    lab.apply(&spec("strategy: canary, steps: [50, 100], bake: 1s, min_requests: 0, deadline: 15s"));
    lab.push("1.0.0");
    lab.roll("1.0.0", &[]).ok();
    let traps: [(&str, Option<&str>, &str); 4] = [
        ("../outside", None, ".."),
        ("/tmp/slipway-absolute", None, "absolute"),
        ("link", Some("/etc/passwd"), "link"),
        ("up", Some("../../../../x"), "up"),
    ];
    let mut minor = 0;
    for (name, link, why) in traps {
        minor += 1;
        let path = archive(&lab, "trap.tar.gz", |tar| {
            for (header, data) in [entry("bin/shop", None, b"#!/bin/sh\nexec sleep 1000\n"), entry(name, link, b"")] {
                tar.append(&header, data.as_slice()).unwrap();
            }
        });
        let version = format!("2.{minor}.0");
        goes_nowhere(&lab, &version, &path, why);
    }
    assert!(!lab.dir().join("w1/data/releases/outside").exists() && !lab.dir().join("w1/data/outside").exists());

    // A truncated archive: refused where it is pushed, or by every agent.
    let whole = archive(&lab, "whole.tar.gz", |tar| {
        let mut noise = vec![0_u8; 1 << 20];
        rand::fill(noise.as_mut_slice());
        let (header, data) = entry("bin/shop", None, &noise);
        tar.append(&header, data.as_slice()).unwrap();
    });
    let bytes = std::fs::read(&whole).unwrap();
    std::fs::File::create(&whole).unwrap().write_all(&bytes[..bytes.len() / 2]).unwrap();
    goes_nowhere(&lab, "3.0.0", &whole, "");
    // What is no archive at all.
    let text = lab.dir().join("text");
    std::fs::write(&text, "no archive").unwrap();
    goes_nowhere(&lab, "4.0.0", text.to_str().unwrap(), "");
    lab.runs(&[("1.0.0", 2)]);
    lab.dns_names(SHOP, "1.0.0", 2);
    lab.finish();
}

/// The package is refused when it is pushed, or its rollout is taken back because the worker refuses it.
fn goes_nowhere(lab: &Lab, version: &str, path: &str, why: &str) {
    let said = lab.slipway(&["release", "push", "shop", version, path]);
    if said.code != 0 {
        assert!(said.err.contains(why), "{}", said.err);
        return;
    }
    let end = lab.roll(version, &[]).exits(3).json();
    let reason = text(&end, "reason");
    assert!(reason.contains("w1") && reason.contains(why), "{reason}");
    lab.runs(&[("1.0.0", 2)]);
}

#[test]
fn a_package_that_is_not_what_its_digest_says() {
    let lab = Lab::new(1, 0);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let refused = runtime.block_on(async {
        use slipway::wire::v1::catalog_client::CatalogClient;
        use slipway::wire::v1::{PushChunk, RegisterReleaseRequest, artifacts_client::ArtifactsClient};
        let at = format!("http://{}", lab.client(1));
        let mut artifacts = ArtifactsClient::connect(at.clone()).await.unwrap();
        let digest = "ab".repeat(32);
        let chunk = PushChunk { digest: digest.clone(), size: 4, offset: 0, data: b"shop".to_vec() };
        let pushed = artifacts.push(tokio_stream::iter([chunk])).await.unwrap_err();
        let mut catalog = CatalogClient::connect(at).await.unwrap();
        let request = RegisterReleaseRequest {
            service: "shop".into(),
            version: "1.0.0".into(),
            digest: digest.clone(),
            ..Default::default()
        };
        let registered = catalog.register_release(request).await.unwrap_err();
        (pushed, registered, digest)
    });
    let (pushed, registered, digest) = refused;
    assert!(pushed.message().contains(&digest[..12]) && pushed.message().contains("digest"), "{pushed}");
    assert!(registered.message().contains(&digest[..12]), "{registered}");
    lab.finish();
}

#[test]
fn events_are_told_in_order_from_any_position() {
    let lab = Lab::new(1, 1);
    lab.apply(&spec("strategy: direct, bake: 1s, min_requests: 0"));
    lab.push("1.0.0");
    lab.roll("1.0.0", &[]).ok();
    let mut watch = EventWatch::after(&lab, 0);
    watch.until("the end of the rollout", SOON, |e| e["fields"]["status"] == "completed");
    let keys: Vec<_> = watch.seen.iter().map(|e| (number(e, "index"), number(e, "ordinal"))).collect();
    assert!(keys.windows(2).all(|w| w[0] < w[1]), "{keys:?}");
    let middle = keys[keys.len() / 2].0;
    let mut later = EventWatch::after(&lab, middle);
    later.until("the end again", SOON, |e| e["fields"]["status"] == "completed");
    let rest: Vec<_> = keys.iter().filter(|k| k.0 > middle).copied().collect();
    assert_eq!(later.seen.iter().map(|e| (number(e, "index"), number(e, "ordinal"))).collect::<Vec<_>>(), rest);
    drop(watch);
    drop(later);
    lab.finish();
}
