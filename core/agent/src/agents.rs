//! The agents as a node knows them: their addresses and the client that reaches them.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use reqwest::{
    dns::{Addrs, Name, Resolve, Resolving},
    header::HeaderMap,
};

use crate::{AgentError, pending::Pending, seen::Seen};
use cairn_agent_protocol::{Moment, Pong, header, path};
use cairn_queue::Queues;
use cairn_tls::{Credentials, Identity};
use cairn_types::HostUuid;

/// How a node talks to agents.
#[derive(Debug, Clone)]
pub struct Options {
    /// Base URLs of the callback listeners that agents may report to, this node's first.
    pub callbacks: Vec<String>,
    /// Time for one request; agents answer at once.
    pub request_timeout: Duration,
    /// How long an agent may refuse connections before a call ends as unreachable.
    pub unreachable_after: Duration,
    /// The pause before a command that an agent did not take is sent again; doubled each time.
    pub first_pause: Duration,
    /// The longest such pause.
    pub longest_pause: Duration,
    /// How long after a command's time limit the node still waits: the agent reports that the
    /// limit passed.
    pub grace: Duration,
    /// Commands that may be under way on one host at once, 0 for any number; those past it wait.
    pub commands_at_once: u32,
    /// How many may wait so for one host; those past it are refused.
    pub commands_waiting: usize,
}

impl Options {
    /// The usual options, with these callback addresses.
    #[must_use]
    pub fn new(callbacks: Vec<String>) -> Self {
        Self {
            callbacks,
            request_timeout: Duration::from_secs(10),
            unreachable_after: Duration::from_secs(30),
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(2),
            grace: Duration::from_secs(10),
            commands_at_once: 256,
            commands_waiting: 10_000,
        }
    }
}

/// All agents. Clones are handles to the same.
#[derive(Clone)]
pub struct Agents {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) pending: Pending,
    pub(crate) seen: Arc<Seen>,
    /// Of the commands of each host.
    pub(crate) queues: Queues,
    pub(crate) http: reqwest::Client,
    addresses: Arc<Addresses>,
}

impl Agents {
    /// A client that shows these credentials to agents.
    ///
    /// # Errors
    /// If the credentials are not usable.
    pub fn new(options: Options, credentials: &Credentials) -> Result<Self, AgentError> {
        let addresses = Arc::new(Addresses::default());
        let tls = cairn_tls::client(credentials).map_err(AgentError::Certificate)?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            // One connection to each host for any number of commands at once.
            .http2_prior_knowledge()
            .http2_keep_alive_interval(Duration::from_secs(20))
            .dns_resolver(addresses.clone())
            .timeout(options.request_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(AgentError::Client)?;
        let inner = Inner {
            options,
            pending: Pending::default(),
            seen: Arc::default(),
            queues: Queues::default(),
            http,
            addresses,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Says where a host's agent listens.
    pub fn set_address(&self, host: HostUuid, address: SocketAddr) {
        self.inner.addresses.write().insert(host, address);
    }

    /// Forgets a host's address: calls end as unreachable.
    pub fn forget(&self, host: HostUuid) {
        self.inner.addresses.write().remove(&host);
        self.inner.seen.forget(host);
    }

    /// Asks a host's agent whether it is there.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn ping(&self, host: HostUuid) -> Result<Pong, AgentError> {
        let unreachable = |cause: reqwest::Error| AgentError::Unreachable {
            host,
            command: "ping",
            cause: cause.into(),
        };
        let answer = self
            .inner
            .http
            .get(self.url(host, path::PING)?)
            .send()
            .await;
        let answer = answer
            .and_then(reqwest::Response::error_for_status)
            .map_err(unreachable)?;
        self.hear(host, answer.headers());
        answer.json().await.map_err(unreachable)
    }

    /// Notes the moment that an agent's answer says.
    pub(crate) fn hear(&self, host: HostUuid, answer: &HeaderMap) -> Option<Moment> {
        let moment = answer.get(header::MOMENT)?.to_str().ok()?.parse().ok()?;
        self.inner.seen.heard(host, moment);
        Some(moment)
    }

    /// The URL's name is what the agent's certificate must say; the port is the address's.
    pub(crate) fn url(&self, host: HostUuid, path: &str) -> Result<String, AgentError> {
        let address = self
            .inner
            .addresses
            .get(host)
            .ok_or(AgentError::NoAddress(host))?;
        let name = Identity::Host(host).dns_name();
        Ok(format!("https://{name}:{}{path}", address.port()))
    }
}

/// Where each agent listens; resolves hosts' names, and no others.
#[derive(Debug, Default)]
struct Addresses {
    by_host: RwLock<HashMap<HostUuid, SocketAddr>>,
}

impl Addresses {
    fn get(&self, host: HostUuid) -> Option<SocketAddr> {
        self.by_host
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&host)
            .copied()
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<HostUuid, SocketAddr>> {
        self.by_host.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolve for Addresses {
    fn resolve(&self, name: Name) -> Resolving {
        let address = match Identity::from_dns_name(name.as_str()) {
            Some(Identity::Host(host)) => self.get(host),
            _ => None,
        };
        Box::pin(async move {
            match address {
                Some(address) => Ok(Box::new(std::iter::once(address)) as Addrs),
                None => Err("not a host whose agent is known".into()),
            }
        })
    }
}
