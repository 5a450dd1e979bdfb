//! `--compressed`: content codings (RFC 9110 §8.4.1) are asked for and taken off, piece by piece.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use bytes::{Buf as _, Bytes};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt as _, BufReader, ReadBuf};

use crate::cli::CliError;

/// What is asked for.
pub(super) const ACCEPTED: &str = "deflate, gzip, br, zstd";
/// How much is taken at once of what comes out.
const CHUNK: usize = 16 * 1024;
/// Who puts one coding on another more often than this means no good.
const MOST: usize = 5;

/// Gives the next piece of a body, `None` at its end.
pub(super) trait Pieces: Send + Unpin {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>>;
}

/// A body's pieces as bytes to be read.
struct Reader<P> {
    pieces: P,
    piece: Bytes,
}

impl<P: Pieces> AsyncRead for Reader<P> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let there = ready!(self.as_mut().poll_fill_buf(context))?;
        let length = there.len().min(into.remaining());
        into.put_slice(&there[..length]);
        self.consume(length);
        Poll::Ready(Ok(()))
    }
}

impl<P: Pieces> AsyncBufRead for Reader<P> {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        while this.piece.is_empty() {
            match ready!(this.pieces.poll_piece(context))? {
                Some(piece) => this.piece = piece,
                None => break,
            }
        }
        Poll::Ready(Ok(&this.piece))
    }

    fn consume(mut self: Pin<&mut Self>, length: usize) {
        self.piece.advance(length);
    }
}

type Layer = Box<dyn AsyncBufRead + Send + Unpin>;

/// A body without its codings.
pub(super) struct Decoded(Layer);

/// `None` where there is nothing to take off.
pub(super) fn decoded<P: Pieces + 'static>(fields: &HeaderMap, pieces: P) -> Result<Result<Decoded, P>, CliError> {
    let codings = codings(fields)?;
    if codings.is_empty() {
        return Ok(Err(pieces));
    }
    let mut layer: Layer = Box::new(Reader { pieces, piece: Bytes::new() });
    // The last that was put on is taken off first.
    for coding in codings.iter().rev() {
        layer = match coding {
            Coding::Gzip => {
                let mut decoder = GzipDecoder::new(layer);
                decoder.multiple_members(true);
                Box::new(BufReader::new(decoder))
            }
            Coding::Deflate => {
                Box::new(BufReader::new(Whole { decoder: ZlibDecoder::new(layer), inner: |decoder| decoder.get_mut(), has_ended: false }))
            }
            Coding::Brotli => {
                Box::new(BufReader::new(Whole { decoder: BrotliDecoder::new(layer), inner: |decoder| decoder.get_mut(), has_ended: false }))
            }
            Coding::Zstd => {
                let mut decoder = ZstdDecoder::new(layer);
                decoder.multiple_members(true);
                Box::new(BufReader::new(decoder))
            }
        };
    }
    Ok(Ok(Decoded(layer)))
}

impl Decoded {
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut piece = vec![0; CHUNK];
        let length = self.0.read(&mut piece).await?;
        piece.truncate(length);
        Ok((length > 0).then(|| piece.into()))
    }
}

/// A coding that has an end of its own: what stands behind that would be dropped in silence.
struct Whole<D> {
    decoder: D,
    inner: fn(&mut D) -> &mut Layer,
    has_ended: bool,
}

impl<D: AsyncRead + Unpin> AsyncRead for Whole<D> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.has_ended {
            let before = into.filled().len();
            ready!(Pin::new(&mut this.decoder).poll_read(context, into))?;
            this.has_ended = into.filled().len() == before && into.remaining() > 0;
        }
        if this.has_ended && !ready!(Pin::new((this.inner)(&mut this.decoder)).poll_fill_buf(context))?.is_empty() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "there is more behind the end of the compressed content")));
        }
        Poll::Ready(Ok(()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

fn codings(fields: &HeaderMap) -> Result<Vec<Coding>, CliError> {
    let mut codings = Vec::new();
    for field in fields.get_all(CONTENT_ENCODING) {
        for name in field.as_bytes().split(|byte| *byte == b',') {
            let name = String::from_utf8_lossy(name).trim().to_ascii_lowercase();
            codings.push(match name.as_str() {
                "" | "identity" => continue,
                "gzip" | "x-gzip" => Coding::Gzip,
                "deflate" => Coding::Deflate,
                "br" => Coding::Brotli,
                "zstd" => Coding::Zstd,
                other => {
                    return Err(CliError::Other(format!(
                        "the answer has a content coding that is not known here: {other:?}. Leave --compressed out to get the body as it comes"
                    )));
                }
            });
        }
    }
    if codings.len() > MOST {
        return Err(CliError::Other(format!(
            "the answer has {} content codings, one on the other, and {MOST} are taken off at most",
            codings.len()
        )));
    }
    Ok(codings)
}

/// For tests and for a body whose pieces are known.
#[cfg(test)]
mod tests {
    use async_compression::tokio::write::{BrotliEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
    use http::HeaderValue;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    struct Known(Vec<Bytes>);

    impl Pieces for Known {
        fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
            Poll::Ready(Ok((!self.0.is_empty()).then(|| self.0.remove(0))))
        }
    }

    async fn encoded(coding: &str, bytes: &[u8]) -> Vec<u8> {
        macro_rules! by {
            ($encoder:ident) => {{
                let mut encoder = $encoder::new(Vec::new());
                encoder.write_all(bytes).await.expect("written");
                encoder.shutdown().await.expect("ended");
                encoder.into_inner()
            }};
        }
        match coding {
            "gzip" => by!(GzipEncoder),
            "deflate" => by!(ZlibEncoder),
            "br" => by!(BrotliEncoder),
            _ => by!(ZstdEncoder),
        }
    }

    /// In pieces of one byte: each boundary is met.
    async fn read(coding: &str, body: &[u8]) -> io::Result<Vec<u8>> {
        let fields = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_str(coding).expect("a value"))]);
        let pieces = Known(body.iter().map(|byte| Bytes::copy_from_slice(&[*byte])).collect());
        let Ok(mut decoded) = decoded(&fields, pieces).expect("known codings") else { panic!("a coding") };
        let mut whole = Vec::new();
        while let Some(piece) = decoded.next().await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }

    #[tokio::test]
    async fn every_coding_is_taken_off_and_a_cut_or_a_tail_is_an_error() {
        let text = b"some text, some text, some text".repeat(40);
        for coding in ["gzip", "deflate", "br", "zstd"] {
            let body = encoded(coding, &text).await;
            assert_eq!(read(coding, &body).await.expect("decoded"), text, "{coding}");
            assert!(read(coding, &body[..body.len() - 1]).await.is_err(), "{coding}, cut");
            assert!(read(coding, &[&body[..], b"tail"].concat()).await.is_err(), "{coding}, with a tail");
        }
        let twice = encoded("br", &encoded("gzip", &text).await).await;
        assert_eq!(read("gzip, br", &twice).await.expect("decoded"), text);
    }

    #[test]
    fn an_unknown_coding_is_no_text() {
        let fields = |value| HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(value))]);
        assert!(codings(&fields("gzip, compress")).is_err());
        assert!(codings(&fields("gzip,gzip,gzip,gzip,gzip,gzip")).is_err());
        assert_eq!(codings(&fields("identity, x-gzip")).expect("known"), [Coding::Gzip]);
    }
}
