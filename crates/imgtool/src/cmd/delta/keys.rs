//! Keys of minisign: to sign a patch, and to trust one.

use crate::args::{Signer, Trust};
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use delta::{PublicKey, SecretKey, prove};
use disk::FileDev;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

/// Bytes of a key file or password, at most.
const MOST: u64 = 16 << 10;

fn text_of(path: &Path) -> Result<String, Failure> {
    let file = File::open(path).map_err(|error| Failure::io(path, &error))?;
    let mut text = String::new();
    file.take(MOST).read_to_string(&mut text).map_err(|error| Failure::io(path, &error))?;
    Ok(text)
}

/// The key to sign with, if there is to be a signature; its password is read or asked for.
pub(super) fn secret(signer: &Signer) -> Result<Option<SecretKey>, Failure> {
    let Some(path) = &signer.sign else { return Ok(None) };
    let text = text_of(path)?;
    let password = match &signer.password_file {
        _ if !SecretKey::is_locked(&text) => None,
        Some(file) => Some(text_of(file)?.lines().next().unwrap_or_default().to_owned()),
        None => Some(typed(path)?),
    };
    SecretKey::parse(&text, password).map(Some).of(path)
}

/// The password of a key, which somebody types.
fn typed(key: &Path) -> Result<String, Failure> {
    let asked = if io::stdin().is_terminal() {
        rpassword::prompt_password(format!("password of {}: ", show(key)))
    } else {
        Err(io::Error::other("nobody is there to type it"))
    };
    asked.map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => {
            Failure::new(Exit::Interrupted, "interrupted", format!("{}: {error}", show(key)))
        }
        _ => {
            Failure::new(Exit::Refused, "refused", format!("{}: the key has a password: {error}", show(key)))
                .with_help("give it with --password-file")
        }
    })
}

/// What a signature says beside the patch.
pub(super) fn comment(session: &Session) -> String {
    format!("timestamp:{}", session.cx().now)
}

/// The key that must have signed a patch, if one must.
pub(super) fn trusted(trust: &Trust) -> Result<Option<PublicKey>, Failure> {
    let Some(key) = trust.pubkey.as_ref().filter(|_| trust.require_signature) else { return Ok(None) };
    let path = Path::new(key);
    let text = if path.exists() { text_of(path)? } else { key.clone() };
    PublicKey::parse(&text).map(Some).map_err(|error| Failure::usage(format!("--pubkey: {error}")))
}

/// Refuses a patch that the key has not signed, before anything else of it is looked at.
pub(super) fn require(key: Option<&PublicKey>, patch: &FileDev, name: &Path) -> Result<(), Failure> {
    key.map_or(Ok(()), |key| prove(patch, key).of(name))
}
