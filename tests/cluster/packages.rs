//! Packages at a real node's door: what is wrong with an upload is said, what came of a broken one is kept, and what is
//! held is given out.

use sha2::{Digest as _, Sha256};
use slipway::{
    model::MAX_PACKAGE,
    wire::v1::{self, artifacts_client::ArtifactsClient},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};

use crate::support::{TestCluster, eventually};

const CHUNK: usize = 256 << 10;

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// The first chunk of an upload.
fn first(digest: &str, size: u64, offset: u64, data: &[u8]) -> v1::PushChunk {
    v1::PushChunk { digest: digest.into(), size, offset, data: data.into() }
}

fn more(data: &[u8]) -> v1::PushChunk {
    v1::PushChunk { data: data.into(), ..v1::PushChunk::default() }
}

async fn push(client: &mut ArtifactsClient<Channel>, chunks: Vec<v1::PushChunk>) -> Result<v1::PushReply, Status> {
    client.push(tokio_stream::iter(chunks)).await.map(tonic::Response::into_inner)
}

async fn stat(client: &mut ArtifactsClient<Channel>, digest: &str) -> (bool, u64) {
    let reply = client.stat(v1::StatRequest { digest: digest.into() }).await.unwrap().into_inner();
    (reply.complete, reply.size)
}

async fn fetch(client: &mut ArtifactsClient<Channel>, digest: &str, offset: u64) -> Result<Vec<u8>, Status> {
    let mut stream = client.fetch(v1::FetchRequest { digest: digest.into(), offset }).await?.into_inner();
    let mut all = Vec::new();
    while let Some(chunk) = stream.message().await? {
        all.extend(chunk.data);
    }
    Ok(all)
}

#[tokio::test]
async fn an_upload_is_refused_by_what_is_wrong_with_it() {
    let cluster = TestCluster::form(1).await;
    let mut client = ArtifactsClient::new(cluster.nodes[0].channel().await.unwrap());
    let bytes = vec![7; 1000];
    let d = digest(&bytes);
    let size = bytes.len() as u64;
    let cases = [
        (vec![], Code::InvalidArgument, "the upload has no first chunk"),
        (vec![first("../../etc/passwd", size, 0, &bytes)], Code::InvalidArgument, "digest"),
        (vec![first(&d.to_uppercase(), size, 0, &bytes)], Code::InvalidArgument, "digest"),
        (vec![more(&bytes)], Code::InvalidArgument, "digest"),
        (vec![first(&d, 0, 0, &[])], Code::ResourceExhausted, "this one 0"),
        (vec![first(&d, MAX_PACKAGE + 1, 0, &bytes)], Code::ResourceExhausted, "a package has 1 to "),
        (vec![first(&d, size, 5, &bytes)], Code::OutOfRange, "the upload goes on at 0, not at 5: ask Stat"),
        (vec![first(&d, size, 0, &[7; CHUNK + 1])], Code::InvalidArgument, "a chunk has 262144 bytes at most"),
        (vec![first(&d, size, 0, &bytes), more(&[7])], Code::ResourceExhausted, "is larger than 1000 bytes"),
        (vec![first(&d, size, 0, &[8; 1000])], Code::InvalidArgument, "send it again from the start"),
    ];
    for (chunks, code, told) in cases {
        let refused = push(&mut client, chunks).await.unwrap_err();
        assert!(refused.code() == code && refused.message().contains(told), "{told}: {refused}");
        assert_eq!(stat(&mut client, &d).await, (false, 0), "nothing is kept of it: {told}");
    }
    let refused = fetch(&mut client, &d, 0).await.unwrap_err();
    assert!(refused.code() == Code::NotFound && refused.message().contains("ask another"), "{refused}");

    // Cut short: what came is kept, and only what follows it is taken.
    let refused = push(&mut client, vec![first(&d, size, 0, &bytes[..400])]).await.unwrap_err();
    assert!(refused.message().contains("ended at 400 of 1000 bytes; resume at 400"), "{refused}");
    assert_eq!(stat(&mut client, &d).await, (false, 400));
    let refused = push(&mut client, vec![first(&d, size, 0, &bytes)]).await.unwrap_err();
    assert!(refused.message().contains("goes on at 400, not at 0"), "{refused}");
    let done = push(&mut client, vec![first(&d, size, 400, &bytes[400..700]), more(&bytes[700..])]).await.unwrap();
    assert_eq!(done, v1::PushReply { size, holders: 1, nodes: 1 });
    assert_eq!(stat(&mut client, &d).await, (true, size));
    // What is held is not asked for twice, and goes out from any offset in it.
    assert_eq!(push(&mut client, vec![first(&d, size, 0, &[])]).await.unwrap(), done);
    for offset in [0, 1, 999, 1000] {
        let out = fetch(&mut client, &d, offset).await.unwrap();
        assert_eq!(out, bytes[usize::try_from(offset).unwrap()..]);
    }
    let refused = fetch(&mut client, &d, 1001).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
}

#[tokio::test]
async fn one_upload_of_a_package_at_a_time_and_one_that_breaks_off_lets_go_of_it() {
    let cluster = TestCluster::form(1).await;
    let mut client = ArtifactsClient::new(cluster.nodes[0].channel().await.unwrap());
    let bytes = vec![9; 600];
    let d = digest(&bytes);
    let (send, receive) = mpsc::channel(1);
    let mut other = ArtifactsClient::new(cluster.nodes[0].channel().await.unwrap());
    let silent = tokio::spawn(async move { other.push(ReceiverStream::new(receive)).await });
    send.send(first(&d, 600, 0, &bytes[..300])).await.unwrap();
    eventually("the first upload has begun", || async {
        let (_, size) = stat(&mut client.clone(), &d).await;
        if size == 300 { Ok(()) } else { Err(format!("{size} bytes")) }
    })
    .await;
    let refused = push(&mut client, vec![first(&d, 600, 300, &bytes[300..])]).await.unwrap_err();
    assert!(refused.code() == Code::Unavailable && refused.message().contains("another upload"), "{refused}");
    // Its client is gone in the middle.
    silent.abort();
    let done = eventually("the package is free again", || async {
        push(&mut client.clone(), vec![first(&d, 600, 300, &bytes[300..])]).await.map_err(|e| e.to_string())
    })
    .await;
    assert_eq!(done.holders, 1);
    assert_eq!(fetch(&mut client, &d, 0).await.unwrap(), bytes);
    drop(send);
}
