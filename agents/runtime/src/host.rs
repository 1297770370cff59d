//! The hosts that this process serves, and which certificate answers for which.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{
    RuntimeError,
    book::Book,
    folder::{Folder, KeptResult},
};
use cairn_agent_protocol::Enrollment;
use cairn_tls::{Credentials, Identity, certified_key, client};
use cairn_types::{HostUuid, Uuid};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A node answers a report after it committed the outcome, which may take a moment.
const REPORT_TIMEOUT: Duration = Duration::from_secs(30);

/// A host that is enrolled.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) uuid: HostUuid,
    pub(crate) folder: Folder,
    pub(crate) book: Book,
    trust: RwLock<Arc<Trust>>,
}

/// What enrolment gave, ready to be used. Another enrolment replaces it.
#[derive(Debug)]
pub(crate) struct Trust {
    certified: Arc<CertifiedKey>,
    pub(crate) http: reqwest::Client,
    pub(crate) callbacks: Vec<String>,
}

impl Trust {
    pub(crate) fn new(
        host: HostUuid,
        key_pem: String,
        enrollment: Enrollment,
    ) -> Result<Arc<Self>, RuntimeError> {
        let wrong = |cause| RuntimeError::Certificate { host, cause };
        let credentials = Credentials {
            certificate_pem: enrollment.certificate,
            key_pem,
            ca_pem: enrollment.ca_certificate,
        };
        let certified = certified_key(&credentials).map_err(wrong)?;
        let identity = certified.cert.first().and_then(Identity::of_certificate);
        if identity != Some(Identity::Host(host)) {
            return Err(RuntimeError::WrongHost(host));
        }
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(client(&credentials).map_err(wrong)?)
            // One connection for any number of reports at once.
            .http2_prior_knowledge()
            .http2_keep_alive_interval(Duration::from_secs(20))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REPORT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|cause| RuntimeError::Client { host, cause })?;
        Ok(Arc::new(Self {
            certified,
            http,
            callbacks: enrollment.callback_addresses,
        }))
    }
}

impl Host {
    /// The host as its folder has it, and the results that were not acknowledged.
    pub(crate) fn load(
        dir: &Path,
        uuid: HostUuid,
        incarnation: Uuid,
        trust: Arc<Trust>,
    ) -> Result<(Arc<Self>, Vec<KeptResult>), RuntimeError> {
        let folder = Folder::new(dir, uuid);
        let book = Book::new(incarnation, folder.tokens()?);
        let results = folder.results()?;
        Ok((
            Arc::new(Self {
                uuid,
                folder,
                book,
                trust: RwLock::new(trust),
            }),
            results,
        ))
    }

    pub(crate) fn trust(&self) -> Arc<Trust> {
        self.trust
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn replace_trust(&self, trust: Arc<Trust>) {
        *self.trust.write().unwrap_or_else(PoisonError::into_inner) = trust;
    }
}

/// The hosts of this process; chooses the certificate by the name that a caller asks for.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    by_uuid: RwLock<HashMap<HostUuid, Arc<Host>>>,
}

impl Hosts {
    pub(crate) fn get(&self, uuid: HostUuid) -> Option<Arc<Host>> {
        self.by_uuid
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&uuid)
            .cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Host>> {
        self.by_uuid
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    pub(crate) fn insert(&self, host: Arc<Host>) {
        self.by_uuid
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(host.uuid, host);
    }
}

impl ResolvesServerCert for Hosts {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match Identity::from_dns_name(hello.server_name()?)? {
            Identity::Host(uuid) => Some(self.get(uuid)?.trust().certified.clone()),
            Identity::Node(_) => None,
        }
    }
}
