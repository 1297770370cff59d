//! What the requests that create, change and delete resources have in common; implemented by
//! generated code, so that checks and plain rows need no code per resource.

use cairn_types::{InvalidUuid, Uuid};
use prost::Message;

use crate::{
    fault::Fault,
    meta::{Catalog, Resource, enum_names},
};

/// The longest name, in characters.
pub const NAME_MAX: usize = 255;
/// The longest description, in characters.
pub const DESCRIPTION_MAX: usize = 2_048;

/// A request about one resource.
pub trait Keyed: Message + Default + Clone + 'static {
    /// The uuid of the resource.
    fn key(&self) -> &str;
    /// Checks what can be checked without looking anything up.
    fn check(&self, check: &mut Check);
    /// Other resources that it names.
    fn references(&self) -> Vec<Reference<'_>>;
}

/// A request that creates a resource.
pub trait Create: Keyed {
    /// What it creates.
    type Resource: Resource;
    /// The resource, with what the request says of it.
    fn resource(&self) -> Self::Resource;
}

/// A request that changes a resource.
pub trait Update: Keyed {
    /// What it changes.
    type Resource: Resource;
    /// Sets what the request gives.
    fn apply(&self, resource: &mut Self::Resource);
}

/// A request that deletes a resource.
pub trait Delete: Keyed {
    /// What it deletes.
    type Resource: Resource;
}

/// A field of a request that names a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference<'a> {
    /// The field.
    pub field: &'static str,
    /// The noun of what it names.
    pub noun: &'static str,
    /// What it names.
    pub uuid: &'a str,
}

/// Collects what is wrong with a request, so that its sender learns of everything at once.
///
/// ```
/// use cairn_proto::crud::Check;
///
/// let mut check = Check::default();
/// check.name("name", "");
/// check.uuid("zone_uuid", "east");
/// let fault = check.finish().unwrap_err();
/// assert_eq!(fault.fields[0].0, "name");
/// assert_eq!(fault.fields[1].0, "zone_uuid");
/// ```
#[derive(Debug, Default)]
pub struct Check {
    problems: Vec<(String, String)>,
}

impl Check {
    /// `field` is wrong: what is, and what would be right.
    pub fn refuse(&mut self, field: &str, problem: impl Into<String>) {
        self.problems.push((field.to_owned(), problem.into()));
    }

    /// A uuid in its canonical form.
    pub fn uuid(&mut self, field: &str, text: &str) {
        let canonical = Uuid::try_parse(text).is_ok_and(|uuid| uuid.to_string() == text);
        if text.is_empty() {
            self.refuse(field, "is missing; give a uuid");
        } else if !canonical {
            self.refuse(field, InvalidUuid(text.to_owned()).to_string());
        }
    }

    /// A name: 1 to [`NAME_MAX`] characters, none of them a control character.
    pub fn name(&mut self, field: &str, text: &str) {
        let length = text.chars().count();
        if text.trim().is_empty() {
            self.refuse(field, format!("is empty; give 1 to {NAME_MAX} characters"));
        } else if length > NAME_MAX {
            self.refuse(
                field,
                format!("has {length} characters; {NAME_MAX} is the most"),
            );
        } else if text.chars().any(char::is_control) {
            self.refuse(field, "has control characters; give printable text");
        }
    }

    /// A description: at most [`DESCRIPTION_MAX`] characters.
    pub fn description(&mut self, field: &str, text: &str) {
        let length = text.chars().count();
        if length > DESCRIPTION_MAX {
            self.refuse(
                field,
                format!("has {length} characters; {DESCRIPTION_MAX} is the most"),
            );
        }
    }

    /// A value of the enum of that full name, other than its zero.
    pub fn one_of(&mut self, field: &str, value: i32, name: &str) {
        let names = Catalog::built_in()
            .pool()
            .get_enum_by_name(name)
            .map(|e| enum_names(&e));
        let Some(names) = names else { return };
        if value == 0 || names.name(value).is_none() {
            let all: Vec<_> = names.names().collect();
            let problem = if value == 0 {
                "is missing".to_owned()
            } else {
                format!("is {value}")
            };
            self.refuse(field, format!("{problem}; give one of {}", all.join(", ")));
        }
    }

    /// A number within bounds.
    pub fn within(&mut self, field: &str, value: u64, least: u64, most: u64) {
        if !(least..=most).contains(&value) {
            self.refuse(field, format!("is {value}; give {least} to {most}"));
        }
    }

    /// What was found.
    ///
    /// # Errors
    /// A fault that names every wrong field.
    pub fn finish(self) -> Result<(), Fault> {
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(Fault::fields(self.problems))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::v1alpha1::{CreateClusterRequest, HypervisorType, UpdateZoneRequest, Zone};

    fn problems(request: &impl Keyed) -> Vec<(String, String)> {
        let mut check = Check::default();
        request.check(&mut check);
        check
            .finish()
            .err()
            .map(|fault| fault.fields)
            .unwrap_or_default()
    }

    #[test]
    fn every_wrong_field_is_named_with_what_would_be_right() {
        let fields = problems(&CreateClusterRequest {
            name: "x".repeat(256),
            ..Default::default()
        });
        let fields: Vec<_> = fields.iter().map(|(f, p)| format!("{f} {p}")).collect();
        assert_eq!(
            fields,
            [
                "uuid is missing; give a uuid",
                "name has 256 characters; 255 is the most",
                "zone_uuid is missing; give a uuid",
                "hypervisor_type is missing; give one of Kvm, Simulator",
            ]
        );
    }

    #[test]
    fn a_request_becomes_its_resource() {
        let uuid = Uuid::now_v7().to_string();
        let request = CreateClusterRequest {
            uuid: uuid.clone(),
            name: "c".into(),
            zone_uuid: uuid.clone(),
            hypervisor_type: HypervisorType::Kvm.into(),
            ..Default::default()
        };
        assert_eq!(problems(&request), []);
        let cluster = request.resource();
        assert_eq!(
            (cluster.uuid, cluster.zone_uuid),
            (uuid.clone(), uuid.clone())
        );
        assert_eq!(
            request.references(),
            [Reference {
                field: "zone_uuid",
                noun: "zone",
                uuid: &uuid
            }]
        );
    }

    #[test]
    fn an_update_leaves_what_it_does_not_give() {
        let mut zone = Zone {
            name: "a".into(),
            description: "d".into(),
            ..Default::default()
        };
        UpdateZoneRequest {
            name: Some("b".into()),
            ..Default::default()
        }
        .apply(&mut zone);
        assert_eq!((zone.name.as_str(), zone.description.as_str()), ("b", "d"));
    }
}
