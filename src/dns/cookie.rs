//! DNS cookies (RFC 7873) with the interoperable server cookie of RFC 9018. A client that was answered once is then
//! known to be at its address, by every server that has the same secret.
//!
//! Server cookie: version 1, three zero octets, the time in seconds, and SipHash-2-4 of all that, the client's cookie
//! and its address. The first secret signs, each one is accepted. The secrets are the cluster's, unless the server has
//! its own. To replace a secret that is shared with other servers, put the new one second everywhere, then first, then
//! remove the old one. Not here: the cluster's secrets (`state`, `lead`), limits for clients without a cookie
//! (`limit`).

use std::net::IpAddr;

use siphasher::sip::SipHasher24;

use crate::state::Secret;

/// A secret's length in octets.
pub const SECRET: usize = 16;
/// A cookie that is older is not accepted, in seconds (RFC 9018, 4.3).
const OLDEST: u32 = 3600;
/// From this age on the client gets a new one.
const RENEW: u32 = 1800;
/// How far a clock of another server may be ahead.
const AHEAD: u32 = 300;
const CLIENT: usize = 8;
const SERVER: usize = 16;

/// What the cookie of a query says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Presented {
    /// None was sent, or we use none.
    Nothing,
    /// Of a length that RFC 7873 does not allow: FORMERR.
    Malformed,
    /// A client cookie, and whether a server cookie with it is good; with the cookie to answer with.
    Cookie { good: bool, answer: Vec<u8> },
}

/// The secrets of this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookies {
    own: Vec<Secret>,
    told: bool,
}

impl Cookies {
    /// With these secrets, whatever the cluster's are; without any, cookies are ignored as by a server that does not
    /// know them.
    pub fn new(secrets: Vec<[u8; SECRET]>) -> Self {
        Self { own: secrets.into_iter().map(Secret::new).collect(), told: true }
    }

    /// With the cluster's secrets, and this one while there are none.
    pub fn of_cluster(until_then: [u8; SECRET]) -> Self {
        Self { own: vec![Secret::new(until_then)], told: false }
    }

    /// Looks at the option of a query. `shared`: the cluster's secrets; `now`: seconds of wall time.
    pub(super) fn look(&self, shared: &[Secret], option: Option<&[u8]>, client: IpAddr, now: u32) -> Presented {
        let secrets = if self.told || shared.is_empty() { &self.own } else { shared };
        let (Some(option), Some(signing)) = (option, secrets.first()) else { return Presented::Nothing };
        let Some((theirs, ours)) = option.split_first_chunk::<CLIENT>() else { return Presented::Malformed };
        if !(ours.is_empty() || (8..=32).contains(&ours.len())) {
            return Presented::Malformed;
        }
        let age = age(secrets, *theirs, ours, client, now);
        let answer = match age {
            Some(age) if age < RENEW => option.to_vec(),
            Some(_) | None => [&theirs[..], &made(signing.bytes(), *theirs, [1, 0, 0, 0], client, now)].concat(),
        };
        Presented::Cookie { good: age.is_some(), answer }
    }
}

/// The age of a good server cookie.
fn age(secrets: &[Secret], theirs: [u8; CLIENT], ours: &[u8], client: IpAddr, now: u32) -> Option<u32> {
    let ours: &[u8; SERVER] = ours.try_into().ok()?;
    let [version, r1, r2, r3, t1, t2, t3, t4, ..] = *ours;
    let at = u32::from_be_bytes([t1, t2, t3, t4]);
    // Serial arithmetic, as seconds run over in 2106.
    let age = now.wrapping_sub(at);
    let ahead = at.wrapping_sub(now);
    let timely = age <= OLDEST || ahead <= AHEAD;
    let known = |secret: &Secret| same(&made(secret.bytes(), theirs, [version, r1, r2, r3], client, at), ours);
    let good = version == 1 && timely && secrets.iter().any(known);
    good.then_some(if age <= OLDEST { age } else { 0 })
}

/// Compares without telling by the time it takes where the difference is.
fn same(a: &[u8; SERVER], b: &[u8; SERVER]) -> bool {
    a.iter().zip(b).fold(0, |d, (a, b)| d | (a ^ b)) == 0
}

fn made(secret: &[u8; SECRET], theirs: [u8; CLIENT], front: [u8; 4], client: IpAddr, at: u32) -> [u8; SERVER] {
    let mut text = [0; CLIENT + 8 + 16];
    text[..8].copy_from_slice(&theirs);
    text[8..12].copy_from_slice(&front);
    text[12..16].copy_from_slice(&at.to_be_bytes());
    let length = match client {
        IpAddr::V4(ip) => {
            text[16..20].copy_from_slice(&ip.octets());
            20
        }
        IpAddr::V6(ip) => {
            text[16..].copy_from_slice(&ip.octets());
            32
        }
    };
    let mut out = [0; SERVER];
    out[..8].copy_from_slice(&text[8..16]);
    out[8..].copy_from_slice(&SipHasher24::new_with_key(secret).hash(&text[..length]).to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap()
    }

    /// The vector of SipHash's authors: key 00..0f, text 00..0e.
    #[test]
    fn the_hash_is_siphash_2_4() {
        let key = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let text: Vec<u8> = (0..15).collect();
        assert_eq!(SipHasher24::new_with_key(&key).hash(&text), 0xa129_ca61_49be_45e5);
    }

    fn look(secrets: &[&str], option: &[u8], client: &str, now: u32) -> Presented {
        let cookies = Cookies::new(secrets.iter().map(|s| hex(s)).collect());
        cookies.look(&[], Some(option), client.parse().unwrap(), now)
    }

    fn answers(good: bool, cookie: &str) -> Presented {
        Presented::Cookie { good, answer: hex::<24>(cookie).to_vec() }
    }

    const SECRET_A: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";

    /// The examples of RFC 9018, appendix A, so that other servers with the same secret agree with us.
    #[test]
    fn the_examples_of_rfc_9018() {
        let learning = look(&[SECRET_A], &hex::<8>("2464c4abcf10c957"), "198.51.100.100", 1_559_731_985);
        assert_eq!(learning, answers(false, "2464c4abcf10c957010000005cf79f111f8130c3eee29480"));
        let known = hex::<24>("2464c4abcf10c957010000005cf79f111f8130c3eee29480");
        let renewed = look(&[SECRET_A], &known, "198.51.100.100", 1_559_734_385);
        assert_eq!(renewed, answers(true, "2464c4abcf10c957010000005cf7a871d4a564a1442aca77"));
        // Reserved octets that are not zero are part of the hash and otherwise ignored.
        let odd = hex::<24>("fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5");
        let answer = look(&[SECRET_A], &odd, "203.0.113.203", 1_559_728_100);
        assert!(matches!(answer, Presented::Cookie { good: true, .. }), "{answer:?}");
        // A roll-over of the secret, over IPv6.
        let secrets = ["445536bcd2513298075a5d379663c962", "dd3bdf9344b678b185a6f5cb60fca715"];
        let old = hex::<24>("22681ab97d52c298010000005cf7c57926556bd0934c72f8");
        let answer = look(&secrets, &old, "2001:db8:220:1:59de:d0f4:8769:82b8", 1_559_741_961);
        assert!(matches!(answer, Presented::Cookie { good: true, .. }), "{answer:?}");
        let answer = look(&secrets, &old[..8], "2001:db8:220:1:59de:d0f4:8769:82b8", 1_559_741_961);
        assert_eq!(answer, answers(false, "22681ab97d52c298010000005cf7c609a6bb79d16625507a"));
    }

    #[test]
    fn a_cookie_is_good_for_its_address_and_for_an_hour() {
        let first = look(&[SECRET_A], &[7; 8], "192.0.2.1", 10_000);
        let Presented::Cookie { good: false, answer } = first else { panic!("{first:?}") };
        let good = |client: &str, now, cookie: &[u8]| match look(&[SECRET_A], cookie, client, now) {
            Presented::Cookie { good, .. } => good,
            other => panic!("{other:?}"),
        };
        assert!(good("192.0.2.1", 10_000, &answer) && good("192.0.2.1", 13_600, &answer));
        assert!(good("192.0.2.1", 9_700, &answer), "another server's clock may be behind");
        assert!(!good("192.0.2.1", 13_601, &answer) && !good("192.0.2.1", 9_699, &answer));
        assert!(!good("192.0.2.2", 10_000, &answer));
        for at in 0..24 {
            let mut bent = answer.clone();
            bent[at] ^= 1;
            assert!(!good("192.0.2.1", 10_000, &bent), "octet {at}");
        }
        assert!(!good("192.0.2.1", 10_000, &[&answer[..8], &[0; 32]].concat()), "somebody else's form");
    }

    #[test]
    fn the_clusters_secrets_come_before_ones_own_but_not_before_what_was_told() {
        let (shared, client) = ([Secret::new([3; 16])], "192.0.2.1".parse().unwrap());
        let cookie = |c: &Cookies, shared: &[Secret]| c.look(shared, Some(&[1; 8]), client, 5);
        let of = |bytes| cookie(&Cookies::new(vec![bytes]), &[]);
        let own = Cookies::of_cluster([4; 16]);
        assert_eq!((cookie(&own, &[]), cookie(&own, &shared)), (of([4; 16]), of([3; 16])));
        assert_eq!(cookie(&Cookies::new(vec![[5; 16]]), &shared), of([5; 16]));
        assert_eq!(cookie(&Cookies::new(Vec::new()), &shared), Presented::Nothing);
        assert!(!format!("{own:?}").contains('4'));
    }

    #[test]
    fn every_wrong_length_is_malformed() {
        for n in 0..=64 {
            let right = n == 8 || (16..=40).contains(&n);
            let seen = look(&[SECRET_A], &vec![1; n], "192.0.2.1", 1);
            assert_eq!(seen == Presented::Malformed, !right, "{n} octets: {seen:?}");
        }
        assert_eq!(look(&[], &[1; 3], "192.0.2.1", 1), Presented::Nothing, "a server without cookies ignores them");
    }
}
