//! The cipher of a link: `Noise_XXpsk3_25519_ChaChaPoly_BLAKE2s` (Noise specification, revision 34, sections 7.5 and 9).
//!
//! The pre-shared key is the store key; the prologue binds the transport's name, the store id and the key epoch. Each till
//! proves its own static key, whose hash is its till id. Nonces count up and are never sent.

use std::fmt;
use std::sync::Arc;

use snow::params::DHChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::{Builder, HandshakeState, StatelessTransportState};

use crate::model::id::{StoreId, TillId};
use crate::wire::frame::{Mark, SUBPROTOCOL};
use crate::wire::limits::NOISE_TAG_BYTES;

const PATTERN: &str = "Noise_XXpsk3_25519_ChaChaPoly_BLAKE2s";

/// Where the psk of `psk3` goes.
const PSK_POSITION: u8 = 3;

/// No handshake message of ours is longer: two keys, two tags, no payload.
const HANDSHAKE_BYTES_MAX: usize = 256;

/// The key that all tills of a store share, and its number in the order of rotations.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreKey {
    /// Counts rotations; told in clear by the dialler.
    pub epoch: u32,
    /// The key itself.
    pub secret: [u8; 32],
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreKey").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// A till's static key pair (X25519).
#[derive(Clone)]
pub struct Identity {
    private: [u8; 32],
    public: [u8; 32],
}

impl Identity {
    /// A fresh identity, from the operating system's randomness.
    ///
    /// # Errors
    /// [`NoiseError::Randomness`] where the system has none to give.
    pub fn generate() -> Result<Self, NoiseError> {
        let mut private = [0; 32];
        getrandom::fill(&mut private).map_err(|_| NoiseError::Randomness)?;
        Self::from_private(private)
    }

    /// The identity of a private key.
    ///
    /// # Errors
    /// [`NoiseError::Setup`] where the cipher suite is not compiled in.
    pub fn from_private(private: [u8; 32]) -> Result<Self, NoiseError> {
        let mut dh = DefaultResolver.resolve_dh(&DHChoice::Curve25519).ok_or(NoiseError::Setup)?;
        dh.set(&private);
        let public = dh.pubkey().try_into().map_err(|_| NoiseError::Setup)?;
        Ok(Self { private, public })
    }

    /// The private key, to be kept in a file that only the agent can read.
    #[must_use]
    pub fn private(&self) -> &[u8; 32] {
        &self.private
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The till that this identity makes.
    #[must_use]
    pub fn till(&self) -> TillId {
        TillId::of_public_key(&self.public)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("till", &self.till()).finish_non_exhaustive()
    }
}

/// What went wrong with a cipher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoiseError {
    /// The cipher suite is not compiled in, or its parameters are wrong: a fault of the build.
    #[error("the cipher suite {PATTERN} is not available in this build")]
    Setup,
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness")]
    Randomness,
    /// A message that the peer's key did not seal: another key, or bytes changed on the way.
    #[error("a message that does not decrypt")]
    Decrypt,
    /// More messages than nonces, or a message over the limit.
    #[error("a message that cannot be sealed")]
    Seal,
}

/// Which end of a handshake a till is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Dialler,
    Listener,
}

/// A handshake under way.
pub(super) struct Handshake(Box<HandshakeState>);

impl Handshake {
    pub(super) fn new(role: Role, identity: &Identity, store: StoreId, key: &StoreKey) -> Result<Self, NoiseError> {
        let mut prologue = SUBPROTOCOL.as_bytes().to_vec();
        prologue.extend_from_slice(store.0.as_bytes());
        prologue.extend_from_slice(&key.epoch.to_be_bytes());
        let params = PATTERN.parse().map_err(|_| NoiseError::Setup)?;
        let state = Builder::new(params)
            .prologue(&prologue)
            .and_then(|builder| builder.local_private_key(&identity.private))
            .and_then(|builder| builder.psk(PSK_POSITION, &key.secret))
            .and_then(|builder| match role {
                Role::Dialler => builder.build_initiator(),
                Role::Listener => builder.build_responder(),
            })
            .map_err(|_| NoiseError::Setup)?;
        Ok(Self(Box::new(state)))
    }

    /// The next message to send.
    pub(super) fn write(&mut self) -> Result<Vec<u8>, NoiseError> {
        let mut message = vec![0; HANDSHAKE_BYTES_MAX];
        let length = self.0.write_message(&[], &mut message).map_err(|_| NoiseError::Seal)?;
        message.truncate(length);
        Ok(message)
    }

    /// Takes a message of the peer; payloads are not used, and ignored.
    pub(super) fn read(&mut self, message: &[u8]) -> Result<(), NoiseError> {
        let mut payload = vec![0; message.len()];
        self.0.read_message(message, &mut payload).map_err(|_| NoiseError::Decrypt)?;
        Ok(())
    }

    /// The two directions of the link, and the static public key that was proved at the other end.
    pub(super) fn finish(self) -> Result<(Sealer, Opener, [u8; 32]), NoiseError> {
        let public: [u8; 32] =
            self.0.get_remote_static().and_then(|key| key.try_into().ok()).ok_or(NoiseError::Setup)?;
        let cipher = Arc::new(self.0.into_stateless_transport_mode().map_err(|_| NoiseError::Setup)?);
        Ok((Sealer { cipher: Arc::clone(&cipher), nonce: 0 }, Opener { cipher, nonce: 0 }, public))
    }
}

/// Seals what goes out on a link.
pub(super) struct Sealer {
    cipher: Arc<StatelessTransportState>,
    nonce: u64,
}

impl Sealer {
    /// The frame of a part. Every frame must be sent, in the order of sealing.
    pub(super) fn seal(&mut self, bytes: &[u8], mark: Mark) -> Result<Vec<u8>, NoiseError> {
        let mut plain = Vec::with_capacity(bytes.len() + 1);
        plain.extend_from_slice(bytes);
        plain.push(mark as u8);
        let mut frame = vec![0; plain.len() + NOISE_TAG_BYTES];
        let length = self.cipher.write_message(self.nonce, &plain, &mut frame).map_err(|_| NoiseError::Seal)?;
        frame.truncate(length);
        self.nonce += 1;
        Ok(frame)
    }
}

/// Opens what comes in on a link.
pub(super) struct Opener {
    cipher: Arc<StatelessTransportState>,
    nonce: u64,
}

impl Opener {
    /// The plaintext of the next frame, its mark included.
    pub(super) fn open(&mut self, frame: &[u8]) -> Result<Vec<u8>, NoiseError> {
        let mut plain = vec![0; frame.len().saturating_sub(NOISE_TAG_BYTES)];
        let length = self.cipher.read_message(self.nonce, frame, &mut plain).map_err(|_| NoiseError::Decrypt)?;
        plain.truncate(length);
        self.nonce += 1;
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::limits::PART_BYTES_MAX;
    use uuid::Uuid;

    const STORE: StoreId = StoreId(Uuid::from_bytes([1; 16]));

    fn key(byte: u8) -> StoreKey {
        StoreKey { epoch: 0, secret: [byte; 32] }
    }

    /// Runs a handshake as far as it goes; the error is the listener's or the dialler's first.
    fn shake(
        dialler: (StoreId, &StoreKey),
        listener: (StoreId, &StoreKey),
    ) -> Result<[(Sealer, Opener, [u8; 32]); 2], NoiseError> {
        let (ours, theirs) = (Identity::generate()?, Identity::generate()?);
        let mut a = Handshake::new(Role::Dialler, &ours, dialler.0, dialler.1)?;
        let mut b = Handshake::new(Role::Listener, &theirs, listener.0, listener.1)?;
        b.read(&a.write()?)?;
        a.read(&b.write()?)?;
        b.read(&a.write()?)?;
        let ends = [a.finish()?, b.finish()?];
        assert_eq!((&ends[0].2, &ends[1].2), (theirs.public(), ours.public()));
        Ok(ends)
    }

    #[test]
    fn both_ends_of_one_store_understand_each_other() {
        let [(mut sealer, _, _), (_, mut opener, _)] = shake((STORE, &key(7)), (STORE, &key(7))).unwrap();
        for length in [0, 1, 1000, PART_BYTES_MAX] {
            let bytes = vec![0x5a; length];
            let plain = opener.open(&sealer.seal(&bytes, Mark::More).unwrap()).unwrap();
            assert_eq!(plain.split_last(), Some((&1, bytes.as_slice())));
        }
        assert_eq!(sealer.seal(&vec![0; PART_BYTES_MAX + 1], Mark::Last), Err(NoiseError::Seal));
    }

    #[test]
    fn another_key_store_or_epoch_fails() {
        let other = StoreId(Uuid::nil());
        let later = StoreKey { epoch: 1, ..key(7) };
        for listener in [(STORE, &key(8)), (other, &key(7)), (STORE, &later)] {
            assert_eq!(shake((STORE, &key(7)), listener).err(), Some(NoiseError::Decrypt));
        }
    }

    #[test]
    fn a_frame_is_opened_once_and_in_order() {
        let [(mut sealer, _, _), (_, mut opener, _)] = shake((STORE, &key(7)), (STORE, &key(7))).unwrap();
        let frames: Vec<_> = (0..3u8).map(|i| sealer.seal(&[i], Mark::Last).unwrap()).collect();
        assert!(opener.open(&frames[0]).is_ok());
        assert_eq!(opener.open(&frames[0]), Err(NoiseError::Decrypt));
        assert_eq!(opener.open(&frames[2]), Err(NoiseError::Decrypt));
        assert_eq!(opener.open(&[]), Err(NoiseError::Decrypt));
        assert!(opener.open(&frames[1]).is_ok());
    }

    #[test]
    fn secrets_are_not_printed() {
        let identity = Identity::from_private([0x42; 32]).unwrap();
        let text = format!("{identity:?} {:?}", key(0x42));
        assert!(!text.contains("66") && !text.contains("42, 42"), "{text}");
        assert_eq!(Identity::from_private(*identity.private()).unwrap().public(), identity.public());
    }
}
