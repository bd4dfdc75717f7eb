//! Signatures of patches, by the keys of minisign.
//!
//! ```text
//! … trailer · end · text · seal        the text is what minisign writes; it signs the 48 bytes of the end
//! ```
//!
//! The end has the digest of header, bases and trailer, the trailer those of all records: who has signed the end has signed
//! the patch. It is verified before anything else of the patch is looked at.

use super::layout::{self, SEAL_MAGIC};
use crate::error::{Error, Result};
use ct_codecs::{Base64, Decoder};
use disk::{ReadAt, read_record};
use minisign::{SecretKeyBox, SignatureBox};
use ondisk::num::to_u64;
use ondisk::{Len, Offset, Span};
use std::fmt;
use std::io::{self, Cursor, Write};
use std::mem::size_of;
use zerocopy::IntoBytes;

/// Bytes of the text of a signature, at most.
const TEXT: u64 = 16 << 10;
/// Bytes of an end record, which is what is signed.
const END: usize = size_of::<layout::End>();
/// How the second line of a secret key begins that has a password: Ed25519, scrypt.
const LOCKED: &str = "RWRTY";
/// How one begins that has none: Ed25519, no derivation, BLAKE2b; and its bytes in all.
const PLAIN: &[u8] = b"Ed\0\0B2";
const KEY: usize = 158;

/// A public key of minisign.
#[derive(Debug)]
pub struct PublicKey(minisign_verify::PublicKey);

impl PublicKey {
    /// Takes the text of a public key file, or its second line alone.
    ///
    /// # Errors
    /// Where it is none.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let key = if text.contains('\n') {
            minisign_verify::PublicKey::decode(text)
        } else {
            minisign_verify::PublicKey::from_base64(text)
        };
        key.map(Self).map_err(|error| Error::Key { what: "public", why: error.to_string() })
    }
}

/// A secret key of minisign, unlocked.
pub struct SecretKey(minisign::SecretKey);

impl SecretKey {
    /// Whether the text of a secret key file has a key with a password.
    #[must_use]
    pub fn is_locked(text: &str) -> bool {
        text.lines().nth(1).is_some_and(|line| line.starts_with(LOCKED))
    }

    /// Takes the text of a secret key file, and its password where it has one. What the password is worth depends on how
    /// much work it takes to try one: as much memory as the key says, up to 1 GiB, is needed for a moment.
    ///
    /// # Errors
    /// Where it is no such key, or the password is wrong.
    pub fn parse(text: &str, password: Option<String>) -> Result<Self> {
        let key = SecretKeyBox::from(text.to_owned());
        let key = match password {
            Some(password) => key.into_secret_key(Some(password)),
            None => key.into_unencrypted_secret_key().or_else(|error| unsummed(text).ok_or(error)),
        };
        key.map(Self).map_err(bad_key)
    }
}

fn bad_key(error: minisign::PError) -> Error {
    Error::Key { what: "secret", why: error.to_string() }
}

/// A key without a password, to which minisign gives no checksum. Its halves are compared when it signs.
fn unsummed(text: &str) -> Option<minisign::SecretKey> {
    let bytes = Base64::decode_to_vec(text.lines().nth(1)?, None).ok()?;
    let plain = bytes.len() == KEY && bytes.starts_with(PLAIN) && bytes.ends_with(&[0; 32]);
    plain.then(|| minisign::SecretKey::from_bytes(&bytes).ok()).flatten()
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

/// A signature, as it stands in a patch. Who it is from is what it says: nothing is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The key, as minisign shows it.
    pub key: String,
    /// What the signer says, by which the signature goes as well.
    pub comment: String,
    text: String,
}

impl Signature {
    fn parse(text: String) -> Option<Self> {
        let known = minisign_verify::Signature::decode(&text).ok()?;
        let number = SignatureBox::from_string(&text).ok()?.keynum().try_into().ok()?;
        let key = format!("{:016X}", u64::from_le_bytes(number));
        Some(Self { key, comment: known.trusted_comment().to_owned(), text })
    }

    /// Whether `key` has signed `end`.
    fn proves(&self, end: &[u8], key: &PublicKey) -> Result<()> {
        let bad = |error: minisign_verify::Error| Error::Signature { why: error.to_string() };
        let known = minisign_verify::Signature::decode(&self.text).map_err(bad)?;
        key.0.verify(end, &known, false).map_err(bad)
    }
}

/// The signature of the patch in `file`, and how long the patch is without it. Nothing is verified.
pub fn find<D: ReadAt>(file: &D) -> Result<(Option<Signature>, Len)> {
    let seal_len = Len::new(to_u64(size_of::<layout::Seal>()));
    let Some(before) = file.len().checked_sub(seal_len) else { return Ok((None, file.len())) };
    let seal: layout::Seal = read_record(file, before.end())?;
    if seal.magic != SEAL_MAGIC {
        return Ok((None, file.len()));
    }
    let damaged = |why: &str| Error::damaged("the signature", before.end(), why);
    let len = Len::new(seal.len.get());
    let rest = before.checked_sub(len).filter(|_| len.get() <= TEXT);
    let rest = rest.ok_or_else(|| damaged("is too long"))?;
    let mut text = vec![0; len.to_usize()];
    file.read_at(rest.end(), &mut text)?;
    if blake3::hash(&text).as_bytes() != &seal.digest {
        return Err(damaged("does not have its digest"));
    }
    let signature = String::from_utf8(text).ok().and_then(Signature::parse);
    Ok((Some(signature.ok_or_else(|| damaged("is not one of minisign"))?), rest))
}

/// Verifies that the patch in `file` is signed by `key`. Nothing but the signature and the end is looked at.
pub fn prove<D: ReadAt>(file: &D, key: &PublicKey) -> Result<()> {
    let (signature, len) = find(file)?;
    let signature = signature.ok_or(Error::Signature { why: "there is none".to_owned() })?;
    let mut end = [0; END];
    let at = len.checked_sub(Len::of(&end)).ok_or(Error::NoPatch { why: "it is too short" })?;
    file.read_at(at.end(), &mut end)?;
    signature.proves(&end, key)
}

/// Passes a patch on, and signs it at the end.
pub struct Signing<'a> {
    out: &'a mut (dyn Write + Send),
    /// What was passed on last.
    end: Vec<u8>,
    len: u64,
}

impl<'a> Signing<'a> {
    /// Nothing has been passed on yet.
    pub fn new(out: &'a mut (dyn Write + Send)) -> Self {
        Self { out, end: Vec::new(), len: 0 }
    }

    /// Signs what was passed on, which is a whole patch. The bytes of it all.
    ///
    /// # Errors
    /// Where it cannot be signed or written.
    pub fn finish(mut self, key: &SecretKey, comment: &str) -> Result<Len> {
        let public = minisign::PublicKey::from_secret_key(&key.0).map_err(bad_key)?;
        let end = Cursor::new(&self.end);
        let signed = minisign::sign(Some(&public), &key.0, end, Some(comment), Some("of a patch"));
        let text = signed.map_err(bad_key)?.into_string();
        let digest = *blake3::hash(text.as_bytes()).as_bytes();
        let seal = layout::Seal { len: to_u64(text.len()).into(), digest, magic: SEAL_MAGIC };
        let at = Span::new(Offset::new(self.len), Len::ZERO).unwrap_or_default();
        let written = self.write_all(text.as_bytes()).and_then(|()| self.write_all(seal.as_bytes()));
        let failed = |source| disk::Error::Io { op: "write of the signature", span: at, source };
        written.and_then(|()| self.out.flush()).map_err(failed)?;
        Ok(Len::new(self.len))
    }
}

impl Write for Signing<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let taken = self.out.write(buf)?;
        let new = buf.get(..taken).unwrap_or_default();
        self.end.extend(new.get(new.len().saturating_sub(END)..).unwrap_or_default());
        self.end.drain(..self.end.len().saturating_sub(END));
        self.len = self.len.saturating_add(to_u64(taken));
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
