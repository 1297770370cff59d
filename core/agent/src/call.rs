//! One call of an agent, from the first attempt to the outcome.
//!
//! `cairn_agent_commands_total{command, outcome}` counts them: `ok`, `failed` as the agent says,
//! `refused` for good, `timeout` if the agent took it and no outcome came, `unreachable` if it
//! did not take it, `overloaded` if too many were under way there, `error` for a fault on this side. A call that is dropped does not count.

use std::{num::NonZeroU32, time::Duration};

use futures::{FutureExt as _, future::FusedFuture as _};
use reqwest::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{Instrument as _, debug, info_span};

use crate::{
    Ack, AgentError, Agents,
    pending::{Arrived, Place},
};
use cairn_agent_protocol::{
    AgentCommand, CommandError, CommandHead, Moment, Outcome, header, path,
};
use cairn_boot::{metrics::Counters, propagation};
use cairn_proto::call::Context;
use cairn_queue::{Entry, Level, Signature};
use cairn_types::{HostUuid, OperationUuid, TaskUuid, Uuid, chain};

static COMMANDS: Counters<2> = Counters::new(
    "cairn_agent_commands_total",
    "Commands to agents that have ended.",
    ["command", "outcome"],
);

/// Which task a call is. The callback addresses are the node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The task; the same for a repeat.
    pub task: TaskUuid,
    /// Its operation.
    pub operation: OperationUuid,
    /// The resource whose commands run one at a time on the agent.
    pub resource: Uuid,
    /// The fencing token.
    pub token: u64,
    /// The command's time limit at the agent.
    pub timeout: Duration,
}

/// An outcome, to be acknowledged once it is committed.
#[derive(Debug)]
pub struct Delivered<R> {
    /// The command's reply, or its failure.
    pub reply: Result<R, CommandError>,
    /// Tells the agent that it may forget the outcome.
    pub ack: Ack,
}

/// A command as it goes over the wire, any number of times.
struct Message {
    host: HostUuid,
    head: Head,
    name: &'static str,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Agents {
    /// Sends a command and waits for its outcome. Dropping the future stops the waiting, not the
    /// command: an outcome that comes later is kept at the agent, and a call of the same task
    /// gets it.
    ///
    /// # Errors
    /// If there is no outcome, or it is malformed.
    pub async fn call<C: AgentCommand>(
        &self,
        host: HostUuid,
        head: Head,
        command: &C,
    ) -> Result<Delivered<C::Reply>, AgentError> {
        let span = info_span!("command", command = C::NAME, %host, task = %head.task);
        let called = self.in_turn(host, head, command).instrument(span).await;
        let outcome = match &called {
            Ok(delivered) if delivered.reply.is_ok() => "ok",
            Ok(_) => "failed",
            Err(AgentError::Refused { .. }) => "refused",
            Err(AgentError::Deadline { .. }) => "timeout",
            Err(AgentError::NoTurn { .. }) => "overloaded",
            Err(AgentError::NoAddress(_) | AgentError::Unreachable { .. }) => "unreachable",
            Err(_) => "error",
        };
        COMMANDS.add([C::NAME, outcome]);
        called
    }

    /// Sends it when there is room for it on the host, within its time limit.
    async fn in_turn<C: AgentCommand>(
        &self,
        host: HostUuid,
        head: Head,
        command: &C,
    ) -> Result<Delivered<C::Reply>, AgentError> {
        let options = &self.inner.options;
        let level = NonZeroU32::new(options.commands_at_once);
        let level = level.map_or(Level::UNLIMITED, Level::at_most);
        let signature = Signature::of("commands", &host.to_string());
        let entry = Entry::new(signature, level, head.operation)
            .account(Context::current().account)
            .most_waiting(options.commands_waiting);
        let no_turn = |cause| AgentError::NoTurn {
            host,
            command: C::NAME,
            cause,
        };
        let ticket = self.inner.queues.enter(entry).map_err(no_turn)?;
        let turn = match Instant::now().checked_add(head.timeout) {
            Some(deadline) => ticket.before(deadline).await,
            None => ticket.await,
        };
        let _slot = turn.map_err(no_turn)?;
        self.send(host, head, command).await
    }

    async fn send<C: AgentCommand>(
        &self,
        host: HostUuid,
        head: Head,
        command: &C,
    ) -> Result<Delivered<C::Reply>, AgentError> {
        let malformed = |cause| AgentError::Malformed {
            host,
            command: C::NAME,
            cause,
        };
        let after = self.inner.seen.committed(host, head.task);
        let message = Message {
            host,
            head,
            name: C::NAME,
            headers: self.headers(head, after),
            body: serde_json::to_vec(command).map_err(malformed)?,
        };
        let mut place = self.inner.pending.wait(host, head.task, after);
        let Arrived { outcome, ack, .. } = self.exchange(&message, &mut place).await?;
        let reply = match outcome {
            Outcome::Ok(value) => Ok(reply::<C>(value).map_err(malformed)?),
            Outcome::Error(error) => Err(error),
        };
        Ok(Delivered { reply, ack })
    }

    async fn exchange(
        &self,
        message: &Message,
        place: &mut Place<'_>,
    ) -> Result<Arrived, AgentError> {
        let limit = message
            .head
            .timeout
            .saturating_add(self.inner.options.grace);
        let started = Instant::now();
        let deadline = started.checked_add(limit);
        let passed = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let posting = self.post_until_taken(message, deadline).fuse();
        tokio::pin!(passed, posting);
        loop {
            tokio::select! {
                // An outcome counts even if the answer to the command was lost. A post that is still
                // on its way begins nothing: when it comes, it does not know that the task is forgotten.
                biased;
                arrived = &mut place.outcome => {
                    return arrived.map_err(|_| AgentError::CalledAgain {
                        host: message.host,
                        task: message.head.task,
                    });
                }
                posted = &mut posting, if !posting.is_terminated() => posted?,
                () = place.send_again.notified(), if posting.is_terminated() => {
                    posting.set(self.post_until_taken(message, deadline).fuse());
                }
                () = &mut passed => {
                    return Err(AgentError::Deadline {
                        host: message.host,
                        command: message.name,
                        limit,
                    });
                }
            }
        }
    }

    /// Posts until the agent says that it has the command. It may get it several times.
    async fn post_until_taken(
        &self,
        message: &Message,
        deadline: Option<Instant>,
    ) -> Result<(), AgentError> {
        let options = &self.inner.options;
        let give_up_at = Instant::now() + options.unreachable_after;
        let give_up_at = deadline.map_or(give_up_at, |deadline| deadline.min(give_up_at));
        let mut pause = options.first_pause;
        loop {
            let cause = match self.post_in_turn(message, give_up_at).await? {
                Posted::Taken => return Ok(()),
                Posted::Unaware => "its resource changes all the time".into(),
                Posted::NotTaken(cause) => cause,
            };
            debug!(host = %message.host, command = message.name, error = %chain(&*cause), "post");
            if Instant::now() + pause >= give_up_at {
                let (host, command) = (message.host, message.name);
                return Err(AgentError::Unreachable {
                    host,
                    command,
                    cause,
                });
            }
            sleep(pause).await;
            pause = (pause * 2).min(options.longest_pause);
        }
    }

    /// Posts what the agent will take if it knows the host well enough. One post of a resource is
    /// under way at a time, for each that is taken makes the others unaware.
    async fn post_in_turn(
        &self,
        message: &Message,
        give_up_at: Instant,
    ) -> Result<Posted, AgentError> {
        let Message { host, head, .. } = *message;
        let signature = Signature::of("post", &format!("{host}/{}", head.resource));
        let entry = Entry::new(signature, Level::SERIAL, head.operation);
        let turn = match self.inner.queues.enter(entry) {
            Ok(ticket) => ticket.before(give_up_at).await,
            Err(refused) => Err(refused),
        };
        let _turn = match turn {
            Ok(turn) => turn,
            Err(cause) => return Ok(Posted::NotTaken(cause.into())),
        };
        loop {
            let posted = self.post(message).await?;
            if !matches!(posted, Posted::Unaware) || Instant::now() >= give_up_at {
                return Ok(posted);
            }
        }
    }

    /// One attempt.
    ///
    /// # Errors
    /// That no repeat changes.
    async fn post(&self, message: &Message) -> Result<Posted, AgentError> {
        let url = self.url(
            message.host,
            &format!("{}/{}", path::COMMANDS, message.name),
        )?;
        let mut request = self.inner.http.post(url).headers(message.headers.clone());
        let seen = self.inner.seen.moment(message.host);
        if let Some(seen) = seen {
            request = request.header(header::SEEN, String::from(seen));
        }
        let answer = match request.body(message.body.clone()).send().await {
            Ok(answer) => answer,
            Err(error) => return Ok(Posted::NotTaken(error.into())),
        };
        let status = answer.status();
        let moment = self.hear(message.host, answer.headers());
        match status {
            StatusCode::ACCEPTED => return Ok(Posted::Taken),
            StatusCode::PRECONDITION_FAILED if moment.is_some() && moment != seen => {
                return Ok(Posted::Unaware);
            }
            _ => {}
        }
        // An agent that does not serve the host (yet) may do so in a moment.
        let passing = status.is_server_error()
            || [
                StatusCode::MISDIRECTED_REQUEST,
                StatusCode::TOO_MANY_REQUESTS,
            ]
            .contains(&status);
        if passing {
            let cause = format!("the agent answered {status}");
            return Ok(Posted::NotTaken(cause.into()));
        }
        let read = timeout(self.inner.options.request_timeout, answer.text()).await;
        Err(AgentError::Refused {
            host: message.host,
            command: message.name,
            status: status.as_u16(),
            message: read.ok().and_then(Result::ok).unwrap_or_default(),
        })
    }

    /// The headers that are the same each time.
    fn headers(&self, head: Head, after: Option<Moment>) -> HeaderMap {
        let Head {
            task,
            operation,
            resource,
            token,
            timeout,
        } = head;
        let callbacks = self.inner.options.callbacks.clone();
        let head = CommandHead {
            task,
            operation,
            resource,
            token,
            timeout,
            callbacks,
            seen: None,
            after,
            traceparent: propagation::current_traceparent(),
        };
        let json = HeaderValue::from_static("application/json");
        head.to_headers()
            .into_iter()
            .filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)))
            .chain([(CONTENT_TYPE, json)])
            .collect()
    }
}

/// What one attempt came to.
enum Posted {
    /// The agent has the command.
    Taken,
    /// The agent has it not: more happened to its resource than the node knew of. Now it knows.
    Unaware,
    /// The agent has it not, for all that is known.
    NotTaken(BoxError),
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn reply<C: AgentCommand>(value: Value) -> Result<C::Reply, serde_json::Error> {
    serde_json::from_value(value)
}
