//! The `Artifacts` service: packages come in, are verified and spread to the other voters, and go out by ranges.
//!
//! Invariants: nothing is visible before its digest was checked and its bytes are durable; one upload of a digest at a time, and one that stands
//! still has its place for a bounded time.

use std::{io::Read as _, time::Duration};

use futures_util::{Stream, StreamExt as _, future::join_all};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{Shared, error};
use crate::{
    model::{Digest, MAX_PACKAGE, NodeId},
    state::{Command, NodeRole, command::BlobHeld},
    storage::{BlobStore, StorageError},
    wire::v1,
};

/// Largest chunk, both ways.
pub(super) const CHUNK: usize = 256 << 10;
const CHUNKS_AHEAD: usize = 4;
/// Longest wait for the next bytes of an upload, whose package nobody else can send meanwhile. A line that loses packets has sent them again by
/// then; a client that was away for longer goes on where it was, as what came is kept.
const STILL: Duration = Duration::from_secs(30);
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

/// Hands on what comes until it ends, or until no byte of it came for `patience`. A chunk without bytes is no sign of one.
async fn receive<S>(stream: &mut S, first: v1::PushChunk, intake: &Intake, patience: Duration) -> Result<(), Status>
where
    S: Stream<Item = Result<v1::PushChunk, Status>> + Unpin,
{
    let mut next = Some(first);
    while let Some(chunk) = next {
        if chunk.data.len() > CHUNK {
            return Err(error::bad(format!("a chunk has {CHUNK} bytes at most")));
        }
        if !chunk.data.is_empty() && intake.push(chunk.data).await.is_err() {
            break;
        }
        let bytes = async {
            loop {
                match stream.next().await.transpose()? {
                    Some(chunk) if chunk.data.is_empty() => {}
                    other => return Ok::<_, Status>(other),
                }
            }
        };
        let kept = "; what came is kept: ask Stat where to go on";
        next = timeout(patience, bytes).await.map_err(|_| still("the package", patience, kept))??;
    }
    Ok(())
}

fn still(of: &str, patience: Duration, kept: &str) -> Status {
    let text = format!("nothing of {of} came for {patience:?}, so its place is given up{kept}");
    error::status(tonic::Code::Unavailable, "still", text)
}

fn ended(e: tokio::task::JoinError) -> StorageError {
    StorageError::Io { what: "the thread that writes ended:", path: "blobs".into(), source: std::io::Error::other(e) }
}

fn digest(text: &str) -> Result<Digest, Status> {
    Digest::new(text).map_err(|e| error::invalid(&e))
}

#[async_trait]
impl v1::artifacts_server::Artifacts for Shared {
    type FetchStream = ReceiverStream<Result<v1::FetchChunk, Status>>;

    async fn stat(&self, request: Request<v1::StatRequest>) -> Result<Response<v1::StatReply>, Status> {
        let digest = digest(&request.into_inner().digest)?;
        let whole = self.blobs.size(digest.as_str()).map_err(|e| error::stored(&e))?;
        let size = match whole {
            Some(size) => size,
            None => self.blobs.partial_size(digest.as_str()).map_err(|e| error::stored(&e))?,
        };
        Ok(Response::new(v1::StatReply { complete: whole.is_some(), size }))
    }

    async fn push(&self, request: Request<Streaming<v1::PushChunk>>) -> Result<Response<v1::PushReply>, Status> {
        let mut stream = request.into_inner();
        let first = timeout(STILL, stream.message()).await.map_err(|_| still("the upload", STILL, ""))??;
        let first = first.ok_or_else(|| error::bad("the upload has no first chunk"))?;
        if let Some(reason) = self.consensus()?.refusing() {
            return Err(error::status(tonic::Code::Unavailable, "disk_low", reason));
        }
        let digest = digest(&first.digest)?;
        let size = first.size;
        if size == 0 || size > MAX_PACKAGE {
            let text = format!("a package has 1 to {MAX_PACKAGE} bytes, this one {size}");
            return Err(error::status(tonic::Code::ResourceExhausted, "too_large", text));
        }
        if !self.blobs.has(digest.as_str()) {
            let (intake, offset) =
                Intake::begin(&self.blobs, digest.as_str(), size).await.map_err(|e| error::stored(&e))?;
            if first.offset != offset {
                let text = format!("the upload goes on at {offset}, not at {}: ask Stat", first.offset);
                return Err(error::status(tonic::Code::OutOfRange, "offset", text));
            }
            let came = receive(&mut stream, first, &intake, STILL).await;
            // Also of one that broke off: its package is free again before its client hears of it, and whole if all of it came.
            if let Err(e) = intake.finish().await {
                came?;
                return Err(error::stored(&e));
            }
        }
        let size = self.blobs.size(digest.as_str()).map_err(|e| error::stored(&e))?.unwrap_or(size);
        self.hold(&digest, size).await?;
        self.spread(&digest, size).await;
        let (holders, nodes) = self.holders(&digest);
        Ok(Response::new(v1::PushReply { size, holders, nodes }))
    }

    async fn fetch(&self, request: Request<v1::FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let v1::FetchRequest { digest: text, offset } = request.into_inner();
        let digest = digest(&text)?;
        let size = self.blobs.size(digest.as_str()).map_err(|e| error::stored(&e))?.ok_or_else(|| {
            error::not_found(format!("this node does not hold package {}: ask another", digest.short()))
        })?;
        let (mut file, _) = self.blobs.open_range(digest.as_str(), offset).map_err(|e| error::stored(&e))?;
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
                    Err(e) => Err(Status::internal(format!("cannot read the package: {e}"))),
                };
                let last = chunk.as_ref().map_or(true, |c| c.data.is_empty());
                sent_any = true;
                if send.blocking_send(chunk).is_err() || last {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receive)))
    }
}

impl Shared {
    /// Commits that this node holds the package, unless that is known.
    pub(super) async fn hold(&self, digest: &Digest, size: u64) -> Result<(), Status> {
        let consensus = self.consensus()?;
        let node = consensus.node_id();
        if consensus.view().blobs.get(digest).is_some_and(|b| b.holders.contains(&node)) {
            return Ok(());
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
            let mut client = consensus.peer_client(to)?;
            let header = Some(consensus.peer_header(to));
            let request = v1::HaveBlobRequest { header, digest: digest.to_string(), size };
            match timeout(limit, client.have_blob(request)).await {
                Ok(Ok(_)) => {}
                Ok(Err(status)) => tracing::warn!(node = to, %status, digest = digest.short(), "package not taken"),
                Err(_) => tracing::warn!(node = to, digest = digest.short(), "package not taken in time"),
            }
            Some(())
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
        assert_eq!((offset, said.code()), (0, tonic::Code::Unavailable));
        assert!(
            said.message().contains("nothing of the package came for 50ms") && said.message().contains("Stat"),
            "{said}"
        );
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
