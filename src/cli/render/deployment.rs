//! Deployments, their instances and routes as a person reads them.

use super::*;

fn arm<'a>(d: &'a v1::Deployment, role: &str) -> Option<&'a v1::Arm> {
    d.arms.iter().find(|a| a.role == role && a.pair.is_some())
}

/// `deployment list`.
pub fn deployments(items: &[v1::Deployment], wide: bool) -> String {
    let cell = |d: &v1::Deployment, role| {
        arm(d, role)
            .map_or("-".into(), |a| format!("{} {} ({})", version(a.pair.as_ref()), share(a.weight_bp), a.serving))
    };
    // Why it has fewer than that.
    let desired = |d: &v1::Deployment| match d.stop.as_str() {
        "" => d.desired.to_string(),
        stop => format!("{} ({stop})", d.desired),
    };
    let row = |d: &v1::Deployment| {
        let mut row = vec![d.id.clone(), cell(d, "stable"), cell(d, "candidate"), desired(d), or_dash(&d.live_rollout)];
        if wide {
            let route = d.route.clone().unwrap_or_default();
            row.extend([cell(d, "previous"), d.spec.to_string(), format!("{} s", route.ttl_s), d.dns_name.clone()]);
        }
        row
    };
    let mut header = vec!["DEPLOYMENT", "STABLE", "CANDIDATE", "DESIRED", "ROLLOUT"];
    if wide {
        header.extend(["PREVIOUS", "SPEC", "TTL", "DNS"]);
    }
    table(&header, items.iter().map(row).collect(), "no deployment yet: `slipway apply -f FILE` makes one")
}

/// The arms of one deployment.
pub fn arms(d: &v1::Deployment) -> String {
    let row = |a: &v1::Arm| {
        vec![
            a.role.clone(),
            version(a.pair.as_ref()).to_string(),
            share(a.weight_bp),
            format!("{}/{}", a.serving, a.want),
            a.live.to_string(),
        ]
    };
    let rows = d.arms.iter().filter(|a| a.pair.is_some()).map(row).collect();
    let empty = "nothing runs yet: `slipway release push`, then `slipway rollout start`";
    table(&["ROLE", "VERSION", "WEIGHT", "SERVING", "RUNNING"], rows, empty)
}

/// Instances, as the view of a deployment lists them.
pub fn instances(items: &[v1::Instance], wide: bool) -> String {
    // Why one ended is worth a column as soon as one did.
    let ends = wide || items.iter().any(|i| i.status == "failed");
    let row = |i: &v1::Instance| {
        let ports: Vec<String> = i.ports.values().map(ToString::to_string).collect();
        let mut row = vec![
            i.id.clone(),
            version(i.pair.as_ref()).to_string(),
            or_dash(&i.role),
            i.worker.clone(),
            format!("{}:{}", bracketed(&i.address), ports.join(",")),
            if i.worker_lost { "lost".into() } else { i.status.clone() },
            match (i.worker_lost, i.counted_out) {
                (false, _) => i.health.clone(),
                (true, false) => format!("was {} {}", i.status, i.health),
                (true, true) => format!("was {} {}, counted out", i.status, i.health),
            },
        ];
        if wide {
            let dns = if i.serves { "yes" } else { "no" };
            row.extend([dns.to_string(), i.restarts.to_string()]);
        }
        if ends {
            row.push(or_dash(&i.exit));
        }
        row
    };
    let mut header = vec!["INSTANCE", "VERSION", "ROLE", "WORKER", "ADDRESS", "STATUS", "HEALTH"];
    if wide {
        header.extend(["IN DNS", "RESTARTS"]);
    }
    if ends {
        header.push("EXIT");
    }
    table(&header, items.iter().map(row).collect(), "no instance")
}

/// `deployment show`.
pub fn deployment(d: &v1::Deployment, all: &[v1::Instance], wide: bool) -> String {
    let route = d.route.clone().unwrap_or_default();
    let rollout =
        if d.live_rollout.is_empty() { "no live rollout".into() } else { format!("rollout {}", d.live_rollout) };
    if d.arms.iter().all(|a| a.pair.is_none()) && all.is_empty() && !d.removing {
        return format!("{}: spec {}, {rollout}\n{}: no answers yet\n\n{}", d.id, d.spec, d.dns_name, arms(d));
    }
    let wanted = if d.desired == 1 { "1 instance wanted".into() } else { format!("{} instances wanted", d.desired) };
    let mut notes = String::new();
    if d.removing {
        notes += "\nit is being removed: what is left of it drains and stops";
    }
    if !d.stop.is_empty() {
        notes += &format!("\n{}, by {} at {}", d.stop, d.stopped_by, wall(d.stopped_wall_ms));
        if d.stop != "starting" {
            let kept = "with these versions and weights, at its addresses";
            notes += &format!(": `slipway service start {}` brings it back {kept}", d.id);
        }
    }
    if !d.lost.is_empty() {
        notes += &format!("\nlost: {}", d.lost.join(", "));
    }
    if !d.as_is.is_empty() {
        notes += &format!(
            "\nas it is since {}: both versions keep their instances, the next rollout replaces both",
            d.as_is
        );
    }
    format!(
        "{}: spec {}, {wanted}, {rollout}\n{}: {}, TTL {} s, generation {}.{}{notes}\n\n{}\n\n{}",
        d.id,
        d.spec,
        d.dns_name,
        or_dash(&route.mode),
        route.ttl_s,
        route.incarnation,
        route.generation,
        arms(d),
        instances(all, wide),
    )
}

/// `traffic show`.
pub fn route(r: &v1::GetRouteReply) -> String {
    let row = |s: &v1::VersionShare| {
        let answered = s.answered_bp.map_or_else(|| "-".into(), |bp| format!("{} of {}", share(bp), s.answer_count));
        let requested = s.requested_bp.map(share);
        let requested = requested.map_or_else(|| "-".into(), |bp| format!("{bp} of {}", s.request_count.unwrap_or(0)));
        let arm = [s.role.clone(), s.version.clone(), share(s.weight_bp), answered, requested];
        arm.into_iter().chain([s.serving.to_string(), s.addresses.join(" ")]).collect()
    };
    let clients = match r.clients {
        0 => "no DNS client lately".into(),
        n => format!(
            "{n} DNS clients lately, the largest has {} of the answers; expected spread of the traffic's share {}",
            share(r.largest_client_bp),
            share(r.spread_bp),
        ),
    };
    let rows = r.shares.iter().map(row).collect();
    let ports: Vec<String> = r.ports.iter().map(|(name, port)| format!("{name} {port}")).collect();
    format!(
        "{}  {}, TTL {} s, generation {}\nports {}; DNS servers {}\n{clients}\n\n{}",
        r.dns_name,
        or_dash(&r.mode),
        r.ttl_s,
        r.generation,
        or_dash(&ports.join(", ")),
        or_dash(&r.dns_servers.join(" ")),
        table(
            &["ROLE", "VERSION", "WEIGHT", "ANSWERED", "REQUESTS", "SERVING", "ADDRESSES"],
            rows,
            "no version is routed to yet"
        ),
    )
}

/// `dns trace`.
pub fn trace(t: &v1::TraceReply, wide: bool) -> String {
    let parts = t.parts.iter().map(|p| vec![p.label.clone(), p.meaning.clone()]).collect();
    let arm = |a: &v1::TraceArm| {
        let deck = wide.then(|| format!("{} of {}", a.deck_left, a.deck));
        let arm = [a.role.clone(), a.version.clone(), share(a.weight_bp), a.serving.to_string()];
        arm.into_iter().chain(deck).collect()
    };
    let instance = |i: &v1::TraceInstance| {
        let answers = if i.answering { "yes" } else { "no" };
        let names = [&i.id, &i.version, &i.worker, &i.address].map(String::clone);
        names.into_iter().chain([answers.into(), i.because.clone()]).collect()
    };
    let chosen = match (t.role.as_str(), t.slot) {
        ("", _) => "by each look-up anew".into(),
        (role, Some(slot)) if wide => format!("{} ({role}), slot {slot} of 10000", t.version),
        (role, Some(_)) => format!("{} ({role}), by the key in the name", t.version),
        (role, None) => format!("{} ({role})", t.version),
    };
    let mut out = format!(
        "{}\nnode {} ({}): {}: {}\nserves index {}, SOA serial {}\n\n{}\n",
        t.dns_name,
        t.node,
        t.node_id,
        t.outcome,
        t.because,
        t.applied_index,
        t.serial,
        table(&["PART", "MEANS"], parts, "no part of it means anything here"),
    );
    if t.deployment.is_empty() {
        return out;
    }
    out += &format!(
        "\n{}: {}, generation {}.{}, TTL {} s, lease {}\nversion: {chosen}\naddresses: {}\n\n{}\n\n{}",
        t.deployment,
        or_dash(&t.mode),
        t.incarnation,
        t.generation,
        t.ttl_s,
        or_dash(&t.lease),
        or_dash(&t.addresses.join(" ")),
        table(
            if wide {
                &["ROLE", "VERSION", "WEIGHT", "SERVING", "ANSWERS LEFT"]
            } else {
                &["ROLE", "VERSION", "WEIGHT", "SERVING"]
            },
            t.arms.iter().map(arm).collect(),
            "no version is routed to"
        ),
        table(
            &["INSTANCE", "VERSION", "WORKER", "ADDRESS", "NAMED", "BECAUSE"],
            t.instances.iter().map(instance).collect(),
            "no instance"
        ),
    );
    out
}
