//! A stream that remembers how an answer began: enough to tell TLS from anything else.
//!
//! Invariant: it changes nothing of what passes through. Not here: what follows from the first bytes (`ask`).

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// TLS records that a server begins with when it is spoken to in the clear: alert, handshake.
const RECORDS: [u8; 2] = [0x15, 0x16];

/// How the answer began: the number of bytes kept in the top byte, then up to three bytes.
#[derive(Debug, Clone, Default)]
pub struct FirstBytes(Arc<AtomicU32>);

impl FirstBytes {
    fn take(&self, bytes: &[u8]) {
        let [mut kept, mut first @ ..] = self.0.load(Ordering::Relaxed).to_be_bytes();
        for b in bytes {
            let Some(place) = first.get_mut(usize::from(kept)) else { break };
            *place = *b;
            kept += 1;
        }
        let [a, b, c] = first;
        self.0.store(u32::from_be_bytes([kept, a, b, c]), Ordering::Relaxed);
    }

    /// Whether a byte came at all.
    pub fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Whether it began as TLS does: a record of version 3.
    pub fn looks_like_tls(&self) -> bool {
        let [kept, kind, version, _] = self.0.load(Ordering::Relaxed).to_be_bytes();
        kept >= 2 && RECORDS.contains(&kind) && version == 3
    }
}

/// The stream.
#[derive(Debug)]
pub struct First<S> {
    inner: S,
    seen: FirstBytes,
}

impl<S> First<S> {
    /// Wraps a stream; the other half tells what came.
    pub fn new(inner: S) -> (Self, FirstBytes) {
        let seen = FirstBytes::default();
        (Self { inner, seen: seen.clone() }, seen)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for First<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Some(new) = buf.filled().get(before..)
            && !new.is_empty()
        {
            self.seen.take(new);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for First<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
