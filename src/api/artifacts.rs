//! Packages come in, are verified and spread to the other voters, and go out by ranges.
//!
//! Invariants: nothing is visible before its digest was checked and its bytes are durable; one upload of a digest at a
//! time, and one that stands still has its place for a bounded time.

use std::{io::Read as _, time::Duration};

use futures_util::{Stream, StreamExt as _, future::join_all};
use tokio::{sync::mpsc, time::timeout};

use super::{Api, ApiError, Caller, Kind, Many, Reply};
use crate::{
    model::{Digest, MAX_PACKAGE, NodeId},
    state::{Command, NodeRole, command::BlobHeld},
    storage::{BlobStore, StorageError},
    wire::v1,
};

/// Largest chunk, both ways.
pub(super) const CHUNK: usize = 256 << 10;
const CHUNKS_AHEAD: usize = 4;
/// How long a peer may take per MiB, and in any case.
const SPREAD_BASE: Duration = Duration::from_secs(10);
const SPREAD_PER_MIB: Duration = Duration::from_millis(200);

/// Takes a package's bytes on a thread that may block.
pub(super) struct Intake {
    bytes: mpsc::Sender<Vec<u8>>,
    done: tokio::task::JoinHandle<Result<(), StorageError>>,
}

impl Intake {
    /// Begins or resumes; answers where to go on.
    pub(super) async fn begin(blobs: &BlobStore, digest: &str, size: u64) -> Result<(Self, u64), StorageError> {
        let (blobs, digest) = (blobs.clone(), digest.to_string());
        let writer = tokio::task::spawn_blocking(move || blobs.writer(&digest, size)).await;
        let mut writer = writer.map_err(ended)??;
        let offset = writer.offset();
        let (bytes, mut came) = mpsc::channel::<Vec<u8>>(CHUNKS_AHEAD);
        let done = tokio::task::spawn_blocking(move || {
            while let Some(chunk) = came.blocking_recv() {
                writer.write(&chunk)?;
            }
            // One that was cut is refused as too short, and kept to be resumed.
            writer.finish()
        });
        Ok((Self { bytes, done }, offset))
    }

    /// Hands on the next bytes; an error means that the writer has ended, and `finish` says why.
    pub(super) async fn push(&self, chunk: Vec<u8>) -> Result<(), ()> {
        self.bytes.send(chunk).await.map_err(|_| ())
    }

    /// Verifies and makes it durable.
    pub(super) async fn finish(self) -> Result<(), StorageError> {
        drop(self.bytes);
        self.done.await.map_err(ended)?
    }
}

/// Hands on what comes until it ends, or until no byte of it came for `patience`. A chunk without bytes is no sign of
/// one.
async fn receive<S>(stream: &mut S, first: v1::PushChunk, intake: &Intake, patience: Duration) -> Result<(), ApiError>
where
    S: Stream<Item = Result<v1::PushChunk, ApiError>> + Unpin,
{
    let mut next = Some(first);
    while let Some(chunk) = next {
        if chunk.data.len() > CHUNK {
            return Err(ApiError::bad(format!("a chunk has {CHUNK} bytes at most")));
        }
        if !chunk.data.is_empty() && intake.push(chunk.data).await.is_err() {
            break;
        }
        let bytes = async {
            loop {
                match stream.next().await.transpose()? {
                    Some(chunk) if chunk.data.is_empty() => {}
                    other => return Ok::<_, ApiError>(other),
                }
            }
        };
        let kept = "; what came is kept: ask Stat where to go on";
        next = timeout(patience, bytes).await.map_err(|_| still("the package", patience, kept))??;
    }
    Ok(())
}

fn still(of: &str, patience: Duration, kept: &str) -> ApiError {
    let text = format!("nothing of {of} came for {patience:?}, so its place is given up{kept}");
    ApiError::new(Kind::Unavailable, "still", text)
}

fn ended(e: tokio::task::JoinError) -> StorageError {
    StorageError::Io { what: "the thread that writes ended:", path: "blobs".into(), source: std::io::Error::other(e) }
}

fn digest(text: &str) -> Result<Digest, ApiError> {
    Digest::new(text).map_err(ApiError::from)
}

impl Api {
    /// Whether this node holds a package, and else how much of it.
    pub async fn stat(&self, _: &Caller, ask: v1::StatRequest) -> Reply<v1::StatReply> {
        let digest = digest(&ask.digest)?;
        let whole = self.blobs.size(digest.as_str())?;
        let size = match whole {
            Some(size) => size,
            None => self.blobs.partial_size(digest.as_str())?,
        };
        Ok(v1::StatReply { complete: whole.is_some(), size }.into())
    }

    /// Takes a package, or the rest of one. Nobody else can send it meanwhile, so bytes are waited for as long as the
    /// operation allows: a line that loses packets has sent them again by then; a client that was away for longer goes
    /// on where it was, as what came is kept.
    pub async fn push<S>(&self, by: &Caller, mut stream: S) -> Reply<v1::PushReply>
    where
        S: Stream<Item = Result<v1::PushChunk, ApiError>> + Unpin,
    {
        let patience = by.operation.wait;
        let first = timeout(patience, stream.next()).await.map_err(|_| still("the upload", patience, ""))?;
        let first = first.transpose()?.ok_or_else(|| ApiError::bad("the upload has no first chunk"))?;
        if let Some(reason) = self.consensus()?.refusing() {
            return Err(ApiError::new(Kind::Unavailable, "disk_low", reason));
        }
        let digest = digest(&first.digest)?;
        let size = first.size;
        if size == 0 || size > MAX_PACKAGE {
            let text = format!("a package has 1 to {MAX_PACKAGE} bytes, this one {size}");
            return Err(ApiError::new(Kind::Exhausted, "too_large", text));
        }
        if !self.blobs.has(digest.as_str()) {
            let (intake, offset) = Intake::begin(&self.blobs, digest.as_str(), size).await?;
            if first.offset != offset {
                let text = format!("the upload goes on at {offset}, not at {}: ask Stat", first.offset);
                return Err(ApiError::new(Kind::OutOfRange, "offset", text));
            }
            let came = receive(&mut stream, first, &intake, patience).await;
            // Also of one that broke off: its package is free again before its client hears of it, and whole if all of
            // it came.
            if let Err(e) = intake.finish().await {
                came?;
                return Err(e.into());
            }
        }
        let size = self.blobs.size(digest.as_str())?.unwrap_or(size);
        self.hold(&digest, size).await?;
        self.spread(&digest, size).await;
        let (holders, nodes) = self.holders(&digest);
        Ok(v1::PushReply { size, holders, nodes }.into())
    }

    /// A package's bytes from an offset on.
    pub async fn fetch(&self, _: &Caller, ask: v1::FetchRequest) -> Result<Many<v1::FetchChunk>, ApiError> {
        let v1::FetchRequest { digest: text, offset } = ask;
        let digest = digest(&text)?;
        let size = self.blobs.size(digest.as_str())?.ok_or_else(|| {
            ApiError::not_found(format!("this node does not hold package {}: ask another", digest.short()))
        })?;
        let (mut file, _) = self.blobs.open_range(digest.as_str(), offset)?;
        let (send, receive) = mpsc::channel(CHUNKS_AHEAD);
        tokio::task::spawn_blocking(move || {
            let mut sent_any = false;
            loop {
                let mut data = vec![0; CHUNK];
                let chunk = match file.read(&mut data) {
                    Ok(0) if sent_any => return,
                    Ok(n) => {
                        data.truncate(n);
                        Ok(v1::FetchChunk { size, data })
                    }
                    Err(e) => Err(ApiError::internal(format!("cannot read the package: {e}"))),
                };
                let last = chunk.as_ref().map_or(true, |c| c.data.is_empty());
                sent_any = true;
                if send.blocking_send(chunk).is_err() || last {
                    return;
                }
            }
        });
        Ok(receive)
    }

    /// Commits that this node holds the package; also when State says so already, as it is kept for a while from now
    /// on.
    pub(super) async fn hold(&self, digest: &Digest, size: u64) -> Result<(), ApiError> {
        let node = self.consensus()?.node_id();
        // Nobody deletes it meanwhile (`node/discard`).
        let _lock = self.blobs.lock(digest.as_str())?;
        if !self.blobs.has(digest.as_str()) {
            return Err(ApiError::unavailable(format!(
                "package {} was deleted just now: push it again",
                digest.short()
            )));
        }
        self.node_change(Command::BlobHeld(BlobHeld { digest: digest.clone(), size, node })).await.map(drop)
    }

    /// Asks the other voters to fetch the package from here, all at once.
    async fn spread(&self, digest: &Digest, size: u64) {
        let Some(consensus) = self.consensus.get() else { return };
        let state = consensus.view();
        let held = state.blobs.get(digest).map(|b| b.holders.clone()).unwrap_or_default();
        let me = consensus.node_id();
        let others = state.nodes.values().filter(|n| n.role == NodeRole::Voter && n.id != me && !held.contains(&n.id));
        let mib = u32::try_from(size >> 20).unwrap_or(u32::MAX);
        let limit = SPREAD_BASE.saturating_add(SPREAD_PER_MIB.saturating_mul(mib));
        let calls = others.map(|n| n.id).map(|to: NodeId| async move {
            match timeout(limit, self.remote.have_blob(consensus, to, digest, size)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(node = to, %error, digest = digest.short(), "package not taken"),
                Err(_) => tracing::warn!(node = to, digest = digest.short(), "package not taken in time"),
            }
        });
        join_all(calls).await;
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::model::ids::hex;

    const SHORT: Duration = Duration::from_millis(50);

    fn chunk(data: &[u8]) -> v1::PushChunk {
        v1::PushChunk { data: data.into(), ..v1::PushChunk::default() }
    }

    #[tokio::test]
    async fn an_upload_that_stands_still_gives_its_package_up_says_so_and_goes_on_later() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(dir.path()).unwrap();
        let bytes = vec![7_u8; 600];
        let digest = hex(&Sha256::digest(&bytes));
        let begin = async || Intake::begin(&blobs, &digest, 600).await;

        // Its client lives, and sends chunks without bytes for ever.
        let empty = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Some((Ok(chunk(&[])), ()))
        });
        let (intake, offset) = begin().await.unwrap();
        assert!(matches!(begin().await.map(|(_, at)| at), Err(StorageError::BlobBusy { .. })));
        let mut empty = Box::pin(empty);
        let said = receive(&mut empty, chunk(&bytes[..300]), &intake, SHORT).await.unwrap_err();
        assert_eq!((offset, said.kind), (0, Kind::Unavailable));
        assert!(said.text.contains("nothing of the package came for 50ms") && said.text.contains("Stat"), "{said}");
        intake.finish().await.unwrap_err();

        // Another sends nothing at all, and a third the rest.
        let (intake, _) = begin().await.unwrap();
        receive(&mut futures_util::stream::pending(), chunk(&[]), &intake, SHORT).await.unwrap_err();
        intake.finish().await.unwrap_err();
        let (intake, offset) = begin().await.unwrap();
        assert_eq!(offset, 300);
        let mut rest = tokio_stream::iter([Ok(chunk(&[])), Ok(chunk(&bytes[400..]))]);
        receive(&mut rest, chunk(&bytes[300..400]), &intake, Duration::from_secs(60)).await.unwrap();
        intake.finish().await.unwrap();
        assert_eq!(blobs.size(&digest).unwrap(), Some(600));
    }
}
