//! A stub resolver per client: A and AAAA, a cache that honours the TTL, servers asked in turn, the next one at once
//! when a server says it cannot answer and after a second when it says nothing. EDNS, and TCP when an answer was
//! truncated.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

use super::record::{Records, ServerOutcome};
use crate::clock::{Clock, Mono};

/// The UDP payload that is announced.
const PAYLOAD: u16 = 1232;
/// Times round all servers before a lookup has failed, as common stub resolvers have it.
const ROUNDS: usize = 2;

/// One client's memory: the last answer, and which server is next.
#[derive(Debug)]
pub struct Cache {
    addresses: Vec<IpAddr>,
    until: Option<Mono>,
    next_server: usize,
}

impl Cache {
    /// Client number `n` begins at another server than its neighbours.
    pub fn new(n: usize) -> Self {
        Self { addresses: Vec::new(), until: None, next_server: n }
    }
}

/// What all clients' resolvers share.
#[derive(Debug)]
pub struct Resolver {
    name: Name,
    servers: Vec<SocketAddr>,
    silence: Duration,
    clock: Clock,
}

enum Answer {
    Addresses(Vec<IpAddr>, Duration),
    /// The name has no address: asking elsewhere would not help.
    Final(String),
    Next(ServerOutcome, String),
}

impl Answer {
    /// One answer of two about the same name: the addresses of both; where one family has none, the other's.
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Next(outcome, why), _) | (_, Self::Next(outcome, why)) => Self::Next(outcome, why),
            (Self::Addresses(mut all, ttl), Self::Addresses(more, other)) => {
                all.extend(more);
                Self::Addresses(all, ttl.min(other))
            }
            (Self::Final(_), found @ Self::Addresses(..)) => found,
            (found @ (Self::Addresses(..) | Self::Final(_)), Self::Final(_)) => found,
        }
    }
}

impl Resolver {
    pub fn new(name: Name, servers: Vec<SocketAddr>, silence: Duration, clock: Clock) -> Self {
        Self { name, servers, silence, clock }
    }

    /// An address from the client's cache, or from the servers; else what the last one said.
    pub async fn resolve(&self, cache: &mut Cache, records: &Records) -> Result<IpAddr, String> {
        let fresh = cache.until.is_some_and(|until| self.clock.mono() < until);
        if fresh && let Some(address) = pick(&cache.addresses) {
            return Ok(address);
        }
        let mut said = String::new();
        for _ in 0..self.servers.len() * ROUNDS {
            let server = self.servers[cache.next_server % self.servers.len()];
            cache.next_server = cache.next_server.wrapping_add(1);
            let asked = self.clock.mono();
            // Both families at once, as a machine's own resolver asks.
            let both = async { tokio::try_join!(self.ask(server, RecordType::A), self.ask(server, RecordType::AAAA)) };
            let answer = match tokio::time::timeout(self.silence, both).await {
                Ok(Ok((four, six))) => self.read(&four).with(self.read(&six)),
                // A closed port answers with ICMP at once; anything else of the network counts the same.
                Ok(Err(e)) => Answer::Next(ServerOutcome::Unreachable, e.to_string()),
                Err(_) => Answer::Next(ServerOutcome::Silent, format!("no answer within {:?}", self.silence)),
            };
            let now = self.clock.wall_ms();
            match answer {
                Answer::Addresses(addresses, ttl) => {
                    records.asked(now, server, ServerOutcome::Answered);
                    // The TTL runs from when the answer may have been made.
                    cache.until = Some(Mono(asked.0 + u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX / 2)));
                    cache.addresses = addresses;
                    return pick(&cache.addresses).ok_or_else(|| "an answer without an address".into());
                }
                Answer::Final(why) => {
                    records.asked(now, server, ServerOutcome::NoAddress);
                    return Err(format!("{server}: {why}"));
                }
                Answer::Next(outcome, why) => {
                    records.asked(now, server, outcome);
                    said = format!("{server}: {why}");
                }
            }
        }
        Err(said)
    }

    async fn ask(&self, server: SocketAddr, kind: RecordType) -> io::Result<Message> {
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(self.name.clone(), kind));
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD);
        query.set_edns(edns);
        let bytes = query.to_vec().map_err(io::Error::other)?;

        // A socket a question: a new port each time, and a refusal from the server is heard on a connected one.
        let any = if server.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(server).await?;
        socket.send(&bytes).await?;
        let mut buffer = vec![0; usize::from(PAYLOAD)];
        loop {
            let n = socket.recv(&mut buffer).await?;
            let Some(answer) = self.ours(&query, &buffer[..n]) else { continue };
            if !answer.metadata.truncation {
                return Ok(answer);
            }
            let answer = ask_tcp(server, &bytes).await?;
            return self.ours(&query, &answer).ok_or_else(|| io::Error::other("another question's answer over TCP"));
        }
    }

    /// The message, if it answers this question.
    fn ours(&self, query: &Message, bytes: &[u8]) -> Option<Message> {
        let answer = Message::from_vec(bytes).ok()?;
        let same = answer.metadata.id == query.metadata.id && answer.queries.first() == query.queries.first();
        same.then_some(answer)
    }

    fn read(&self, message: &Message) -> Answer {
        match message.metadata.response_code {
            ResponseCode::NoError => {}
            ResponseCode::NXDomain => return Answer::Final(format!("{} does not exist", self.name)),
            ResponseCode::ServFail => return Answer::Next(ServerOutcome::ServFail, "SERVFAIL".into()),
            ResponseCode::Refused => return Answer::Next(ServerOutcome::Refused, "REFUSED".into()),
            other => return Answer::Next(ServerOutcome::ServFail, other.to_string()),
        }
        let addresses: Vec<(IpAddr, u32)> = message
            .answers
            .iter()
            .filter_map(|record| match &record.data {
                RData::A(a) => Some((IpAddr::from(a.0), record.ttl)),
                RData::AAAA(a) => Some((IpAddr::from(a.0), record.ttl)),
                _ => None,
            })
            .collect();
        let Some(ttl) = addresses.iter().map(|(_, ttl)| *ttl).min() else {
            return Answer::Final(format!("{} has no address", self.name));
        };
        Answer::Addresses(addresses.into_iter().map(|(a, _)| a).collect(), Duration::from_secs(u64::from(ttl)))
    }
}

/// Any of them: clients that all took the first would lean on one instance.
fn pick(addresses: &[IpAddr]) -> Option<IpAddr> {
    addresses.get(rand::random::<u32>() as usize % addresses.len().max(1)).copied()
}

/// One DNS message over TCP, with its length in front (RFC 1035, 4.2.2), and the answer to it.
pub async fn ask_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(query);
    stream.write_all(&framed).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}
