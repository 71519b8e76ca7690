//! Agents that answer, are silent, or break off: what the reader of all gets, and when.

use super::*;
use crate::{
    clock::Clock,
    model::{DeploymentId, Digest, Health, InstanceId, Life, Pair, Version},
};

const SOON: Limits = Limits { answer: Duration::from_millis(100), silence: Duration::from_millis(150) };

fn instance(index: u64, life: Life, exit: &str) -> Instance {
    Instance {
        meta: Default::default(),
        id: InstanceId { index, ordinal: 0 },
        deployment: "production/shop".parse::<DeploymentId>().unwrap(),
        pair: Pair {
            digest: Digest::new(&"ab".repeat(32)).unwrap(),
            spec: 1,
            version: "1.0.0".parse::<Version>().unwrap(),
        },
        worker: WorkerName::new("w1").unwrap(),
        address: String::new(),
        ports: Default::default(),
        made_by: None,
        replaces: None,
        drain: None,
        failed_at: None,
        restarts: 0,
        exit: Some(exit.to_string()).filter(|e| !e.is_empty()),
        life,
        health: Health::Unknown,
        failures: 0,
        passed_once: false,
        counted_out: None,
    }
}

fn end_of(index: u64) -> End {
    End::of(&instance(index, Life::Failed, "no bin/nope"), &v1::TailLogs::default())
}

fn line(text: &str) -> v1::LogChunk {
    v1::LogChunk { stream: "out".into(), line: text.into(), ..Default::default() }
}

fn found(found: LogFound) -> v1::LogChunk {
    v1::LogChunk { found: found.to_string(), ..Default::default() }
}

/// What an agent says before it falls silent, and whether it hangs up then.
async fn said(index: u64, follow: bool, words: Vec<v1::LogChunk>, hangs_up: bool) -> Vec<String> {
    let (send, mut receive) = mpsc::channel(64);
    let (agent, chunks) = mpsc::channel(64);
    for word in words {
        agent.send(Ok(word)).await.unwrap();
    }
    let held = (!hangs_up).then_some(agent);
    pass_on(&end_of(index), follow, SOON, async { Ok(chunks) }, &send).await;
    drop((held, send));
    let mut all = Vec::new();
    while let Some(item) = receive.recv().await {
        all.push(match item.unwrap().body.unwrap() {
            Body::Sources(_) => "sources".into(),
            Body::Chunk(chunk) => chunk.line,
            Body::End(end) => format!("{}{}", if end.missing { "! " } else { "= " }, end.why),
        });
    }
    all
}

#[tokio::test]
async fn an_instance_that_never_started_costs_no_time_and_a_silent_one_the_limit_and_both_are_told() {
    let clock = Clock::real();
    let began = clock.mono();
    let answer = vec![found(LogFound::Heard), found(LogFound::NeverStarted)];
    assert_eq!(said(1, false, answer, false).await, ["= never started: no bin/nope"]);
    let took = clock.mono().since(began);
    assert!(took < 100, "{took} ms for what was answered at once");
    assert_eq!(said(2, false, vec![], false).await, ["! gives no log: worker w1 did not answer within 0 s"]);
    assert_eq!(said(3, false, vec![], true).await, ["! gives no log: worker w1 has ended its answer"]);
}

#[tokio::test]
async fn an_answer_that_stops_half_way_says_so_and_what_came_is_kept() {
    let half = vec![found(LogFound::Heard), line("one")];
    for (hangs_up, why) in [(false, "said nothing for 0 s"), (true, "has ended its answer")] {
        let wanted = ["one".to_string(), format!("! may have more lines: worker w1 {why}")];
        assert_eq!(said(1, false, half.clone(), hangs_up).await, wanted);
    }
    let whole = [half, vec![found(LogFound::Lines)]].concat();
    assert_eq!(said(1, false, whole.clone(), false).await, ["one", "= failed: no bin/nope"]);
    // Who follows has what was there, and waits for more as long as the agent is there.
    let more = [whole, vec![line("two")]].concat();
    let wanted = ["one", "= failed: no bin/nope", "two", "! may have more lines: worker w1 has ended its answer"];
    assert_eq!(said(1, true, more, true).await, wanted);
}

#[tokio::test]
async fn a_worker_that_no_node_hears_is_told_at_once() {
    let (send, mut receive) = mpsc::channel(64);
    let nowhere = async { Err(ApiError::unavailable("worker w1 is not connected to any node")) };
    pass_on(&end_of(1), false, SOON, nowhere, &send).await;
    let Some(Body::End(end)) = receive.recv().await.unwrap().unwrap().body else { panic!("no end") };
    assert_eq!((end.missing, end.why.as_str()), (true, "gives no log: worker w1 is not connected to any node"));
}

mod selecting {
    use super::*;
    use crate::state::{Deployment, State};

    fn state(instances: &[(u64, Life)]) -> State {
        let mut state = State::default();
        let id: DeploymentId = "production/shop".parse().unwrap();
        let row = Deployment {
            meta: Default::default(),
            id: id.clone(),
            spec: 1,
            arms: Default::default(),
            route: None,
            desired: 1,
            live: None,
            last: None,
            as_is: None,
            removing: None,
            stop: None,
        };
        state.deployments.insert(id, row);
        for (index, life) in instances {
            let row = instance(*index, *life, "");
            state.instances.insert(row.id, row);
        }
        state
    }

    fn ask() -> v1::LogsRequest {
        v1::LogsRequest { deployment: "production/shop".into(), ..Default::default() }
    }

    fn meant(state: &State, ask: v1::LogsRequest) -> Result<String, String> {
        let found = select::instances(state, &ask).map_err(|e| e.text)?;
        Ok(found.iter().map(|i| i.id.to_string()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn failed_instances_come_first_and_those_that_ended_when_they_are_asked_for() {
        let all = [(9, Life::Running), (10, Life::Draining), (11, Life::Failed), (12, Life::Starting), (2, Life::Gone)];
        let state = state(&all);
        assert_eq!(meant(&state, ask()).unwrap(), "11-0 9-0 10-0 12-0");
        assert_eq!(meant(&state, v1::LogsRequest { previous: true, ..ask() }).unwrap(), "11-0 2-0");
        assert_eq!(meant(&state, v1::LogsRequest { instance: "2-0".into(), ..ask() }).unwrap(), "2-0");
    }

    #[test]
    fn what_is_not_there_is_refused_with_what_there_is() {
        let empty = state(&[]);
        let ended = state(&[(2, Life::Gone)]);
        let runs = state(&[(9, Life::Running), (10, Life::Starting)]);
        let previous = || v1::LogsRequest { previous: true, ..ask() };
        let one = |id: &str| v1::LogsRequest { instance: id.into(), ..ask() };
        let said = |state: &State, ask| meant(state, ask).unwrap_err();
        assert!(said(&empty, ask()).contains("rollout start production/shop --to VERSION"));
        assert!(said(&empty, previous()).contains("none that ended is known"));
        assert_eq!(
            said(&ended, ask()),
            "no instance of production/shop runs: --previous shows those that ended, 2-0 (gone)"
        );
        assert!(said(&runs, previous()).contains("without --previous there is 10-0 (starting), 9-0 (running)"));
        assert_eq!(
            said(&runs, one("7-0")),
            "production/shop has no instance 7-0: there is 10-0 (starting), 9-0 (running)"
        );
        assert!(said(&runs, v1::LogsRequest { follow: true, ..previous() }).contains("not both"));
        assert!(said(&runs, v1::LogsRequest { rollout: "r-7".into(), ..ask() }).contains("r-7 does not exist"));
        assert!(said(&runs, v1::LogsRequest { deployment: "production/shp".into(), ..ask() }).contains("did you mean"));
    }
}
