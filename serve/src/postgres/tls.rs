//! TLS of a server: a certificate and its key in PEM files, read again when they were renewed.

use datafusion_postgres::pgwire::tokio::TlsAcceptor;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

/// What clients of PostgreSQL name in the handshake when they start with it.
const PROTOCOL: &[u8] = b"postgresql";

/// Where a certificate is.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate of the server, and those between it and the authority after it.
    pub certificate: PathBuf,
    /// Its private key: PKCS #8, SEC 1 or PKCS #1.
    pub key: PathBuf,
}

impl TlsFiles {
    fn changed_at(&self) -> [Option<SystemTime>; 2] {
        [&self.certificate, &self.key].map(|file| file.metadata().and_then(|data| data.modified()).ok())
    }
}

/// What is wrong with a file of a certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It cannot be read.
    #[error("{}: {source}", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It has no certificate or key.
    #[error("{}: there is no {sought} in PEM format in it: {reason}", file.display())]
    NotPem {
        /// Which.
        file: PathBuf,
        /// What it was read for.
        sought: &'static str,
        /// Why.
        reason: String,
    },
    /// The key is not that of the certificate, or of an unknown kind.
    #[error("{} and {}: {source}", files.certificate.display(), files.key.display())]
    Unfit {
        /// Which.
        files: TlsFiles,
        /// Why.
        source: rustls::Error,
    },
}

/// A certificate, ready for connections.
#[derive(Clone)]
pub struct Tls {
    files: TlsFiles,
    changed_at: [Option<SystemTime>; 2],
    pub(crate) acceptor: TlsAcceptor,
    /// In PEM format: passwords are bound to it.
    pub(crate) certificate: Arc<[u8]>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads a certificate and its key.
    ///
    /// # Errors
    /// When a file is missing or not what it should be, or the two do not fit.
    pub fn read(files: TlsFiles) -> Result<Self, TlsError> {
        let changed_at = files.changed_at();
        let (certificate, key) = (read(&files.certificate)?, read(&files.key)?);
        let not_pem = |file: &Path, sought| {
            let file = file.to_owned();
            move |reason: rustls::pki_types::pem::Error| TlsError::NotPem { file, sought, reason: reason.to_string() }
        };
        let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(not_pem(&files.certificate, "certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(not_pem(&files.key, "private key"))?;
        let unfit = |source| TlsError::Unfit { files: files.clone(), source };
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions().map_err(unfit)?.with_no_client_auth();
        let mut config = config.with_single_cert(chain, key).map_err(unfit)?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), certificate: certificate.into(), changed_at, files })
    }

    /// Reads the files again when they have changed. While they cannot be read, as between two of them that are being
    /// replaced, what was read stays.
    pub(crate) fn renew(&mut self) {
        let changed_at = self.files.changed_at();
        if changed_at == self.changed_at {
            return;
        }
        match Self::read(self.files.clone()) {
            Ok(renewed) => {
                tracing::info!(certificate = %self.files.certificate.display(), "a new certificate for SQL");
                *self = renewed;
            }
            Err(error) => {
                tracing::warn!(%error, "the certificate for SQL has changed and cannot be used: the one before stays");
                self.changed_at = changed_at;
            }
        }
    }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|source| TlsError::Unreadable { file: file.to_owned(), source })
}
