//! A certificate and its key from PEM files, for listeners that stay open while the files are renewed: MQTT and pages alike.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::SystemTime,
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig, crypto,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
};

use crate::HeadendError;

/// What tells that a file was written again: its time and its length.
type Stamp = Option<(SystemTime, u64)>;

/// A certificate chain and its key, as the files hold them.
pub struct Certificates {
    chain: PathBuf,
    key: PathBuf,
    in_force: RwLock<Arc<CertifiedKey>>,
    stamps: Mutex<[Stamp; 2]>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("chain", &self.chain).field("key", &self.key).finish_non_exhaustive()
    }
}

impl Certificates {
    /// Reads a PEM file with the certificate and the chain behind it, and one with the private key.
    ///
    /// # Errors
    /// When a file cannot be read, or the key does not belong to the certificate.
    pub fn load(chain: &Path, key: &Path) -> Result<Arc<Self>, HeadendError> {
        let stamps = [stamp(chain), stamp(key)];
        let in_force = RwLock::new(Arc::new(read(chain, key)?));
        Ok(Arc::new(Self { chain: chain.into(), key: key.into(), in_force, stamps: Mutex::new(stamps) }))
    }

    /// Whether a file was written since it was last read.
    pub fn have_changed(&self) -> bool {
        *self.stamps.lock().unwrap_or_else(PoisonError::into_inner) != [stamp(&self.chain), stamp(&self.key)]
    }

    /// Reads the files again; handshakes from now on use what they hold. Open connections go on.
    ///
    /// # Errors
    /// As [`Certificates::load`]; then what was in force stays so.
    pub fn reload(&self) -> Result<(), HeadendError> {
        // Before the reading: a file that is written meanwhile is found changed the next time.
        *self.stamps.lock().unwrap_or_else(PoisonError::into_inner) = [stamp(&self.chain), stamp(&self.key)];
        let read = Arc::new(read(&self.chain, &self.key)?);
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    /// The certificate file, for messages.
    pub fn path(&self) -> &Path {
        &self.chain
    }

    /// What a listener needs; `protocols` are offered by ALPN, none when empty.
    ///
    /// # Errors
    /// When the cryptography offers no protocol version.
    pub fn acceptor(self: &Arc<Self>, protocols: &[&[u8]]) -> Result<TlsAcceptor, HeadendError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| HeadendError::Tls { path: self.chain.clone(), reason: error.to_string() })?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn stamp(path: &Path) -> Stamp {
    let about = std::fs::metadata(path).ok()?;
    Some((about.modified().ok()?, about.len()))
}

fn read(chain: &Path, key: &Path) -> Result<CertifiedKey, HeadendError> {
    let refused = |path: &Path, reason: String| HeadendError::Tls { path: path.to_owned(), reason };
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect)
        .map_err(|error| refused(chain, error.to_string()))?;
    if certificates.is_empty() {
        return Err(refused(chain, "it holds no certificate".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| refused(key, error.to_string()))?;
    CertifiedKey::from_der(certificates, private, &crypto::ring::default_provider())
        .map_err(|error| refused(chain, error.to_string()))
}
