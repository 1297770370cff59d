//! What a delete does to what can be kept.

use std::time::Duration;

use cairn_boot::{Problems, Spanned};
use cairn_resource::DeletionPolicy;
use serde::Deserialize;

/// What the deletion of virtual machines and images does.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeletionConfig {
    /// What the deletion of a virtual machine does.
    pub vm_instance: PolicyName,
    /// How long a virtual machine is kept with the policy `delay`, in seconds; at least 1.
    pub vm_instance_kept_secs: Spanned<u64>,
    /// What the deletion of an image does.
    pub image: PolicyName,
    /// How long an image is kept with the policy `delay`, in seconds; at least 1.
    pub image_kept_secs: Spanned<u64>,
    /// The pause between two looks for what is to be expunged, in seconds; 1 to 86,400.
    pub expunge_interval_secs: Spanned<u64>,
}

/// The name of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyName {
    /// It is gone at once.
    #[default]
    Direct,
    /// It can be recovered for a time.
    Delay,
    /// It is kept for good.
    Never,
}

impl PolicyName {
    fn kept(self, secs: &Spanned<u64>) -> DeletionPolicy {
        match self {
            Self::Direct => DeletionPolicy::Direct,
            Self::Delay => DeletionPolicy::Delay(Duration::from_secs(*secs.get_ref())),
            Self::Never => DeletionPolicy::Never,
        }
    }
}

impl Default for DeletionConfig {
    fn default() -> Self {
        Self {
            vm_instance: PolicyName::Direct,
            vm_instance_kept_secs: Spanned::new(0..0, 7 * 24 * 60 * 60),
            image: PolicyName::Direct,
            image_kept_secs: Spanned::new(0..0, 3 * 24 * 60 * 60),
            expunge_interval_secs: Spanned::new(0..0, 60 * 60),
        }
    }
}

impl DeletionConfig {
    pub(crate) fn of_vm_instances(&self) -> DeletionPolicy {
        self.vm_instance.kept(&self.vm_instance_kept_secs)
    }

    pub(crate) fn of_images(&self) -> DeletionPolicy {
        self.image.kept(&self.image_kept_secs)
    }

    pub(crate) fn expunge_interval(&self) -> Duration {
        Duration::from_secs(*self.expunge_interval_secs.get_ref())
    }

    pub(super) fn check(&self, problems: &mut Problems<'_>) {
        for kept in [&self.vm_instance_kept_secs, &self.image_kept_secs] {
            if *kept.get_ref() == 0 {
                problems.at(kept, "is 0", "use 1 or more, or the policy direct");
            }
        }
        if !(1..=86_400).contains(self.expunge_interval_secs.get_ref()) {
            let remedy = "use 1 to 86400";
            problems.at(&self.expunge_interval_secs, "is out of range", remedy);
        }
    }
}
