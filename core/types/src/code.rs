//! Error codes: stable, few, documented. What a program may depend on when a call fails.

use std::{error::Error, fmt, fmt::Write as _, time::Duration};

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $variant:ident = $text:literal;)*) => {
        /// A stable error code. Its text never changes once released; the list only grows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[doc = $doc])* $variant,)*
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as it appears on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// What the code means and what to do about it.
            #[must_use]
            pub fn help(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc,)*).trim_ascii(),)* }
            }
        }
    };
}

codes! {
    /// A field of the request is wrong; the details name each field and what would be right.
    InvalidArgument = "INVALID_ARGUMENT";
    /// There is no resource with that uuid or name, or the caller may not see it.
    NotFound = "NOT_FOUND";
    /// There is a resource with that uuid already.
    AlreadyExists = "ALREADY_EXISTS";
    /// Other resources refer to the one that was to be deleted; delete those first.
    InUse = "IN_USE";
    /// The resource is in a state that forbids the operation; the message names both.
    WrongState = "WRONG_STATE";
    /// By now something else would have to be done than the cascade plan shows; make a new plan.
    PlanOutdated = "PLAN_OUTDATED";
    /// An enforcing cascade had to leave resources; the plan names each, and why.
    CascadeIncomplete = "CASCADE_INCOMPLETE";
    /// No host, address or storage has enough left; the message says of what and how much.
    OutOfCapacity = "OUT_OF_CAPACITY";
    /// The idempotency key was used for another request; take a new key.
    IdempotencyKeyReused = "IDEMPOTENCY_KEY_REUSED";
    /// The operation was cancelled by request.
    Cancelled = "CANCELLED";
    /// The operation or call did not end within its time limit.
    DeadlineExceeded = "DEADLINE_EXCEEDED";
    /// The credential is missing, wrong or no longer good.
    Unauthenticated = "UNAUTHENTICATED";
    /// The credential is good, but not for this call.
    PermissionDenied = "PERMISSION_DENIED";
    /// There is no such method or resource type here.
    Unimplemented = "UNIMPLEMENTED";
    /// Too much is under way at once; try again later.
    Overloaded = "OVERLOADED";
    /// A part of the cloud cannot be reached now; try again later.
    Unavailable = "UNAVAILABLE";
    /// The host's agent cannot be reached.
    AgentUnreachable = "AGENT_UNREACHABLE";
    /// The host's agent refused or failed a command; the message has its words.
    AgentFailed = "AGENT_FAILED";
    /// A backup storage refused or failed what was asked of it; the message says what to do there.
    StorageFailed = "STORAGE_FAILED";
    /// It is past undoing and could not be finished; the gc-job that is named goes on with it.
    LeftToGc = "LEFT_TO_GC";
    /// The operation and others would wait for each other for ever; the message names them all. Try
    /// again when they have ended.
    WaitCycle = "WAIT_CYCLE";
    /// The database failed.
    Store = "STORE";
    /// A fault in Cairn itself; the log has more.
    Internal = "INTERNAL";
}

impl ErrorCode {
    /// The code with that text.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error that knows its stable code. Each crate's error enum is one.
pub trait Coded: Error + Send + Sync + 'static {
    /// The code that the caller sees.
    fn code(&self) -> ErrorCode;

    /// The fields of the request that are wrong: which, and what is wrong with what would be
    /// right. None unless the error is about fields.
    fn fields(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// When to try again, of an error that goes away by itself; none if that cannot be said.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// An error with all its causes, in one line: for the one place that logs it.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let _ = write!(text, ": {next}");
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_help_and_a_text_of_its_own() {
        for (i, code) in ErrorCode::ALL.iter().enumerate() {
            assert!(code.help().ends_with('.'), "{code} has no help");
            assert_eq!(ErrorCode::from_text(code.as_str()), Some(*code));
            assert!(
                ErrorCode::ALL[..i]
                    .iter()
                    .all(|other| other.as_str() != code.as_str())
            );
        }
    }

    #[test]
    fn the_page_of_codes_has_each_with_its_help_and_no_other() {
        let page = include_str!("../../../docs/errors.md");
        // The first table of the page; there are others below it.
        let table = page.split("\n## ").next().unwrap_or_default();
        let rows: Vec<_> = table.lines().filter(|l| l.starts_with("| `")).collect();
        let row = |code: &ErrorCode| format!("| `{code}` | {} |", code.help());
        let expected: Vec<_> = ErrorCode::ALL.iter().map(row).collect();
        assert_eq!(rows, expected);
    }
}
