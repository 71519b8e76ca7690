//! DNS questions over UDP, as any client asks them.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};

/// An answer to a question for A.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub code: ResponseCode,
    pub addresses: BTreeSet<Ipv4Addr>,
    pub ttl: u32,
}

/// Asks one server once. The error says why there is no answer.
pub fn ask(server: SocketAddr, name: &str) -> Result<Answer, String> {
    let why = |e: std::io::Error| format!("{server}: {e}");
    let mut question = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    question.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(why)?;
    socket.connect(server).map_err(why)?;
    socket.set_read_timeout(Some(Duration::from_secs(1))).map_err(why)?;
    socket.send(&question.to_vec().unwrap()).map_err(why)?;
    let mut buffer = [0; 4096];
    let n = socket.recv(&mut buffer).map_err(why)?;
    let answer = Message::from_vec(&buffer[..n]).map_err(|e| format!("{server}: {e}"))?;
    if answer.metadata.id != question.metadata.id {
        return Err(format!("{server}: an answer to another question"));
    }
    let addresses = answer.answers.iter().filter_map(|r| match &r.data {
        RData::A(a) => Some(a.0),
        _ => None,
    });
    let ttl = answer.answers.iter().map(|r| r.ttl).min().unwrap_or_default();
    Ok(Answer { code: answer.metadata.response_code, addresses: addresses.collect(), ttl })
}
