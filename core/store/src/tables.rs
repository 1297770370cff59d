//! The statements that read and write each resource's rows, made once from its descriptor.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use cairn_proto::meta::{Catalog, ResourceType};

use crate::StoreError;

/// The resources that have a table in this database.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) catalog: Arc<Catalog>,
    by_noun: HashMap<String, Table>,
    /// The statements that clear the references to a resource of each noun. Each takes its uuid.
    clears: HashMap<String, Vec<String>>,
}

/// A resource and the statements of its rows. Columns stand in the order of `resource.fields`.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) resource: Arc<ResourceType>,
    /// Up to and with the table's name: `SELECT … FROM "zone"`.
    pub(crate) select: String,
    /// The row of a uuid.
    pub(crate) get: String,
    pub(crate) insert: String,
    /// Where its references are among its fields.
    pub(crate) references: Vec<usize>,
    /// Takes the values of its references and returns one that is going, if there is one.
    pub(crate) going: String,
    /// Both in one: takes the values of its references once more, as its last, and returns one that
    /// is going, or null.
    pub(crate) insert_looking: String,
    /// Takes the uuid once more, as its last value.
    pub(crate) update: String,
    pub(crate) delete: String,
}

impl Tables {
    pub(crate) fn new(catalog: Arc<Catalog>, existing: &HashSet<String>) -> Self {
        let resources = catalog.resources();
        let by_noun: HashMap<_, _> = resources
            .filter(|resource| existing.contains(&resource.table))
            .map(|resource| (resource.name.clone(), Table::new(Arc::clone(resource))))
            .collect();
        let mut clears: HashMap<_, Vec<_>> = HashMap::new();
        for Table { resource, .. } in by_noun.values() {
            for field in resource.fields.iter().filter(|f| f.on_delete.clears()) {
                let (table, field, noun) = (&resource.table, &field.name, &field.references);
                let sql =
                    format!("UPDATE \"{table}\" SET \"{field}\" = NULL WHERE \"{field}\" = ?");
                let noun = noun.clone().unwrap_or_default();
                clears.entry(noun).or_default().push(sql);
            }
        }
        Self {
            catalog,
            by_noun,
            clears,
        }
    }

    /// The statements that clear the references to a resource of that noun, whose uuid they take.
    pub(crate) fn clears(&self, noun: &str) -> &[String] {
        self.clears.get(noun).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn get(&self, noun: &str) -> Result<&Table, StoreError> {
        let table = self.by_noun.get(noun);
        table.ok_or_else(|| StoreError::NoTable(noun.to_owned()))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Table> {
        self.by_noun.values()
    }

    /// Counts the rows that refer to a resource, of each type that can: noun, count. Those that go
    /// together with it do not count, nor references that are cleared with it, if it is going. The
    /// second part is how often the uuid is to be bound. None if no type can.
    pub(crate) fn count_referrers(&self, noun: &str) -> Option<(String, usize)> {
        let mut conditions: Vec<(&str, &str, Vec<String>)> = Vec::new();
        let mut values = 0;
        for (resource, field) in self.catalog.referrers(noun) {
            if !self.by_noun.contains_key(&resource.name) {
                continue;
            }
            let mut condition = format!("\"{}\".\"{}\" = ?", resource.table, field.name);
            values += 1;
            if field.on_delete.clears() {
                condition += " AND NOT EXISTS \
                              (SELECT 1 FROM going WHERE resource_uuid = ? AND held = 0)";
                values += 1;
            }
            match conditions.last_mut() {
                Some((name, _, all)) if *name == resource.name => all.push(condition),
                _ => conditions.push((&resource.name, &resource.table, vec![condition])),
            }
        }
        values += conditions.len();
        let counts = conditions.iter().map(|(name, table, all)| {
            let any = all.join(" OR ");
            format!(
                "SELECT '{name}', COUNT(*) FROM \"{table}\" WHERE ({any}) AND NOT EXISTS \
                 (SELECT 1 FROM going WHERE resource_uuid = \"{table}\".uuid AND held = 0 \
                 AND plan_uuid = (SELECT plan_uuid FROM going WHERE resource_uuid = ?))"
            )
        });
        let sql = counts.collect::<Vec<_>>().join(" UNION ALL ");
        (values > 0).then_some((sql, values))
    }
}

impl Table {
    fn new(resource: Arc<ResourceType>) -> Self {
        let table = &resource.table;
        let each = |format: fn(&str, &str) -> String| {
            let fields = resource.fields.iter();
            let all: Vec<_> = fields.map(|field| format(table, &field.name)).collect();
            all.join(", ")
        };
        // Quoted, since a plugin may call a field `order`; and with the table's name, since
        // SQLite takes a quoted name that is no column for a text.
        let read = each(|table, name| format!("\"{table}\".\"{name}\""));
        let columns = each(|_, name| format!("\"{name}\""));
        let marks = each(|_, _| "?".to_owned());
        let set = each(|_, name| format!("\"{name}\" = ?"));
        let fields = resource.fields.iter().enumerate();
        let references: Vec<_> = fields
            .filter(|(_, field)| field.references.is_some())
            .map(|(place, _)| place)
            .collect();
        let insert = format!("INSERT INTO \"{table}\" ({columns}) VALUES ({marks})");
        // Not `IN`: for that SQLite makes a table of the values, each time.
        let going = "SELECT resource_uuid FROM going WHERE resource_uuid = ? AND held = 0";
        let going = vec![going; references.len()].join(" UNION ALL ");
        Self {
            select: format!("SELECT {read} FROM \"{table}\""),
            get: format!("SELECT {read} FROM \"{table}\" WHERE uuid = ?"),
            insert_looking: format!("{insert} RETURNING ({going} LIMIT 1)"),
            insert,
            references,
            going,
            update: format!("UPDATE \"{table}\" SET {set} WHERE uuid = ?"),
            delete: format!("DELETE FROM \"{table}\" WHERE uuid = ?"),
            resource,
        }
    }

    /// `condition` is what stands behind WHERE; empty for all rows.
    pub(crate) fn select_where(&self, condition: &str) -> String {
        match condition {
            "" => self.select.clone(),
            _ => format!("{} WHERE {condition}", self.select),
        }
    }
}
