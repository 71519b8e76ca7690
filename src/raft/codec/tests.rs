//! Tests of the encoding: every shape comes back, golden bytes stay readable, foreign bytes are refused.

use openraft::raft::StreamAppendError::{Conflict, HigherVote};
use proptest::prelude::*;

use super::{super::stream::AppendAnswer, *};

fn back<T: Coded + PartialEq + std::fmt::Debug>(value: &T) {
    assert_eq!(&T::decode(&value.encode()).unwrap(), value);
}

fn joint() -> Membership {
    let nodes: BTreeMap<u64, BasicNode> = (1..=4).map(|i| (i, BasicNode::new(format!("n{i}:7001")))).collect();
    Membership::new(vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3])], nodes).unwrap()
}

#[test]
fn every_shape_comes_back() {
    let (log, vote) = (LogId::new_term_index(3, 9), Vote::new_committed(4, 2));
    back(&log);
    back(&vote);
    back(&Vote::new(4, 2));
    back(&joint());
    back(&Membership::default());
    for payload in [
        EntryPayload::Blank,
        EntryPayload::Normal(Sealed(vec![1, 2, 3].into())),
        EntryPayload::Normal(Sealed(vec![].into())),
        EntryPayload::Membership(joint()),
    ] {
        back(&Entry { log_id: log, payload });
    }
    back(&SnapshotMeta::default());
    back(&SnapshotMeta {
        last_log_id: Some(log),
        last_membership: StoredMembership::new(Some(LogId::new_term_index(1, 2)), joint()),
    });
    back(&SnapshotOffer { vote, meta: SnapshotMeta::default(), size: 7, crc: u32::MAX });
    for answer in [
        AppendEntriesResponse::Success,
        AppendEntriesResponse::PartialSuccess(None),
        AppendEntriesResponse::PartialSuccess(Some(log)),
        AppendEntriesResponse::Conflict,
        AppendEntriesResponse::HigherVote(vote),
    ] {
        back(&answer);
    }
    let mut asked = VoteRequest::<TypeConfig>::new(vote, Some(log));
    back(&asked);
    asked.leadership_transfer = true;
    back(&asked);
    back(&VoteResponse::<TypeConfig>::new(vote, None, true));
    back(&TransferLeaderRequest::<TypeConfig>::new(vote, 3, Some(log)));
    back::<TransferLeaderResponse<TypeConfig>>(&Ok(()));
    back::<TransferLeaderResponse<TypeConfig>>(&Err(TransferLeaderError::VoteChanged {
        expected: vote,
        actual: Vote::new(9, 1),
    }));
    back::<TransferLeaderResponse<TypeConfig>>(&Err(TransferLeaderError::LogNotFlushed {
        expected: Some(log),
        actual: None,
    }));
    back(&SnapshotResponse::<TypeConfig>::new(vote));
    for answer in [Ok(None), Ok(Some(log)), Err(Conflict(log)), Err(HigherVote(vote))] {
        back(&AppendAnswer(answer));
    }
    let append = AppendEntriesRequest::<TypeConfig> {
        vote,
        prev_log_id: None,
        entries: vec![Entry { log_id: log, payload: EntryPayload::Blank }],
        leader_commit: Some(log),
    };
    let again = AppendEntriesRequest::<TypeConfig>::decode(&append.encode()).unwrap();
    assert_eq!(
        (again.vote, again.prev_log_id, again.entries, again.leader_commit),
        (append.vote, append.prev_log_id, append.entries, append.leader_commit)
    );
}

#[test]
fn bytes_on_disk_stay_readable() {
    // Written by format 1; these must decode for ever.
    assert_eq!(Vote::new_committed(7, 2).encode(), [1, 8, 7, 16, 2, 24, 1]);
    assert_eq!(LogId::new_term_index(7, 300).encode(), [1, 8, 7, 16, 172, 2]);
    let entry = Entry { log_id: LogId::new_term_index(1, 5), payload: EntryPayload::Normal(Sealed(vec![9, 9].into())) };
    assert_eq!(entry.encode(), [1, 10, 4, 8, 1, 16, 5, 26, 2, 9, 9]);
    let blank = Entry { log_id: LogId::new_term_index(1, 5), payload: EntryPayload::Blank };
    assert_eq!(blank.encode(), [1, 10, 4, 8, 1, 16, 5, 16, 1]);
}

#[test]
fn what_is_not_ours_is_refused() {
    assert_eq!(Vote::decode(&[]).unwrap_err().to_string(), "vote cannot be decoded: it is empty");
    assert_eq!(Vote::decode(&[2, 8, 7]).unwrap_err(), CodecError::Version { what: "vote", found: 2 });
    assert!(Entry::decode(&[1]).is_err());
    assert!(AppendEntriesResponse::<TypeConfig>::decode(&[1, 8, 77]).is_err());
    assert!(AppendEntriesRequest::<TypeConfig>::decode(&[1]).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_an_answer_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        // Decoders face the network: they must not panic on anything.
        let _ = Entry::decode(&bytes);
        let _ = AppendEntriesRequest::<TypeConfig>::decode(&bytes);
        let _ = SnapshotOffer::decode(&bytes);
        let _ = TransferLeaderResponse::<TypeConfig>::decode(&bytes);
        let mut versioned = vec![VERSION];
        versioned.extend(&bytes);
        let _ = Entry::decode(&versioned);
        let _ = Membership::decode(&versioned);
        let _ = SnapshotOffer::decode(&versioned);
    }
}

/// Every decoder of bytes from a disk or a peer, as a libFuzzer target would call them.
fn fuzz(data: &[u8]) {
    let _ = Vote::decode(data);
    let _ = LogId::decode(data);
    let _ = Membership::decode(data);
    let _ = Entry::decode(data);
    let _ = SnapshotMeta::decode(data);
    let _ = SnapshotOffer::decode(data);
    let _ = AppendEntriesRequest::<TypeConfig>::decode(data);
    let _ = AppendEntriesResponse::<TypeConfig>::decode(data);
    let _ = VoteRequest::<TypeConfig>::decode(data);
    let _ = VoteResponse::<TypeConfig>::decode(data);
    let _ = TransferLeaderRequest::<TypeConfig>::decode(data);
    let _ = TransferLeaderResponse::<TypeConfig>::decode(data);
    let _ = SnapshotResponse::<TypeConfig>::decode(data);
    let _ = AppendAnswer::decode(data);
    let _ = AppendEntriesRequest::<TypeConfig>::decode_shared(data.to_vec());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]
    #[test]
    fn changed_messages_are_an_answer_or_an_error(at in 0_usize..200, value in any::<u8>(), cut in 0_usize..200, tail in prop::collection::vec(any::<u8>(), 0..40)) {
        let log = LogId::new_term_index(3, 9);
        let append = AppendEntriesRequest::<TypeConfig> {
            vote: Vote::new_committed(4, 2),
            prev_log_id: Some(log),
            entries: vec![
                Entry { log_id: log, payload: EntryPayload::Membership(joint()) },
                Entry { log_id: log, payload: EntryPayload::Normal(Sealed(vec![7; 20].into())) },
            ],
            leader_commit: Some(log),
        };
        let meta = SnapshotMeta { last_log_id: Some(log), last_membership: StoredMembership::new(Some(log), joint()) };
        for mut bytes in [append.encode(), meta.encode(), joint().encode(), Vote::new(4, 2).encode()] {
            bytes.truncate(bytes.len().min(cut.max(1)));
            let at = at % bytes.len();
            bytes[at] = value;
            fuzz(&bytes);
            bytes.extend(&tail);
            fuzz(&bytes);
        }
    }
}
