//! The queues on the wire: what runs in them and what waits.

use cairn_operation::Operations;
use cairn_proto::{
    fault::Fault,
    operation::v1alpha1::{
        ListQueueRequest, ListQueueResponse, QueuedTask, QueuedTaskPriority, QueuedTaskState,
        queue_service_server::QueueService,
    },
};
use cairn_queue::{Priority, QueueView, TaskView};
use tonic::{Request, Response, Status, async_trait};

use crate::parse;

/// How many tasks are told of if the request does not say.
const LIMIT: usize = 1000;

/// The queues of one node.
#[derive(Debug, Clone)]
pub struct QueueApi {
    operations: Operations,
}

impl QueueApi {
    /// The queues that these operations are in.
    #[must_use]
    pub fn new(operations: Operations) -> Self {
        Self { operations }
    }

    fn list(&self, request: &ListQueueRequest) -> Result<ListQueueResponse, Fault> {
        let ListQueueRequest {
            queue,
            operation_uuid,
            limit,
        } = request;
        if !queue.is_empty() && !queue.contains('/') {
            let problem = format!(
                "is `{queue}`; give the noun of a resource and a slash, as in vm-instance/, or the \
                 whole name of a queue"
            );
            return Err(Fault::field("queue", problem));
        }
        let operation = match operation_uuid.as_str() {
            "" => None,
            uuid => Some(parse("operation_uuid", uuid)?),
        };
        let limit = match limit {
            0 => LIMIT,
            limit => *limit as usize,
        };
        let has_operation = |view: &QueueView| {
            let mut all = view.running.iter().chain(&view.waiting);
            operation.is_none_or(|operation| all.any(|task| task.operation == operation))
        };
        let mut answer = ListQueueResponse::default();
        let queues = self.operations.queues().into_iter();
        let asked = queues.filter(|view| view.signature.as_str().starts_with(queue.as_str()));
        for view in asked.filter(has_operation) {
            answer.running += view.running.len() as u64;
            answer.waiting += view.waiting.len() as u64;
            let room = limit - answer.tasks.len();
            answer.tasks.extend(self.tasks(&view).take(room));
        }
        Ok(answer)
    }

    fn tasks(&self, view: &QueueView) -> impl Iterator<Item = QueuedTask> {
        let running = view.running.iter().map(|task| (0, task));
        running
            .chain((1..).zip(&view.waiting))
            .map(|(place, task)| {
                let TaskView {
                    operation,
                    account,
                    priority,
                    since,
                } = task;
                let mut shown = QueuedTask {
                    queue: view.signature.to_string(),
                    level: view.level.get(),
                    place,
                    since: Some((*since).into()),
                    operation_uuid: operation.to_string(),
                    // None once it has ended: then it is about to leave.
                    name: self.operations.name(*operation).unwrap_or_default(),
                    account_uuid: account.to_string(),
                    ..QueuedTask::default()
                };
                shown.set_state(match place {
                    0 => QueuedTaskState::Running,
                    _ => QueuedTaskState::Waiting,
                });
                shown.set_priority(match priority {
                    Priority::Low => QueuedTaskPriority::Low,
                    Priority::Normal => QueuedTaskPriority::Normal,
                    Priority::High => QueuedTaskPriority::High,
                });
                shown
            })
    }
}

#[async_trait]
impl QueueService for QueueApi {
    async fn list_queue(
        &self,
        request: Request<ListQueueRequest>,
    ) -> Result<Response<ListQueueResponse>, Status> {
        Ok(Response::new(self.list(&request.into_inner())?))
    }
}
