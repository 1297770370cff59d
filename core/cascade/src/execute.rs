//! Has done what was found: by the services that own it, many at once, what is below first.

use std::collections::HashMap;

use cairn_operation::{At, OperationContext, Point};
use cairn_proto::{
    call::Mesh,
    cascade::v1alpha1::{CascadeAction, CascadeFailure, CascadeItem, CascadeMode},
    fault::Fault,
};
use cairn_store::{StoreError, Tx};
use futures::{StreamExt as _, stream::FuturesUnordered};

use crate::{
    Found,
    act::act,
    find::{Node, goes},
    left::{Left, finish, left},
    order::Order,
};

/// How many are under way at once.
const AT_ONCE: usize = 64;

/// How an execution ended.
#[derive(Debug, Default)]
pub struct Executed {
    /// What was left as it was: first what failed, then what has to come after that. Empty if
    /// everything was done.
    pub failures: Vec<CascadeFailure>,
}

impl Found {
    /// Marks all of it, for a plan: what is to go as going, what is stopped or operated on as held.
    /// See [`Tx::mark_going`] and [`Tx::mark_held`].
    ///
    /// # Errors
    /// [`StoreError::GoingAlready`] if another plan has one of them.
    pub async fn mark(&self, tx: &mut Tx, plan: &str) -> Result<(), StoreError> {
        let of = |which: fn(CascadeAction) -> bool| -> Vec<&str> {
            let nodes = self.nodes.iter().filter(|node| which(node.action));
            nodes.map(|node| node.uuid.as_str()).collect()
        };
        tx.mark_going(plan, &of(goes)).await?;
        let held = |action| matches!(action, CascadeAction::Stop | CascadeAction::Operate);
        tx.mark_held(plan, &of(held)).await
    }

    /// Does all of it, for an operation, whose progress it tells. A repeat after a crash finds what
    /// is left and calls for that again, under the same keys. A cancel lets those end that have
    /// begun.
    ///
    /// With [`CascadeMode::Enforcing`] a failure is noted, and only what has to come after it is
    /// left. What is left to a job that waits for something that goes too is done after that.
    ///
    /// # Errors
    /// Unless it is enforcing, the first failure of one of them, with what it was and how much is
    /// done; or that the operation is to end. Then what has begun has ended too.
    ///
    /// It comes to a failpoint of flow `cascade` after each, with the noun as the step.
    pub async fn execute(
        &self,
        mesh: &Mesh,
        cx: &OperationContext,
        mode: CascadeMode,
    ) -> Result<Executed, Fault> {
        self.announce(mesh, cx).await?;
        let mut order = Order::of(self);
        let total = order.count();
        let (mut running, mut done) = (FuturesUnordered::new(), 0);
        let (mut failures, mut jobs) = (Vec::new(), HashMap::<usize, Left>::new());
        let mut ends: Option<Fault> = None;
        loop {
            while ends.is_none() && running.len() < AT_ONCE {
                let Some(place) = order.next() else { break };
                let job = jobs.get(&place).map(|left| left.job.clone());
                running.push(async move {
                    let outcome = match job {
                        Some(job) => finish(mesh, &job, cx.store()).await,
                        None => act(self, place, mesh, cx).await,
                    };
                    (place, outcome)
                });
            }
            let (place, outcome) = tokio::select! {
                biased;
                fault = cx.cancelled(), if ends.is_none() => {
                    ends = Some(fault);
                    continue;
                }
                next = running.next() => match next {
                    Some(ended) => ended,
                    None => break,
                },
            };
            let node = &self.nodes[place];
            match outcome {
                Ok(()) => {
                    cx.failpoint(At {
                        point: Point::AfterEffect,
                        flow: "cascade",
                        step: &node.resource.name,
                        direction: "run",
                    })
                    .await;
                    order.done(place);
                    done += 1;
                    let percent = u32::try_from(done * 100 / total.max(1)).unwrap_or(100);
                    let (what, past) = (&node.resource.name, past(node.action));
                    let told = format!("{what} {} is {past}: {done} of {total}", node.name);
                    cx.progress(percent, told);
                }
                Err(fault) if mode == CascadeMode::Enforcing => {
                    let job = match jobs.contains_key(&place) {
                        true => None,
                        false => left(self, place, &fault, cx.store()).await?,
                    };
                    match job.filter(|job| order.left(place, job.until)) {
                        Some(job) => {
                            jobs.insert(place, job);
                        }
                        None => {
                            order.failed();
                            failures.push(failure(node, fault.code.as_str(), fault.message));
                        }
                    }
                }
                Err(fault) => {
                    ends.get_or_insert(of_node(node, fault));
                }
            }
        }
        if let Some(mut fault) = ends {
            fault.message = format!("{}; {done} of {total} are done", fault.message);
            return Err(fault);
        }
        let to_jobs = order.all_left().filter_map(|place| {
            let fault = &jobs.get(&place)?.fault;
            let (code, message) = (fault.code.as_str(), fault.message.clone());
            Some(failure(&self.nodes[place], code, message))
        });
        failures.extend(to_jobs);
        let left = order.waiting().map(|place| {
            let message = "something that has to come before it failed".to_owned();
            failure(&self.nodes[place], "", message)
        });
        failures.extend(left);
        Ok(Executed { failures })
    }

    /// Has the first one keep others away, if something else than a deletion is done to it.
    async fn announce(&self, mesh: &Mesh, cx: &OperationContext) -> Result<(), Fault> {
        let Some(root) = self.nodes.first() else {
            return Ok(());
        };
        if root.action != CascadeAction::Operate {
            return Ok(());
        }
        let announced = crate::act::operate(self, root, "announce", mesh, cx).await;
        announced.map_err(|fault| of_node(root, fault))
    }
}

fn failure(node: &Node, code: &str, message: String) -> CascadeFailure {
    CascadeFailure {
        item: Some(CascadeItem {
            resource_type: node.resource.name.clone(),
            resource_uuid: node.uuid.clone(),
            name: node.name.clone(),
            action: node.action.into(),
            depth: 0,
        }),
        code: code.to_owned(),
        message,
    }
}

fn of_node(node: &Node, mut fault: Fault) -> Fault {
    let (noun, uuid) = (&node.resource.name, &node.uuid);
    fault.message = format!(
        "{noun} {} ({uuid}) cannot be {}: {}",
        node.name,
        past(node.action),
        fault.message
    );
    fault.resource.get_or_insert((noun.clone(), uuid.clone()));
    fault
}

/// What a resource is after an action.
fn past(action: CascadeAction) -> &'static str {
    match action {
        CascadeAction::Stop => "stopped",
        CascadeAction::Detach => "detached",
        CascadeAction::Operate => "operated on",
        _ => "deleted",
    }
}
