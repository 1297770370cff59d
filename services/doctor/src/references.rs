//! References of rows to rows that are not there: of every type of resource, also those of plugins,
//! for its descriptor says what it refers to.

use std::sync::Arc;

use cairn_agent_protocol::HostInventory;
use cairn_inspect::{Inspect, Place, Suspect};
use cairn_proto::{
    fault::Fault,
    meta::{Field, Resource as _, ResourceType},
    operation::v1alpha1::Operation,
};
use cairn_store::Store;
use tonic::async_trait;

/// The part of those who look at all tables.
pub(crate) struct References(pub(crate) Store);

#[async_trait]
impl Inspect for References {
    async fn host(&self, _: &Place, _: &HostInventory) -> Result<Vec<Suspect>, Fault> {
        Ok(Vec::new())
    }

    async fn books(&self) -> Result<Vec<Suspect>, Fault> {
        let mut suspects = Vec::new();
        let mut resources: Vec<_> = self.0.resources().collect();
        resources.sort_by(|one, other| one.name.cmp(&other.name));
        for resource in resources {
            for field in &resource.fields {
                suspects.extend(self.dangling(resource, field).await?);
            }
        }
        Ok(suspects)
    }
}

impl References {
    /// The rows whose field names a row that is not there.
    async fn dangling(
        &self,
        resource: &ResourceType,
        field: &Field,
    ) -> Result<Vec<Suspect>, Fault> {
        let Some(target) = self.target(resource, field) else {
            return Ok(Vec::new());
        };
        let (from, to, column) = (&resource.table, &target.table, &field.name);
        let sql = format!(
            "SELECT a.uuid, a.{column} FROM {from} a LEFT JOIN {to} b ON b.uuid = a.{column} \
             WHERE a.{column} IS NOT NULL AND a.{column} <> '' AND b.uuid IS NULL \
             ORDER BY a.uuid"
        );
        let mut suspects = Vec::new();
        for row in self.0.rows(&sql, Vec::new()).await? {
            let (uuid, missing) = (row.text(0)?, row.text(1)?);
            let detail = format!(
                "{} {uuid} refers to {} {missing}, which is not there",
                resource.name, target.name
            );
            let identity = format!("{uuid} {}", field.json_name);
            let suspect = Suspect::differs("reference", identity, detail);
            let advice = format!(
                "delete {} {uuid}, unless {} {missing} is to be made again",
                resource.name, target.name
            );
            let suspect = suspect.advise(advice);
            suspects.push(suspect.of(&resource.name, uuid).concerns(missing));
        }
        Ok(suspects)
    }

    /// The type that a field refers to, if all of it is kept. Operations are forgotten after a day,
    /// and cascade plans and operations tell of what is gone.
    fn target(&self, resource: &ResourceType, field: &Field) -> Option<Arc<ResourceType>> {
        let noun = field.references.as_deref()?;
        let kept = noun != Operation::NOUN && self.0.has_table(noun) && !field.secret;
        let target = self.0.catalog().resource(noun).filter(|_| kept)?;
        (resource.name != Operation::NOUN).then(|| Arc::clone(target))
    }
}
