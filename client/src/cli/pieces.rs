//! What is too long for a TPM to seal: encrypted with AES-256-GCM (NIST SP 800-38D) in pieces, under a key that is sealed. The pieces are numbered and the
//! last one is marked (STREAM, Hoang, Reyhanitabar, Rogaway and Vizár, 2015), so that none can be left out, doubled, moved or cut off, and a file of
//! any length takes constant memory.
//!
//! Such a file is the sealed key as any other (TSS2 PEM), the line [`MARK`], a nonce of 7 bytes, then pieces of [`PIECE`] bytes with a tag of 16 bytes each.

use std::io::{self, Read, Write};

use aead_stream::{DecryptorBE32, EncryptorBE32, aead::KeyInit as _};
use aes_gcm::Aes256Gcm;
use zeroize::Zeroizing;

/// What parts the sealed key from what is encrypted with it.
pub(super) const MARK: &[u8] = b"-----EKM-OTP ENVELOPE 1: AES-256-GCM-STREAM-BE32, 64 KiB-----\n";
/// How many bytes of plaintext stand in one piece, but for the last.
pub(super) const PIECE: usize = 64 * 1024;
const TAG: usize = 16;
const NONCE: usize = 7;
/// What is sealed is told apart from a secret of the same length.
const LABEL: &[u8; 16] = b"ekm-otp envelope";
const KEY: usize = 32;

/// The key of an envelope, as it is sealed.
pub(super) struct EnvelopeKey(Zeroizing<[u8; KEY]>);

impl EnvelopeKey {
    pub(super) fn random() -> io::Result<Self> {
        let mut key = Zeroizing::new([0; KEY]);
        getrandom::fill(&mut *key).map_err(|e| io::Error::other(format!("the operating system gives no randomness: {e}")))?;
        Ok(Self(key))
    }

    pub(super) fn to_sealed(&self) -> Zeroizing<Vec<u8>> {
        let mut sealed = Zeroizing::new(Vec::with_capacity(LABEL.len() + KEY));
        sealed.extend_from_slice(LABEL);
        sealed.extend_from_slice(&*self.0);
        sealed
    }

    /// `None` for what is no key of an envelope but a secret.
    pub(super) fn from_sealed(sealed: &[u8]) -> Option<Self> {
        let key = sealed.strip_prefix(LABEL)?;
        let mut own = Zeroizing::new([0; KEY]);
        (key.len() == KEY).then(|| {
            own.copy_from_slice(key);
            Self(own)
        })
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new((&*self.0).into())
    }
}

/// Reads until `piece` is full or the input ends.
fn fill(input: &mut impl Read, piece: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < piece.len() {
        match input.read(&mut piece[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(len)
}

/// Encrypts `input` to its end. `told` hears how many bytes of it are done.
pub(super) fn encrypt(key: &EnvelopeKey, input: &mut impl Read, output: &mut impl Write, told: impl Fn(u64)) -> io::Result<()> {
    let mut nonce = [0; NONCE];
    getrandom::fill(&mut nonce).map_err(|e| io::Error::other(format!("the operating system gives no randomness: {e}")))?;
    output.write_all(&nonce)?;
    let mut stream = EncryptorBE32::from_aead(key.cipher(), &nonce.into());
    let too_long = |_| io::Error::other("it is longer than 256 TiB");
    // One piece ahead: which one is the last is known when nothing follows it.
    let (mut piece, mut next) = (Zeroizing::new(vec![0; PIECE]), Zeroizing::new(vec![0; PIECE]));
    let (mut len, mut done) = (fill(input, &mut piece)?, 0);
    loop {
        let following = if len < PIECE { 0 } else { fill(input, &mut next)? };
        done += len as u64;
        if following == 0 {
            output.write_all(&stream.encrypt_last(&piece[..len]).map_err(too_long)?)?;
            told(done);
            return Ok(());
        }
        output.write_all(&stream.encrypt_next(&piece[..len]).map_err(too_long)?)?;
        told(done);
        std::mem::swap(&mut piece, &mut next);
        len = following;
    }
}

/// What is decrypted, piece by piece, each of which is authentic.
pub(super) struct Decryption<R> {
    input: R,
    /// `None` once the last piece was given.
    stream: Option<DecryptorBE32<Aes256Gcm>>,
    ahead: Vec<u8>,
}

impl<R: Read> Decryption<R> {
    pub(super) fn new(key: &EnvelopeKey, mut input: R) -> io::Result<Self> {
        let mut nonce = [0; NONCE];
        input.read_exact(&mut nonce).map_err(|_| damaged())?;
        let stream = Some(DecryptorBE32::from_aead(key.cipher(), &nonce.into()));
        let mut ahead = vec![0; PIECE + TAG];
        let len = fill(&mut input, &mut ahead)?;
        ahead.truncate(len);
        Ok(Self { input, stream, ahead })
    }

    /// The next piece; `None` behind the last one.
    pub(super) fn next(&mut self) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let Some(mut stream) = self.stream.take() else { return Ok(None) };
        let mut following = vec![0; PIECE + TAG];
        let len = if self.ahead.len() < PIECE + TAG { 0 } else { fill(&mut self.input, &mut following)? };
        following.truncate(len);
        let piece = std::mem::replace(&mut self.ahead, following);
        let plaintext = if len == 0 {
            stream.decrypt_last(&piece[..])
        } else {
            let plaintext = stream.decrypt_next(&piece[..]);
            self.stream = Some(stream);
            plaintext
        };
        plaintext.map(|plaintext| Some(Zeroizing::new(plaintext))).map_err(|_| damaged())
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what is encrypted is damaged, cut off, or of another file")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(plaintext: &[u8]) -> (EnvelopeKey, Vec<u8>) {
        let (key, mut output) = (EnvelopeKey::random().expect("randomness"), Vec::new());
        encrypt(&key, &mut &*plaintext, &mut output, |_| ()).expect("encrypted");
        (key, output)
    }

    fn opened(key: &EnvelopeKey, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let (mut decryption, mut plaintext) = (Decryption::new(key, bytes)?, Vec::new());
        while let Some(piece) = decryption.next()? {
            plaintext.extend_from_slice(&piece);
        }
        Ok(plaintext)
    }

    #[test]
    fn any_length_comes_back_and_every_cut_swap_and_changed_bit_is_refused() {
        for len in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 7] {
            let plaintext: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).expect("small")).collect();
            let (key, bytes) = sealed(&plaintext);
            assert_eq!(opened(&key, &bytes).expect("it is whole"), plaintext, "{len}");
            for cut in [0, NONCE, NONCE + TAG, bytes.len() - 1, bytes.len().saturating_sub(TAG), bytes.len().saturating_sub(PIECE + TAG)] {
                assert!(cut >= bytes.len() || opened(&key, &bytes[..cut]).is_err(), "{len} cut to {cut}");
            }
            assert!(opened(&key, &[&bytes[..], &[0]].concat()).is_err(), "{len} and a byte");
            for at in [0, NONCE, bytes.len() / 2, bytes.len() - 1] {
                let mut changed = bytes.clone();
                changed[at] ^= 1;
                assert!(opened(&key, &changed).is_err(), "{len} changed at {at}");
            }
        }
        let (key, bytes) = sealed(&vec![7; 3 * PIECE]);
        let piece = PIECE + TAG;
        let (first, second) = (NONCE..NONCE + piece, NONCE + piece..NONCE + 2 * piece);
        let swapped = [&bytes[..NONCE], &bytes[second.clone()], &bytes[first.clone()], &bytes[second.end..]].concat();
        let doubled = [&bytes[..first.end], &bytes[first.start..]].concat();
        let left_out = [&bytes[..NONCE], &bytes[second.start..]].concat();
        for wrong in [swapped, doubled, left_out] {
            assert!(opened(&key, &wrong).is_err());
        }
        assert!(opened(&EnvelopeKey::random().expect("randomness"), &bytes).is_err(), "another key");
    }

    #[test]
    fn a_sealed_key_is_told_from_a_secret() {
        let key = EnvelopeKey::random().expect("randomness");
        assert_eq!(*EnvelopeKey::from_sealed(&key.to_sealed()).expect("a key").0, *key.0);
        for secret in [&b""[..], b"secret", &[0; 48], &key.to_sealed()[1..], &[&key.to_sealed()[..], &[0]].concat()] {
            assert!(EnvelopeKey::from_sealed(secret).is_none());
        }
    }
}
