//! What may be a finding, as those who find it write it down.

use cairn_proto::doctor::{
    ext::v1alpha1 as ext,
    v1alpha1::{Finding, Problem},
};

/// What is a finding unless an operation is at it.
///
/// ```
/// use cairn_inspect::Suspect;
///
/// let suspect = Suspect::extra("tap", "tap0123456789ab", "its virtual machine does not run")
///     .of("vm-nic", "01890a5d-ac96-774b-bcce-b302099a8057")
///     .concerns("01890a5d-ac96-774b-bcce-000000000000");
/// assert_eq!(suspect.finding().owner_type, "vm-nic");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Suspect {
    finding: Finding,
    concerned: Vec<String>,
}

impl Suspect {
    /// A thing that is there, and nothing says that it should be. `kind` is a word in kebab-case,
    /// `identity` tells the thing from others of its kind, `detail` says to people what was seen.
    pub fn extra(kind: &str, identity: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Problem::Extra, kind, identity.into(), detail.into())
    }

    /// A thing that should be there, and is not; see [`Suspect::extra`].
    pub fn missing(kind: &str, identity: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Problem::Missing, kind, identity.into(), detail.into())
    }

    /// A thing that is there otherwise than it should be; see [`Suspect::extra`].
    pub fn differs(kind: &str, identity: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Problem::Differs, kind, identity.into(), detail.into())
    }

    /// The resource that it belongs to. Without one, nobody owns it.
    #[must_use]
    pub fn of(mut self, noun: &str, uuid: impl Into<String>) -> Self {
        self.finding.owner_type = noun.to_owned();
        self.finding.owner_uuid = uuid.into();
        self
    }

    /// A resource that has to do with it, beside its owner and its host.
    #[must_use]
    pub fn concerns(mut self, uuid: impl Into<String>) -> Self {
        self.concerned.push(uuid.into());
        self
    }

    /// As it would be told.
    #[must_use]
    pub fn finding(&self) -> &Finding {
        &self.finding
    }

    pub(crate) fn on_host(mut self, host: &str) -> Self {
        self.finding.host_uuid = host.to_owned();
        self
    }

    pub(crate) fn into_message(self) -> ext::Suspect {
        ext::Suspect {
            finding: Some(self.finding),
            concerned_uuids: self.concerned,
        }
    }

    fn new(problem: Problem, kind: &str, identity: String, detail: String) -> Self {
        Self {
            finding: Finding {
                kind: kind.to_owned(),
                problem: problem.into(),
                identity,
                detail,
                ..Finding::default()
            },
            concerned: Vec::new(),
        }
    }
}
