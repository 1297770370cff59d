//! `cairn resources`: which resources there are, and their fields.

use cairn_proto::meta::{Catalog, ResourceType};
use prost_reflect::FieldDescriptor;
use serde_json::json;

use crate::{comment, error::CliError, table};

/// The fields with smaller numbers are those of every resource.
const FIRST_OWN: u32 = 10;
const OVERVIEW: &str = "
Every resource also has uuid, name, description, accountUuid, createTime and lastOperationTime.
`cairn resources RESOURCE` says what each field is and what it refers to.
";

/// All resources, or one with all that is known of its fields.
pub(crate) fn list(catalog: &Catalog, noun: Option<&str>, json: bool) -> Result<String, CliError> {
    let one = match noun {
        None => None,
        Some(noun) => Some(
            catalog
                .resource(noun)
                .ok_or_else(|| unknown(catalog, noun))?,
        ),
    };
    if json {
        let all = catalog.resources().map(|resource| as_json(resource));
        let value = match one {
            Some(resource) => as_json(resource),
            None => all.collect(),
        };
        return Ok(format!("{value:#}\n"));
    }
    Ok(match one {
        Some(resource) => fields(resource),
        None => overview(catalog),
    })
}

fn overview(catalog: &Catalog) -> String {
    let headings = ["resource", "plural", "fields"].map(str::to_owned).to_vec();
    let lines = catalog.resources().map(|resource| {
        let own = resource
            .fields
            .iter()
            .filter(|field| field.number >= FIRST_OWN);
        let own: Vec<_> = own.map(|field| field.json_name.as_str()).collect();
        vec![
            resource.name.clone(),
            resource.plural.clone(),
            wrapped(&own),
        ]
    });
    table::table(Some(headings), lines) + OVERVIEW
}

/// Names in lines of bounded width.
fn wrapped(words: &[&str]) -> String {
    let mut lines = vec![String::new()];
    for word in words {
        match lines.last_mut() {
            Some(last) if last.is_empty() => last.push_str(word),
            Some(last) if last.len() + word.len() < 70 => {
                last.push_str(", ");
                last.push_str(word);
            }
            _ => lines.push((*word).to_owned()),
        }
    }
    lines.join("\n")
}

fn fields(resource: &ResourceType) -> String {
    let headings = ["field", "type", "refers to", "what it is"];
    let lines = described(resource).map(|(field, references)| {
        vec![
            field.json_name().to_owned(),
            table::kind_text(&field),
            references.unwrap_or("-").to_owned(),
            comment::of_field(&field),
        ]
    });
    table::table(Some(headings.map(str::to_owned).to_vec()), lines)
}

fn described(resource: &ResourceType) -> impl Iterator<Item = (FieldDescriptor, Option<&str>)> {
    let fields = resource.fields.iter();
    fields.filter_map(|field| {
        let descriptor = resource.message.get_field(field.number)?;
        Some((descriptor, field.references.as_deref()))
    })
}

fn as_json(resource: &ResourceType) -> serde_json::Value {
    let fields: Vec<_> = described(resource)
        .map(|(field, references)| {
            json!({
                "name": field.json_name(),
                "type": table::kind_text(&field),
                "references": references,
                "description": comment::of_field(&field),
            })
        })
        .collect();
    json!({
        "name": resource.name,
        "plural": resource.plural,
        "message": resource.message.full_name(),
        "fields": fields,
    })
}

fn unknown(catalog: &Catalog, noun: &str) -> CliError {
    let all: Vec<_> = catalog.resources().map(|r| r.name.as_str()).collect();
    CliError::Usage(format!(
        "error: there is no resource `{noun}`; there are {}",
        all.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_listed() {
        let catalog = Catalog::built_in();
        let all = list(&catalog, None, false).unwrap();
        assert!(all.contains("zones") && all.contains("availableMemoryBytes"));
        assert_eq!(all.matches("accountUuid").count(), 1, "{all}");
        let zone = list(&catalog, Some("zone"), false).unwrap();
        assert!(zone.contains("Enabled | Disabled"), "{zone}");
        assert!(zone.contains("Whether new resources may be placed in it."));
        let json = list(&catalog, Some("cluster"), true).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let fields = json["fields"].as_array().unwrap();
        let zone = fields.iter().find(|field| field["name"] == "zoneUuid");
        assert_eq!(zone.unwrap()["references"], "zone");
        let error = list(&catalog, Some("zoen"), false).unwrap_err();
        assert!(error.to_string().contains("cluster, "));
    }
}
