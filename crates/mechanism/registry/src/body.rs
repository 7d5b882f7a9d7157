//! What requests carry.

use hyper::body::{Body, Bytes, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// The body of a request.
#[derive(Debug)]
pub(crate) enum Content {
    /// Held in memory; may be empty and can be sent again.
    Whole(Option<Bytes>),
    /// Comes in chunks from another thread, of a length known beforehand.
    Stream {
        /// The chunks.
        chunks: mpsc::Receiver<Bytes>,
        /// How many bytes are still to come.
        left: u64,
        /// Counts what has been handed to the connection, so that a watcher sees a stall.
        sent: Arc<AtomicU64>,
    },
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Content::Whole(Some(bytes).filter(|b| !b.is_empty()))
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Content::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Content::Stream { left: 0, .. } => Poll::Ready(None),
            Content::Stream { chunks, left, sent } => chunks.poll_recv(cx).map(|chunk| {
                let broken = |why| Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, why)));
                let Some(chunk) = chunk else { return broken("the source ended early") };
                match left.checked_sub(chunk.len() as u64) {
                    Some(rest) => *left = rest,
                    None => return broken("the source is longer than announced"),
                }
                sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                Some(Ok(Frame::data(chunk)))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Content::Whole(None) | Content::Stream { left: 0, .. })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Content::Whole(bytes) => bytes.as_ref().map_or(0, |b| b.len() as u64),
            Content::Stream { left, .. } => *left,
        })
    }
}
