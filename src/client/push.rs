//! Uploads a package in pieces, and goes on where a node already has some of it.

use std::{io::SeekFrom, path::Path, time::Duration};

use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_stream::wrappers::ReceiverStream;

use super::{Client, ClientError, error};
use crate::wire::v1::{self, artifacts_client::ArtifactsClient};

/// Bytes of one piece; the protocol's limit.
const PIECE: usize = 256 * 1024;
/// Uploads without any progress before giving up.
const TRIES: u32 = 5;
/// How long a node may take over one upload: long packages on slow lines, and the copies to a majority.
const LIMIT: Duration = Duration::from_secs(3600);

impl Client {
    /// Uploads the file under its digest; `progress` hears how many bytes the node has been sent.
    pub async fn push(
        &self,
        digest: &str,
        path: &Path,
        size: u64,
        progress: impl Fn(u64) + Send + Sync + Clone + 'static,
    ) -> Result<v1::PushReply, ClientError> {
        let began = self.inner.clock.mono();
        let mut failures = Vec::new();
        let (mut best, mut tries) = (0, 0);
        loop {
            let request = v1::StatRequest { digest: digest.into() };
            let stat: v1::StatReply = self
                .call(|channel| {
                    let request = request.clone();
                    async move { ArtifactsClient::new(channel).stat(request).await }
                })
                .await?;
            let offset = stat.size.min(size);
            let at = self.inner.nodes.current();
            let first = v1::PushChunk { digest: digest.into(), size, offset, data: Vec::new() };
            let pieces = pieces(path, first, progress.clone()).await?;
            let mut client = ArtifactsClient::new(self.inner.nodes.channel(at));
            let failure = match tokio::time::timeout(LIMIT, client.push(pieces)).await {
                Ok(Ok(reply)) => return Ok(reply.into_inner()),
                // Another upload of the same package got further meanwhile: ask again where to go on.
                Ok(Err(status)) if status.code() == tonic::Code::OutOfRange => {
                    error::Failure::NotNow(status.message().to_string())
                }
                Ok(Err(status)) => error::judge(status)?,
                Err(_) => error::Failure::Silent,
            };
            failures.push((self.inner.nodes.address(at), failure));
            tries = if offset > best { 0 } else { tries + 1 };
            best = best.max(offset);
            if tries >= TRIES {
                let tried = Duration::from_millis(self.inner.clock.mono().since(began));
                return Err(error::give_up(failures, tried));
            }
            self.inner.nodes.leave(at);
            tokio::time::sleep(Duration::from_millis(100) * tries).await;
        }
    }
}

/// The file's bytes from the first piece's offset on, read as they are sent.
async fn pieces(
    path: &Path,
    first: v1::PushChunk,
    progress: impl Fn(u64) + Send + 'static,
) -> Result<ReceiverStream<v1::PushChunk>, ClientError> {
    let unreadable = |source| ClientError::Package { path: path.display().to_string(), source };
    let mut file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    file.seek(SeekFrom::Start(first.offset)).await.map_err(unreadable)?;
    let (send, receive) = tokio::sync::mpsc::channel(4);
    tokio::spawn(async move {
        let mut sent = first.offset;
        let mut piece = first;
        loop {
            let mut data = vec![0; PIECE];
            // A file that cannot be read any more ends the stream early: the node sees it short and refuses.
            let n = file.read(&mut data).await.unwrap_or(0);
            data.truncate(n);
            piece.data = data;
            let begins = !piece.digest.is_empty();
            if (n == 0 && !begins) || send.send(std::mem::take(&mut piece)).await.is_err() {
                return;
            }
            sent += n as u64;
            progress(sent);
            if n == 0 {
                return;
            }
        }
    });
    Ok(ReceiverStream::new(receive))
}
