//! A small backup, written, altered, restored into a directory that Raft starts on.

use proptest::prelude::*;

use super::*;
use crate::{
    clock::Clock,
    model::{ClusterId, Millis, Principal},
    raft::{ConsensusConfig, Timing},
    state::{
        Command, NewNode, Stamped, apply,
        command::{BlobHeld, ClusterInit},
    },
};

fn node(name: &str) -> NewNode {
    NewNode {
        name: name.into(),
        peer_addr: "127.0.0.1:1".into(),
        client_addr: "127.0.0.1:2".into(),
        dns_addr: "127.0.0.1:3".into(),
        level: 1,
    }
}

fn stamped(body: Command) -> Stamped {
    Stamped { at: Millis(5), wall: 5, term: 2, principal: Principal::local_operator(), request: None, body }
}

/// A State with one package, and the store that holds it.
fn small(dir: &Path) -> (State, BlobStore) {
    let blobs = BlobStore::open(&dir.join("from")).unwrap();
    let digest = hex(&Sha256::digest(b"package"));
    let mut writer = blobs.writer(&digest, 7).unwrap();
    writer.write(b"package").unwrap();
    writer.finish().unwrap();
    let mut state = State::default();
    let id = ClusterId::new("c-1").unwrap();
    let init =
        Command::ClusterInit(ClusterInit { id, name: "t".into(), zone: "slipway.internal".into(), node: node("a") });
    apply(&mut state, state::LogId { term: 2, index: 5 }, &stamped(init)).unwrap();
    let held = Command::BlobHeld(BlobHeld { digest: Digest::new(&digest).unwrap(), size: 7, node: 1 });
    apply(&mut state, state::LogId { term: 2, index: 6 }, &stamped(held)).unwrap();
    (state, blobs)
}

fn backup(state: &State, blobs: &BlobStore, without_packages: bool) -> Vec<u8> {
    let source = BackupSource { state, blobs, without_packages, wall_ms: 1 };
    write_backup(&source, |_| Vec::new()).unwrap().out
}

fn new() -> Restoration {
    Restoration {
        id: ClusterId::new("c-2").unwrap(),
        node: node("b"),
        incarnation: 0,
        succeeds: Vec::new(),
        held: BTreeSet::new(),
    }
}

#[tokio::test]
async fn a_restored_directory_leads_its_own_cluster_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let (state, blobs) = small(dir.path());
    let at = dir.path().join("new");
    let (head, made) = restore_backup(&backup(&state, &blobs, false)[..], &at, &new()).unwrap();
    assert_eq!((head.index, head.packages, made.incarnation), (6, 1, 2));
    let (stopped, packages) = check_stopped(&at).unwrap();
    assert_eq!((&stopped.state, packages), (&made, 1));
    drop(stopped);

    let data = DataDir::open(&at).unwrap();
    let identity = data.log().identity().unwrap().unwrap();
    assert_eq!(identity, Identity { cluster: "c-2".into(), node: 1 });
    let config = ConsensusConfig { timing: Timing::lan(), ..ConsensusConfig::default() };
    let consensus = Consensus::start(config, &data, identity, Clock::real()).await.unwrap();
    consensus.leader().wait_for(|l| l.ready).await.unwrap();
    assert!(consensus.view().applied.index > made.applied.index);
    let (index, size) = consensus.snapshot_and_purge().await.unwrap();
    assert!(index > made.applied.index && size > 0);
    consensus.shutdown().await.unwrap();
    drop((consensus, data));

    // A stopped directory is as good as a running node.
    let stopped = open_stopped(&at).unwrap();
    let again = backup(&stopped.state, stopped.dir.blobs(), false);
    assert_eq!(load_backup(&again[..], None).unwrap().state.incarnation, 2);
    let refused = restore_backup(&again[..], &at, &new()).err().unwrap().to_string();
    assert!(refused.contains("in use"), "{refused}");
    drop(stopped);
    let refused = restore_backup(&again[..], &at, &new()).err().unwrap().to_string();
    assert!(refused.contains("is not empty"), "{refused}");
    let mount = dir.path().join("mount");
    std::fs::create_dir_all(mount.join("lost+found")).unwrap();
    let refused = restore_backup(&again[..], &mount, &new()).err().unwrap().to_string();
    assert!(refused.contains("top of a file system") && refused.contains("mount/node"), "{refused}");
}

#[test]
fn what_is_missing_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (state, blobs) = small(dir.path());
    let bare = load_backup(&backup(&state, &blobs, true)[..], None).unwrap();
    assert_eq!((bare.head.left_out, bare.packages.len()), (1, 0));
    let (digest, _) = blobs.list().unwrap().remove(0);
    blobs.lock(&digest).unwrap().remove().unwrap();
    let source = BackupSource { state: &state, blobs: &blobs, without_packages: false, wall_ms: 1 };
    let said = write_backup(&source, |_| Vec::new()).err().unwrap().to_string();
    assert!(said.contains(&digest) && said.contains("but by a"), "{said}");
    let said = open_stopped(dir.path()).err().unwrap().to_string();
    assert!(said.contains("not a node's data directory"), "{said}");
}

#[test]
fn a_later_level_is_refused_with_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, blobs) = small(dir.path());
    state.level = 9;
    let said = load_backup(&backup(&state, &blobs, false)[..], None).err().unwrap().to_string();
    assert!(said.contains("feature level 9"), "{said}");
}

#[test]
fn a_failed_restore_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (state, blobs) = small(dir.path());
    let mut bytes = backup(&state, &blobs, false);
    let last = bytes.len() - 60;
    bytes[last] ^= 1;
    let at = dir.path().join("deep/new");
    assert!(restore_backup(&bytes[..], &at, &new()).is_err());
    let left = std::fs::read_dir(dir.path().join("deep")).unwrap().count();
    assert_eq!(left, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn any_changed_byte_or_cut_is_found(at in 0_usize..100_000, by in 1_u8..=255) {
        let dir = tempfile::tempdir().unwrap();
        let (state, blobs) = small(dir.path());
        let mut bytes = backup(&state, &blobs, false);
        let at = at % bytes.len();
        prop_assert!(load_backup(&bytes[..at], None).is_err());
        bytes[at] ^= by;
        prop_assert!(load_backup(&bytes[..], None).is_err());
    }
}
