//! Flows of closures, for work that leaves nothing outside of the process.

use std::any::type_name;

use cairn_operation::OperationContext;
use cairn_proto::fault::Fault;
use cairn_store::BoxFuture;

type Action<'a, T> =
    Box<dyn for<'t> Fn(&'t mut T) -> BoxFuture<'t, Result<(), Fault>> + Send + Sync + 'a>;

struct Closures<'a, T> {
    name: &'static str,
    run: Action<'a, T>,
    rollback: Option<Action<'a, T>>,
}

/// Steps over local variables: nothing of it is logged, and with the process it is gone. So its
/// steps take only what goes with the process too, or what somebody else gives back.
///
/// The steps share a value, which each of them may change, and may use whatever else they borrow.
/// When one fails, it and those before it are rolled back in reverse order, and what cannot be
/// rolled back is said in the causes of the fault.
///
/// ```
/// use cairn_flow::Ephemeral;
/// use cairn_proto::fault::Fault;
/// use cairn_types::ErrorCode;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let most = 1;
/// let probe = Ephemeral::new()
///     .step("reserve", |ports: &mut Vec<u16>| {
///         Box::pin(async move {
///             ports.push(7000);
///             Ok(())
///         })
///     })
///     .rollback(|ports| {
///         Box::pin(async move {
///             ports.pop();
///             Ok(())
///         })
///     })
///     .step("check", move |ports| {
///         Box::pin(async move {
///             if ports.len() >= most {
///                 return Err(Fault::new(ErrorCode::OutOfCapacity, "no port is left"));
///             }
///             Ok(())
///         })
///     });
/// let mut ports = Vec::new();
/// let fault = probe.run(&mut ports).await.unwrap_err();
/// assert_eq!(fault.rolled_back, ["check", "reserve"]);
/// assert!(ports.is_empty());
/// # }
/// ```
pub struct Ephemeral<'a, T> {
    steps: Vec<Closures<'a, T>>,
}

impl<T> std::fmt::Debug for Ephemeral<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let steps: Vec<_> = self.steps.iter().map(|step| step.name).collect();
        f.debug_struct("Ephemeral")
            .field("over", &type_name::<T>())
            .field("steps", &steps)
            .finish()
    }
}

impl<T> Default for Ephemeral<'_, T> {
    fn default() -> Self {
        Self { steps: Vec::new() }
    }
}

impl<'a, T: Send> Ephemeral<'a, T> {
    /// One without steps.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step without a rollback.
    #[must_use]
    pub fn step<F>(mut self, name: &'static str, run: F) -> Self
    where
        F: for<'t> Fn(&'t mut T) -> BoxFuture<'t, Result<(), Fault>> + Send + Sync + 'a,
    {
        self.steps.push(Closures {
            name,
            run: Box::new(run),
            rollback: None,
        });
        self
    }

    /// Says how the last step is undone, also when it failed half-way.
    #[must_use]
    pub fn rollback<F>(mut self, rollback: F) -> Self
    where
        F: for<'t> Fn(&'t mut T) -> BoxFuture<'t, Result<(), Fault>> + Send + Sync + 'a,
    {
        if let Some(last) = self.steps.last_mut() {
            last.rollback = Some(Box::new(rollback));
        }
        self
    }

    /// Runs the steps.
    ///
    /// # Errors
    /// The fault of a step, after it and those before it were rolled back.
    pub async fn run(&self, local: &mut T) -> Result<(), Fault> {
        self.run_while(|| Ok(()), local).await
    }

    /// Runs the steps for an operation: a cancel, or the end of its time, takes effect between two
    /// of them.
    ///
    /// # Errors
    /// As [`Ephemeral::run`]; or why the operation should not go on.
    pub async fn run_for(&self, cx: &OperationContext, local: &mut T) -> Result<(), Fault> {
        self.run_while(|| cx.check_cancelled(), local).await
    }

    async fn run_while(
        &self,
        check: impl Fn() -> Result<(), Fault> + Send + Sync,
        local: &mut T,
    ) -> Result<(), Fault> {
        for (index, step) in self.steps.iter().enumerate() {
            let (done, fault) = match check() {
                Err(fault) => (index, fault),
                Ok(()) => match (step.run)(local).await {
                    Ok(()) => continue,
                    Err(fault) => (index + 1, fault),
                },
            };
            return Err(self.back(done, fault, local).await);
        }
        Ok(())
    }

    /// Undoes the first `done` steps.
    async fn back(&self, done: usize, mut fault: Fault, local: &mut T) -> Fault {
        for step in self.steps[..done].iter().rev() {
            if let Some(rollback) = &step.rollback {
                if let Err(failed) = rollback(local).await {
                    let cause = format!("{} is not rolled back: {}", step.name, failed.message);
                    fault.causes.push(cause);
                    continue;
                }
            }
            fault.rolled_back.push(step.name.to_owned());
        }
        fault
    }
}
