//! What is asked for, and what a right answer is: names of services and the addresses behind them, the same for every
//! server.
//!
//! Service `n` has five addresses 10.x.y.1 to 10.x.y.5 of its stable version, and where it has a candidate five of
//! 11.x.y.

/// The zone of all servers.
pub const ZONE: &str = "slipway.internal";
/// Endpoints of a version.
pub const ENDPOINTS: u8 = 5;

/// The name of a service.
pub fn service(n: u32) -> String {
    format!("s{n}.production.svc.{ZONE}")
}

/// The first three octets of a service's addresses; `arm` 0 is stable, 1 the candidate.
pub fn network(n: u32, arm: u8) -> [u8; 3] {
    let [_, _, high, low] = n.to_be_bytes();
    [10 + arm, high, low]
}

/// An A query with id 0 and RD.
pub fn query(name: &str) -> Vec<u8> {
    let mut out = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).expect("a label"));
        out.extend(label.as_bytes());
    }
    out.extend([0, 0, 1, 0, 1]);
    out
}

/// Whether a response answers the query with the five addresses of one version of the service. The id is the caller's.
pub fn is_right(query: &[u8], service: u32, response: &[u8]) -> bool {
    let question = query.len();
    // A response, no truncation, no error; one question, five answers.
    if response.len() < question
        || response[2] & 0x82 != 0x80
        || response[3] & 0x0f != 0
        || response[4..8] != [0, 1, 0, 5]
    {
        return false;
    }
    if response[12..question] != query[12..] {
        return false;
    }
    let (mut at, mut seen, mut arm) = (question, 0_u8, None);
    for _ in 0..ENDPOINTS {
        // The owner: a pointer, or labels up to one or to the end.
        while response.get(at).is_some_and(|n| (1..64).contains(n)) {
            at += 1 + usize::from(response[at]);
        }
        at += if response.get(at) == Some(&0) { 1 } else { 2 };
        let Some(record) = response.get(at..at + 14) else { return false };
        if record[..4] != [0, 1, 0, 1] || record[8..10] != [0, 4] {
            return false;
        }
        let of = *arm.get_or_insert(record[10].wrapping_sub(10));
        if of > 1 || record[10..13] != network(service, of) || !(1..=ENDPOINTS).contains(&record[13]) {
            return false;
        }
        seen |= 1 << record[13];
        at += 14;
    }
    seen == 0b11_1110
}
