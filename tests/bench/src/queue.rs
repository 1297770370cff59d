//! What a task in a work queue costs: on one key, on 10,000 and on 1,000,000, beside the same work
//! under a tokio mutex for each key in a sharded map. Both spawn a task, look its key up, lock,
//! unlock, and join.

use std::{
    array,
    collections::HashMap,
    fs,
    hash::{BuildHasher as _, RandomState},
    hint::black_box,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use cairn_queue::{Entry, Level, Queues, Signature, Ticket};
use cairn_types::{OperationUuid, Uuid};
use serde_json::{Value, json};
use tokio::{sync::Mutex as Lock, task::JoinSet};

const NOUN: &str = "vm-instance";
const SOME_KEYS: usize = 10_000;
const SHARDS: usize = 64;
const ROUNDS: usize = 3;

/// How long and how often it is waited for the allocator.
const PAUSE: Duration = Duration::from_millis(100);
const GIVEN_BACK_IN: usize = 30;

/// A lock for each key, as one would write it without queues. It forgets none.
struct Locks {
    shards: [Mutex<HashMap<String, Arc<Lock<()>>>>; SHARDS],
    hashing: RandomState,
}

impl Locks {
    fn new() -> Self {
        Self {
            shards: array::from_fn(|_| Mutex::default()),
            hashing: RandomState::new(),
        }
    }

    fn of(&self, key: String) -> Arc<Lock<()>> {
        let shard = self.hashing.hash_one(&key) as usize % SHARDS;
        let mut shard = self.shards[shard].lock().unwrap();
        Arc::clone(shard.entry(key).or_default())
    }
}

/// The resources and operations of a run, made before it.
struct Work {
    keys: Vec<String>,
    operations: Vec<OperationUuid>,
}

impl Work {
    fn new(tasks: usize) -> Self {
        Self {
            keys: (0..tasks).map(|_| Uuid::new_v4().to_string()).collect(),
            operations: (0..tasks).map(|_| OperationUuid::generate()).collect(),
        }
    }

    /// Each task with its operation and its key, of so many.
    fn tasks(&self, keys: usize) -> impl Iterator<Item = (OperationUuid, &str)> {
        let keys = self.keys.iter().take(keys).cycle();
        let operations = self.operations.iter().copied();
        operations.zip(keys.map(String::as_str))
    }
}

/// With the whole work of `make` in a task of its own; the time for all of them.
async fn timed<F>(
    work: &Arc<Work>,
    keys: usize,
    make: impl Fn(OperationUuid, String) -> F,
) -> Duration
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    let started = Instant::now();
    for (operation, key) in work.tasks(keys) {
        tasks.spawn(make(operation, key.to_owned()));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    started.elapsed()
}

async fn by_queue(work: &Arc<Work>, keys: usize) -> Duration {
    let queues = Queues::default();
    timed(work, keys, |operation, key| {
        let queues = queues.clone();
        async move {
            let slot = queues.enter(entry(operation, &key)).unwrap().await.unwrap();
            drop(black_box(slot));
        }
    })
    .await
}

async fn by_lock(work: &Arc<Work>, keys: usize) -> Duration {
    let locks = Arc::new(Locks::new());
    timed(work, keys, |_, key| {
        let locks = Arc::clone(&locks);
        async move {
            let lock = locks.of(format!("{NOUN}/{key}"));
            drop(black_box(lock.lock().await));
        }
    })
    .await
}

fn entry(operation: OperationUuid, key: &str) -> Entry {
    Entry::new(Signature::of(NOUN, key), Level::SERIAL, operation)
}

/// The memory of a task that is in a queue.
fn bytes_per_task(work: &Work, keys: usize) -> f64 {
    let queues = Queues::default();
    let mut tickets: Vec<Ticket> = Vec::with_capacity(work.operations.len());
    let before = resident();
    tickets.extend(
        work.tasks(keys)
            .map(|(operation, key)| queues.enter(entry(operation, key)).unwrap()),
    );
    let taken = resident() - before;
    taken.max(0.0) / work.operations.len() as f64
}

/// What is left of each queue when all have come and gone, and others come and go, as they do in a
/// node: it is then that the allocator gives back what it kept.
async fn idle_bytes_per_key(work: &Work) -> f64 {
    let before = resident();
    let queues = Queues::default();
    let tickets: Vec<_> = work
        .tasks(work.keys.len())
        .map(|(operation, key)| queues.enter(entry(operation, key)).unwrap())
        .collect();
    drop(tickets);
    let (mut left, mut pauses) = (f64::MAX, tokio::time::interval(PAUSE));
    for _ in 0..GIVEN_BACK_IN {
        pauses.tick().await;
        for (operation, key) in work.tasks(SOME_KEYS) {
            drop(queues.enter(entry(operation, key)).unwrap());
        }
        left = left.min(resident() - before);
    }
    left.max(0.0) / work.keys.len() as f64
}

/// The memory that is resident now, in bytes.
fn resident() -> f64 {
    // The allocator keeps small pieces apart until a larger one is asked for.
    drop(black_box(vec![1_u8; 100_000]));
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<f64>().unwrap() * 1024.0
}

pub(crate) async fn run(tasks: usize) -> Value {
    let work = Arc::new(Work::new(tasks));
    let idle = idle_bytes_per_key(&work).await;
    let bytes = [1, SOME_KEYS, tasks].map(|keys| bytes_per_task(&work, keys));
    // The least of some rounds, in turns: other work on the machine only ever adds.
    let [mut hot, mut some, mut many, mut lock] = [Duration::MAX; 4];
    for _ in 0..ROUNDS {
        hot = hot.min(by_queue(&work, 1).await);
        some = some.min(by_queue(&work, SOME_KEYS).await);
        lock = lock.min(by_lock(&work, SOME_KEYS).await);
        many = many.min(by_queue(&work, tasks).await);
    }
    let each = |time: Duration| time.as_secs_f64() * 1e9 / tasks as f64;
    json!({
        "ns_per_task_hot": each(hot),
        "ns_per_task_10k": each(some),
        "ns_per_task_1m": each(many),
        "mutex_ns": each(lock),
        "ratio": each(some) / each(lock),
        "bytes_per_task_hot": bytes[0],
        "bytes_per_task_10k": bytes[1],
        "bytes_per_task_1m": bytes[2],
        "idle_bytes_per_key": idle,
        "tasks": tasks,
    })
}
