//! What may be a finding, as those who find it write it down.

use cairn_agent_protocol::Stray;
use cairn_proto::{
    compute::v1alpha1::Host,
    doctor::{
        ext::v1alpha1 as ext,
        v1alpha1::{Finding, Problem, Remedy},
    },
    fault::Fault,
    meta::Resource as _,
};
use cairn_types::ErrorCode;

use crate::Depot;

/// What is told where nobody said better.
const ADVICE: &str = "nothing here knows how to put it right";

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
///
/// It says what is done about it, too: its host removes it ([`Suspect::remove`]), the service that
/// tells of it makes it right ([`Suspect::repair`], [`Inspect::repair`](crate::Inspect::repair)), or
/// a person has to decide, and is told how ([`Suspect::advise`]).
///
/// ```
/// use cairn_agent_protocol::Stray;
/// use cairn_inspect::Suspect;
/// use cairn_proto::doctor::v1alpha1::Remedy;
///
/// let name = "tap0123456789ab".to_owned();
/// let tap = Suspect::extra("tap", &name, "it is of a nic that there is none of");
/// let tap = tap.remove(Stray::Tap { name });
/// assert_eq!(tap.finding().remedy(), Remedy::Remove);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Suspect {
    finding: Finding,
    concerned: Vec<String>,
    stray: Option<Stray>,
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

    /// A resource that has to do with it, beside its owner and its host or depot.
    #[must_use]
    pub fn concerns(mut self, uuid: impl Into<String>) -> Self {
        self.concerned.push(uuid.into());
        self
    }

    /// Its host is told to remove this, and then it is right. While that is done, no operation of its
    /// owner runs; of one that nobody owns, none of its host: see [`Suspect::queued_at`].
    #[must_use]
    pub fn remove(mut self, stray: Stray) -> Self {
        self.finding.set_remedy(Remedy::Remove);
        self.stray = Some(stray);
        self
    }

    /// The service that tells of it makes it right.
    #[must_use]
    pub fn repair(mut self) -> Self {
        self.finding.set_remedy(Remedy::Repair);
        self
    }

    /// No program puts it right; `advice` is what a person can do.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.finding.set_remedy(Remedy::None);
        self.finding.advice = advice.into();
        self
    }

    /// The resource whose operations do not run while it is put right, if that is neither its owner
    /// nor, where it has none, its host or its depot. It need not be there.
    #[must_use]
    pub fn queued_at(mut self, noun: &str, uuid: impl Into<String>) -> Self {
        self.finding.queue_type = noun.to_owned();
        self.finding.queue_uuid = uuid.into();
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

    pub(crate) fn in_depot(mut self, depot: &Depot) -> Self {
        self.finding.depot_type.clone_from(&depot.noun);
        self.finding.depot_uuid.clone_from(&depot.uuid);
        self
    }

    pub(crate) fn into_message(mut self) -> Result<ext::Suspect, Fault> {
        let finding = &mut self.finding;
        if finding.queue_uuid.is_empty() {
            let (noun, uuid) = if !finding.owner_uuid.is_empty() {
                (&*finding.owner_type, &finding.owner_uuid)
            } else if !finding.depot_uuid.is_empty() {
                (&*finding.depot_type, &finding.depot_uuid)
            } else {
                (Host::NOUN, &finding.host_uuid)
            };
            (finding.queue_type, finding.queue_uuid) = (noun.to_owned(), uuid.clone());
        }
        if finding.remedy() == Remedy::None && finding.advice.is_empty() {
            finding.advice = ADVICE.to_owned();
        }
        let stray = self.stray.as_ref().map(serde_json::to_string).transpose();
        let stray = stray.map_err(|cause| {
            let message = format!("what is to be removed cannot be written down: {cause}");
            Fault::new(ErrorCode::Internal, message)
        })?;
        Ok(ext::Suspect {
            finding: Some(self.finding),
            concerned_uuids: self.concerned,
            stray: stray.unwrap_or_default(),
        })
    }

    fn new(problem: Problem, kind: &str, identity: String, detail: String) -> Self {
        Self {
            finding: Finding {
                kind: kind.to_owned(),
                problem: problem.into(),
                remedy: Remedy::None.into(),
                identity,
                detail,
                ..Finding::default()
            },
            concerned: Vec::new(),
            stray: None,
        }
    }
}
