//! A request that does something, made from its descriptor: what it refers to is there, what it
//! must say is said.

use std::collections::BTreeMap;

use cairn_node::Node;
use cairn_proto::meta::{Catalog, option};
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _, Value,
};

/// What a request may be filled with, beyond what there is in the cloud.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Values by the names of fields.
    pub fields: BTreeMap<&'static str, Value>,
}

impl Known {
    /// A request of that type; `None` if it refers to what is not there, and says what.
    ///
    /// # Errors
    /// The noun of which there is none.
    pub async fn request(
        &self,
        node: &Node,
        catalog: &Catalog,
        message: MessageDescriptor,
    ) -> Result<DynamicMessage, String> {
        let mut request = DynamicMessage::new(message.clone());
        for field in message.fields() {
            if let Some(noun) = references(&field) {
                let uuid = newest(node, catalog, &noun).await;
                let uuid = uuid.ok_or_else(|| format!("there is no {noun}"))?;
                let value = Value::String(uuid);
                let value = if field.is_list() {
                    Value::List(vec![value])
                } else {
                    value
                };
                request.set_field(&field, value);
            } else if let Some(value) = self.fields.get(field.name()) {
                request.set_field(&field, value.clone());
            } else if field.name() == "name" && field.kind() == Kind::String {
                request.set_field(&field, Value::String("made".to_owned()));
            }
        }
        Ok(request)
    }
}

fn references(field: &FieldDescriptor) -> Option<String> {
    let rules = option(&field.options(), "cairn.meta.v1alpha1.field")?;
    let noun = rules.get_field_by_name("references")?.as_str()?.to_owned();
    (!noun.is_empty()).then_some(noun)
}

/// The uuid of the resource of that noun that was made last.
async fn newest(node: &Node, catalog: &Catalog, noun: &str) -> Option<String> {
    let table = &catalog.resource(noun)?.table;
    let sql = format!("SELECT uuid FROM {table} ORDER BY create_time DESC, uuid DESC LIMIT 1");
    let rows = node.store().rows(&sql, Vec::new()).await.unwrap();
    rows.first().map(|row| row.text(0).unwrap())
}

/// The first text in a message's first field: the operation of an accepted call.
#[must_use]
pub(super) fn accepted(event: &DynamicMessage) -> Option<String> {
    let accepted = event.descriptor().get_field_by_name("accepted")?;
    if !event.has_field(&accepted) {
        return None;
    }
    let accepted = event.get_field(&accepted);
    let uuid = accepted.as_message()?.get_field_by_name("operation_uuid")?;
    uuid.as_str().map(str::to_owned)
}
