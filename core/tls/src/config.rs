//! The rustls configurations of the doors and of those who knock.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};

use crate::{Credentials, TlsError};

/// A door where a caller shows no certificate: the public one, which asks for a credential in
/// the call.
///
/// # Errors
/// If the credentials are not usable.
pub fn public_server(credentials: &Credentials) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = chain_and_key(credentials)?;
    let config = server_builder()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(config_error("use the certificate and key"))?;
    Ok(with_server_protocols(config))
}

/// A door for members only: a caller without a certificate of this CA fails the handshake.
///
/// # Errors
/// If the credentials are not usable.
pub fn mutual_server(credentials: &Credentials) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = chain_and_key(credentials)?;
    let config = server_builder()?
        .with_client_cert_verifier(client_verifier(&credentials.ca_pem)?)
        .with_single_cert(chain, key)
        .map_err(config_error("use the certificate and key"))?;
    Ok(with_server_protocols(config))
}

/// Like [`mutual_server`], for a listener that serves several identities: the certificate is
/// chosen by the name that the caller asks for.
///
/// # Errors
/// If the CA is not usable.
pub fn mutual_server_by_name(
    resolver: Arc<dyn ResolvesServerCert>,
    ca_pem: &str,
) -> Result<Arc<ServerConfig>, TlsError> {
    let config = server_builder()?
        .with_client_cert_verifier(client_verifier(ca_pem)?)
        .with_cert_resolver(resolver);
    Ok(with_server_protocols(config))
}

/// What a member uses to call another: shows its certificate, trusts this CA only.
///
/// # Errors
/// If the credentials are not usable.
pub fn client(credentials: &Credentials) -> Result<ClientConfig, TlsError> {
    let (chain, key) = chain_and_key(credentials)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(config_error("choose the TLS versions"))?
        .with_root_certificates(roots(&credentials.ca_pem)?)
        .with_client_auth_cert(chain, key)
        .map_err(config_error("use the certificate and key"))?;
    config.alpn_protocols = protocols();
    Ok(config)
}

/// Certificate and key in the form that a certificate resolver gives.
///
/// # Errors
/// If the credentials are not usable.
pub fn certified_key(credentials: &Credentials) -> Result<Arc<CertifiedKey>, TlsError> {
    let (chain, key) = chain_and_key(credentials)?;
    let certified = CertifiedKey::from_der(chain, key, &provider())
        .map_err(config_error("use the certificate and key"))?;
    Ok(Arc::new(certified))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn protocols() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}

fn server_builder() -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, TlsError>
{
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(config_error("choose the TLS versions"))
}

fn with_server_protocols(mut config: ServerConfig) -> Arc<ServerConfig> {
    config.alpn_protocols = protocols();
    Arc::new(config)
}

fn client_verifier(
    ca_pem: &str,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca_pem)?), provider())
        .build()
        .map_err(config_error("trust the CA"))
}

fn roots(ca_pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        let certificate = certificate.map_err(|cause| TlsError::Pem {
            what: "the CA's certificate",
            cause,
        })?;
        roots
            .add(certificate)
            .map_err(config_error("trust the CA"))?;
    }
    Ok(roots)
}

fn chain_and_key(
    credentials: &Credentials,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = CertificateDer::pem_slice_iter(credentials.certificate_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|cause| TlsError::Pem {
            what: "the certificate",
            cause,
        })?;
    let key = PrivateKeyDer::from_pem_slice(credentials.key_pem.as_bytes()).map_err(|cause| {
        TlsError::Pem {
            what: "the private key",
            cause,
        }
    })?;
    Ok((chain, key))
}

fn config_error<E: std::error::Error + Send + Sync + 'static>(
    action: &'static str,
) -> impl Fn(E) -> TlsError {
    move |cause| TlsError::Config {
        action,
        cause: Box::new(cause),
    }
}
