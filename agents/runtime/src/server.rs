//! The agent's process: its hosts, the tasks that run, and what starts and stops them.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use rustls::ServerConfig;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinSet, spawn_blocking},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info, info_span};

use crate::{
    Options, Point, RuntimeError,
    book::{Entry, lock},
    door::router,
    folder::{Folder, KeptResult},
    host::{Host, Hosts, Trust},
    report::{Backoff, Reach, post_once, post_until_taken},
};
use cairn_agent_protocol::{
    Agent, Changed, Command, CommandError, CommandErrorCode, CommandHead, Enrollment, Hello,
    Moment, Outcome, OutcomeReport, TaskContext, path,
};
use cairn_boot::propagation;
use cairn_tls::{mutual_server_by_name, serve};
use cairn_types::{HostUuid, Uuid, chain};

/// What a longer time limit of a command is taken for.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// An agent's process. Clones are handles to the same.
#[derive(Clone)]
pub struct AgentServer {
    inner: Arc<Inner>,
}

struct Inner {
    agent: Arc<dyn Agent>,
    options: Options,
    incarnation: Uuid,
    hosts: Arc<Hosts>,
    cloud: Mutex<Cloud>,
    tls: watch::Sender<Option<Arc<ServerConfig>>>,
    tasks: Mutex<JoinSet<()>>,
}

/// What depends on the first host that is installed.
#[derive(Default)]
struct Cloud {
    ca_pem: Option<String>,
    /// Whether [`AgentServer::run`] runs: before it nothing is reported.
    running: bool,
    kept: Vec<(Arc<Host>, Arc<Entry>, OutcomeReport)>,
}

impl AgentServer {
    /// An agent with the hosts that are installed in its state folder.
    ///
    /// # Errors
    /// If the state folder cannot be read or is damaged.
    pub fn new(agent: Arc<dyn Agent>, options: Options) -> Result<Self, RuntimeError> {
        let inner = Inner {
            agent,
            options,
            incarnation: Uuid::now_v7(),
            hosts: Arc::default(),
            cloud: Mutex::default(),
            tls: watch::Sender::new(None),
            tasks: Mutex::default(),
        };
        let server = Self {
            inner: Arc::new(inner),
        };
        for host in Folder::hosts(&server.inner.options.dir)? {
            let folder = server.folder(host);
            if let Some(enrollment) = folder.enrollment()? {
                let ca_pem = enrollment.ca_certificate.clone();
                let trust = Trust::new(host, folder.key()?, enrollment)?;
                server.enter(host, trust, &ca_pem)?;
            }
        }
        Ok(server)
    }

    /// The certificate signing request of a host; its key is made here if there is none, and
    /// stays here.
    ///
    /// # Errors
    /// If the state folder cannot be written.
    pub async fn request(&self, host: HostUuid) -> Result<String, RuntimeError> {
        let folder = self.folder(host);
        blocking(move || folder.request()).await
    }

    /// Installs what a host's enrolment returned, and serves the host from now on. Repeated with
    /// a new certificate, replaces the old one.
    ///
    /// # Errors
    /// If the certificate is not one for the host's key, or is of another cloud.
    pub async fn install(
        &self,
        host: HostUuid,
        enrollment: Enrollment,
    ) -> Result<(), RuntimeError> {
        let server = self.clone();
        blocking(move || {
            let folder = server.folder(host);
            let trust = Trust::new(host, folder.key()?, enrollment.clone())?;
            server.check_cloud(host, &enrollment.ca_certificate)?;
            folder.write_enrollment(&enrollment)?;
            server.enter(host, trust, &enrollment.ca_certificate)
        })
        .await?;
        if lock(&self.inner.cloud).running {
            self.begin();
            self.start_hello(host);
        }
        Ok(())
    }

    /// Serves until `shutdown` is cancelled. Connections wait until a host is installed. Tasks
    /// that run when it stops, or is dropped, are dropped too; see the crate's documentation for
    /// what becomes of them.
    pub async fn run(&self, listener: TcpListener, shutdown: CancellationToken) {
        let _tasks = DropTasks(&self.inner);
        lock(&self.inner.cloud).running = true;
        self.begin();
        for host in self.inner.hosts.all() {
            self.start_hello(host.uuid);
        }
        let server = self.clone();
        self.start(async move { server.tell_changes().await });
        let mut tls = self.inner.tls.subscribe();
        let tls = tokio::select! {
            () = shutdown.cancelled() => None,
            tls = tls.wait_for(Option::is_some) => tls.ok().and_then(|tls| tls.clone()),
        };
        if let Some(tls) = tls {
            let limits = self.inner.options.limits;
            serve(listener, tls, router(self.clone()), limits, shutdown).await;
        }
        let mut tasks = std::mem::take(&mut *lock(&self.inner.tasks));
        tasks.shutdown().await;
    }

    /// The hosts that are served.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostUuid> {
        self.inner
            .hosts
            .all()
            .iter()
            .map(|host| host.uuid)
            .collect()
    }

    pub(crate) fn host(&self, uuid: HostUuid) -> Option<Arc<Host>> {
        self.inner.hosts.get(uuid)
    }

    pub(crate) fn agent(&self) -> &dyn Agent {
        &*self.inner.agent
    }

    pub(crate) fn incarnation(&self) -> Uuid {
        self.inner.incarnation
    }

    /// Runs a task that the book admitted, and reports its outcome until a node has it.
    pub(crate) fn start_task(
        &self,
        host: Arc<Host>,
        head: CommandHead,
        command: Command,
        entry: Arc<Entry>,
        after: Option<Moment>,
    ) {
        let deadline = Instant::now() + head.timeout.min(LONGEST_TIMEOUT);
        let (server, name) = (self.clone(), command.name());
        let span = info_span!(
            parent: None,
            "task",
            command = name,
            host = %host.uuid,
            task = %head.task,
        );
        if let Some(traceparent) = &head.traceparent {
            propagation::set_parent(&span, traceparent);
        }
        self.start(async move {
            if let Some(after) = after {
                server.remove_result(&host, after).await;
            }
            let outcome = server
                .run_command(&host, &head, command, &entry, deadline)
                .instrument(span)
                .await;
            let report = OutcomeReport {
                task: head.task,
                operation: head.operation,
                host: host.uuid,
                began: entry.began,
                outcome: match outcome {
                    Ok(reply) => Outcome::Ok(reply),
                    Err(error) => Outcome::Error(error),
                },
            };
            if server.inner.options.durable {
                let folder = host.folder.clone();
                let kept = KeptResult {
                    report: report.clone(),
                    resource: head.resource,
                    callbacks: entry.callbacks(),
                };
                if let Err(error) = blocking(move || folder.write_result(&kept)).await {
                    // The report still goes out; only a restart in between would lose it.
                    let error = chain(&error);
                    error!(host = %host.uuid, task = %head.task, error, "keep a result");
                }
            }
            server.failpoint(Point::AfterKept, name).await;
            server.report(&host, &report, &entry).await;
        });
    }

    async fn run_command(
        &self,
        host: &Host,
        head: &CommandHead,
        command: Command,
        entry: &Entry,
        deadline: Instant,
    ) -> Result<serde_json::Value, CommandError> {
        let name = command.name();
        let timed_out = |_| {
            let text = format!(
                "`{name}` did not end within {} ms",
                head.timeout.as_millis()
            );
            CommandError::new(CommandErrorCode::Timeout, text)
        };
        let lane = &entry.lane;
        let mut on_disk = timeout_at(deadline, lane.turn.lock())
            .await
            .map_err(timed_out)?;
        let (token, highest) = (entry.token(), lane.highest());
        if token < highest {
            let text = format!("`{name}` waited with token {token} and one of {highest} came");
            return Err(CommandError::new(CommandErrorCode::Stale, text));
        }
        // The token is on disk before its command has an effect. Not under the time limit: two
        // writes of one token's file must not overlap.
        if *on_disk < highest {
            if self.inner.options.durable {
                let (folder, resource) = (host.folder.clone(), head.resource);
                blocking(move || folder.write_token(resource, highest))
                    .await
                    .map_err(|error| {
                        CommandError::failed(format!("keep the fencing token: {}", chain(&error)))
                    })?;
            }
            *on_disk = highest;
        }
        let cx = TaskContext {
            host: host.uuid,
            task: head.task,
            operation: head.operation,
            resource: head.resource,
            token,
            agent_incarnation: self.inner.incarnation,
        };
        let run = async {
            self.failpoint(Point::BeforeEffect, name).await;
            let outcome = command.run(self.agent(), &cx).await;
            self.failpoint(Point::AfterEffect, name).await;
            outcome
        };
        timeout_at(deadline, AssertUnwindSafe(run).catch_unwind())
            .await
            .map_err(timed_out)?
            .unwrap_or_else(|_| {
                error!(host = %host.uuid, task = %head.task, command = name, "a command panicked");
                Err(CommandError::failed(format!(
                    "a fault in the agent: `{name}` panicked"
                )))
            })
    }

    async fn failpoint(&self, point: Point, command: &'static str) {
        if let Some(failpoints) = &self.inner.options.failpoints {
            failpoints.at(point, command).await;
        }
    }

    /// Reports an outcome until a node has committed it.
    async fn report(&self, host: &Host, report: &OutcomeReport, entry: &Arc<Entry>) {
        tokio::select! {
            () = self.report_until_taken(host, report, entry) => {}
            () = entry.committed.notified() => {}
        }
    }

    async fn report_until_taken(&self, host: &Host, report: &OutcomeReport, entry: &Arc<Entry>) {
        if let Some(may_leave) = &self.inner.options.report_filter {
            let mut pause = self.inner.options.first_pause;
            while !may_leave(report) {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = entry.came_again.notified() => {}
                }
                pause = (pause * 2).min(self.inner.options.longest_pause);
            }
        }
        let reported = AtomicU64::new(0);
        let addresses = || {
            reported.store(entry.arrivals(), Ordering::SeqCst);
            entry.callbacks()
        };
        let hurry = || entry.came_again.notified();
        loop {
            let backoff = self.backoff();
            post_until_taken(
                host,
                (path::OUTCOMES, Reach::One),
                report,
                backoff,
                addresses,
                hurry,
            )
            .await;
            self.remove_result(host, entry.began).await;
            let reported = reported.load(Ordering::SeqCst);
            if host.book.forget(report.task, entry, reported) {
                break;
            }
        }
    }

    /// Removes what is kept of a run.
    async fn remove_result(&self, host: &Host, began: Moment) {
        if self.inner.options.durable {
            let folder = host.folder.clone();
            if let Err(error) = blocking(move || folder.remove_result(began)).await {
                error!(host = %host.uuid, %began, error = %chain(&error), "remove a result");
            }
        }
    }

    fn start_hello(&self, host: HostUuid) {
        let server = self.clone();
        self.start(async move {
            let Some(host) = server.host(host) else {
                return;
            };
            let hello = Hello {
                host: host.uuid,
                agent_incarnation: server.incarnation(),
                status: server.agent().status(host.uuid).await,
            };
            let backoff = server.backoff();
            post_until_taken(
                &host,
                (path::HELLO, Reach::All),
                &hello,
                backoff,
                Vec::new,
                std::future::pending,
            )
            .await;
            info!(host = %host.uuid, "said hello");
        });
    }

    /// Tells the nodes of what changes on a host by itself. What is lost, their pings find out.
    async fn tell_changes(&self) {
        loop {
            let changed = Changed {
                host: self.agent().changed().await,
            };
            if let Some(host) = self.host(changed.host) {
                post_once(&host, path::CHANGED, &changed).await;
            }
        }
    }

    /// Goes on reporting results that were kept across a restart.
    fn begin(&self) {
        let kept = std::mem::take(&mut lock(&self.inner.cloud).kept);
        for (host, entry, report) in kept {
            let server = self.clone();
            self.start(async move { server.report(&host, &report, &entry).await });
        }
    }

    fn check_cloud(&self, host: HostUuid, ca_pem: &str) -> Result<(), RuntimeError> {
        match &lock(&self.inner.cloud).ca_pem {
            Some(known) if known != ca_pem => Err(RuntimeError::OtherCloud(host)),
            _ => Ok(()),
        }
    }

    fn enter(&self, uuid: HostUuid, trust: Arc<Trust>, ca_pem: &str) -> Result<(), RuntimeError> {
        self.check_cloud(uuid, ca_pem)?;
        if let Some(host) = self.host(uuid) {
            host.replace_trust(trust);
            return Ok(());
        }
        let (host, kept) = Host::load(&self.inner.options.dir, uuid, self.incarnation(), trust)?;
        let mut cloud = lock(&self.inner.cloud);
        cloud.kept.extend(kept.into_iter().map(|kept| {
            let KeptResult {
                report,
                resource,
                callbacks,
            } = kept;
            let entry = host.book.enter_kept(&report, resource, callbacks);
            (host.clone(), entry, report)
        }));
        self.inner.hosts.insert(host);
        if cloud.ca_pem.is_none() {
            let tls = mutual_server_by_name(self.inner.hosts.clone(), ca_pem)
                .map_err(|cause| RuntimeError::Certificate { host: uuid, cause })?;
            cloud.ca_pem = Some(ca_pem.to_owned());
            self.inner.tls.send_replace(Some(tls));
        }
        Ok(())
    }

    fn folder(&self, host: HostUuid) -> Folder {
        Folder::new(&self.inner.options.dir, host)
    }

    fn backoff(&self) -> Backoff {
        let Options {
            first_pause: first,
            longest_pause: longest,
            ..
        } = self.inner.options;
        Backoff { first, longest }
    }

    fn start(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.inner.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

/// Drops the tasks of a server that is not run any more: each of them holds the server, which
/// holds them.
struct DropTasks<'a>(&'a Inner);

impl Drop for DropTasks<'_> {
    fn drop(&mut self) {
        lock(&self.0.cloud).running = false;
        let tasks = std::mem::take(&mut *lock(&self.0.tasks));
        drop(tasks);
    }
}

/// Runs what blocks apart from the workers.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
) -> Result<T, RuntimeError> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime stops, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}
