//! What can be done: each public rpc as a noun and a verb, read from the descriptors.

use std::{collections::BTreeMap, sync::Arc};

use cairn_proto::meta::{Catalog, option};
use prost_reflect::{
    DescriptorPool, FieldDescriptor, MessageDescriptor, MethodDescriptor, ServiceDescriptor, Value,
};

const QUERY_SERVICE: &str = "cairn.query.v1alpha1.QueryService";
const QUERY: &str = "cairn.query.v1alpha1.Query";
const ACCEPTED: &str = "cairn.operation.v1alpha1.Accepted";
const OPERATION_EVENT: &str = "cairn.operation.v1alpha1.OperationEvent";
/// Words of the command line itself; nothing else may be called so.
const OWN_WORDS: [&str; 4] = ["completion", "help", "resources", "version"];

/// How an rpc is asked and how it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It changes something: accepted, progress, result.
    Operation,
    /// It takes a query and answers rows.
    Query,
    /// The query of all resources, for one that has none of its own.
    GenericQuery,
    /// It follows an operation.
    Watch,
    /// It answers messages until it ends.
    Stream,
    /// It answers a part of a log.
    Log,
    /// It takes a piece of a file.
    Upload,
    /// One answer.
    Unary,
}

/// How a file comes to a resource: see `UploadRules` of the contract.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    /// Takes a piece.
    pub(crate) piece: MethodDescriptor,
    /// Makes the resource, if that can be done without the file.
    pub(crate) create: Option<MethodDescriptor>,
    /// Checks the whole.
    pub(crate) complete: MethodDescriptor,
}

/// One rpc, as the command line names it.
#[derive(Debug, Clone)]
pub(crate) struct Action {
    /// The resource: `zone`.
    pub(crate) noun: String,
    /// What is done with it: `create`.
    pub(crate) verb: String,
    pub(crate) method: MethodDescriptor,
    pub(crate) kind: Kind,
    /// It takes a file, or makes what a file may be uploaded to.
    pub(crate) upload: Option<Upload>,
    /// Its noun is the command, without a verb.
    pub(crate) alone: bool,
    /// The list in its answer that had better be empty.
    pub(crate) complaint: Option<Complaint>,
}

/// A list that had better be empty.
#[derive(Debug, Clone)]
pub(crate) struct Complaint {
    pub(crate) list: FieldDescriptor,
    /// Puts one element of it right.
    pub(crate) fixed_by: Option<MethodDescriptor>,
}

impl Action {
    /// The field of the request that holds the query.
    pub(crate) fn query_field(&self) -> Option<FieldDescriptor> {
        query_field(&self.method.input())
    }
}

/// Everything that can be done.
pub(crate) struct Actions {
    pub(crate) catalog: Arc<Catalog>,
    /// By noun, then by verb.
    by_noun: BTreeMap<String, BTreeMap<String, Action>>,
}

impl Actions {
    /// What the services and resources of these descriptors offer.
    pub(crate) fn of(catalog: Arc<Catalog>) -> Self {
        let mut by_noun: BTreeMap<String, BTreeMap<String, Action>> = BTreeMap::new();
        let mut add = |action: Action| {
            if !OWN_WORDS.contains(&action.noun.as_str())
                && !OWN_WORDS.contains(&action.verb.as_str())
            {
                let verbs = by_noun.entry(action.noun.clone()).or_default();
                verbs.entry(action.verb.clone()).or_insert(action);
            }
        };
        let pool = catalog.pool();
        let services = pool.services().filter(offered);
        for (service, method) in services.flat_map(|s| methods(&s)) {
            let uploads: Vec<_> = service.methods().filter_map(|m| upload(&m)).collect();
            if uploads.iter().any(|upload| upload.complete == method) {
                // It ends an upload, and is called by who does one.
                continue;
            }
            let alone = is_alone(&method);
            if !alone && service.methods().any(|method| is_alone(&method)) {
                // The command does what it does.
                continue;
            }
            let of =
                |upload: &Upload| upload.piece == method || upload.create.as_ref() == Some(&method);
            let upload = uploads.into_iter().find(of);
            let takes = upload.as_ref().is_some_and(|upload| upload.piece == method);
            let noun = noun(&service, &catalog);
            let resource = catalog.resource(&noun);
            add(Action {
                verb: verb(&method, &noun, resource.map(|r| r.plural.as_str())),
                kind: if takes { Kind::Upload } else { kind(&method) },
                noun,
                alone,
                complaint: complaint(&method),
                method,
                upload,
            });
        }
        if let Some(method) = generic_query(pool) {
            for resource in catalog.resources() {
                add(Action {
                    noun: resource.name.clone(),
                    verb: "query".to_owned(),
                    method: method.clone(),
                    kind: Kind::GenericQuery,
                    upload: None,
                    alone: false,
                    complaint: None,
                });
            }
        }
        Self { catalog, by_noun }
    }

    /// The nouns with their verbs, sorted.
    pub(crate) fn nouns(&self) -> impl Iterator<Item = (&str, Vec<&Action>)> {
        let nouns = self.by_noun.iter();
        nouns.map(|(noun, verbs)| (noun.as_str(), verbs.values().collect()))
    }

    /// The verbs with the actions of each, sorted. A word that is a noun is no verb.
    pub(crate) fn verbs(&self) -> BTreeMap<&str, Vec<&Action>> {
        let mut verbs: BTreeMap<&str, Vec<&Action>> = BTreeMap::new();
        let all = self.by_noun.values().flat_map(BTreeMap::values);
        for action in all.filter(|action| !action.alone) {
            if !self.by_noun.contains_key(&action.verb) {
                verbs.entry(&action.verb).or_default().push(action);
            }
        }
        verbs
    }

    /// The action of a noun that is a command by itself.
    pub(crate) fn alone(&self, noun: &str) -> Option<&Action> {
        let mut verbs = self.by_noun.get(noun)?.values();
        verbs.find(|action| action.alone)
    }

    /// The action of two words, in either order.
    pub(crate) fn find(&self, one: &str, other: &str) -> Option<&Action> {
        let get = |noun, verb| self.by_noun.get(noun)?.get(verb);
        get(one, other).or_else(|| get(other, one))
    }
}

/// Whether people call it: neither internal, nor an extension point, nor the machinery's own.
fn offered(service: &ServiceDescriptor) -> bool {
    let mut package = service.package_name().split('.');
    let ours = !matches!(package.clone().next(), Some("grpc" | "google"));
    ours && !package.any(|word| word == "internal" || word == "ext")
        && service.full_name() != QUERY_SERVICE
}

fn methods(service: &ServiceDescriptor) -> Vec<(ServiceDescriptor, MethodDescriptor)> {
    let methods = service.methods().filter(|m| !m.is_client_streaming());
    methods.map(|method| (service.clone(), method)).collect()
}

fn generic_query(pool: &DescriptorPool) -> Option<MethodDescriptor> {
    pool.get_service_by_name(QUERY_SERVICE)?
        .methods()
        .find(|method| method.name() == "Query")
}

/// The resource's name; for a service without a resource its own, without `Service`.
fn noun(service: &ServiceDescriptor, catalog: &Catalog) -> String {
    let short = service.name();
    let short = short.strip_suffix("Service").unwrap_or(short);
    let resource = catalog
        .resources()
        .find(|r| r.name.replace('-', "").eq_ignore_ascii_case(short));
    resource.map_or_else(|| kebab(short), |r| r.name.clone())
}

fn verb(method: &MethodDescriptor, noun: &str, plural: Option<&str>) -> String {
    let given = rule(method, "verb").and_then(|verb| Some(verb.as_str()?.to_owned()));
    if let Some(given) = given.filter(|verb| !verb.is_empty()) {
        return given;
    }
    let name = kebab(method.name());
    let words: Vec<_> = name.split('-').collect();
    for subject in plural.into_iter().chain([noun]) {
        let subject: Vec<_> = subject.split('-').collect();
        let place = words.windows(subject.len()).position(|w| w == subject);
        if let Some(place) = place.filter(|_| subject.len() < words.len()) {
            let after = &words[place + subject.len()..];
            return [&words[..place], after].concat().join("-");
        }
    }
    name
}

fn rule(method: &MethodDescriptor, name: &str) -> Option<Value> {
    let rules = option(&method.options(), "cairn.meta.v1alpha1.rpc")?;
    Some(rules.get_field_by_name(name)?.into_owned())
}

fn is_alone(method: &MethodDescriptor) -> bool {
    rule(method, "alone").and_then(|it| it.as_bool()) == Some(true)
}

fn complaint(method: &MethodDescriptor) -> Option<Complaint> {
    let field = rule(method, "complaint")?;
    let list = method.output().get_field_by_name(field.as_str()?)?;
    let name = rule(method, "fixed_by").and_then(|name| Some(name.as_str()?.to_owned()));
    let service = method.parent_service();
    let mut fixes = service.methods().filter(|it| kind(it) == Kind::Operation);
    Some(Complaint {
        fixed_by: fixes.find(|it| Some(it.name()) == name.as_deref()),
        list,
    })
}

fn kind(method: &MethodDescriptor) -> Kind {
    let output = method.output();
    if !method.is_server_streaming() {
        if query_field(&method.input()).is_some() {
            return Kind::Query;
        }
        let is_log = rule(method, "log").and_then(|log| log.as_bool()) == Some(true);
        return if is_log { Kind::Log } else { Kind::Unary };
    }
    if field_of(&output, OPERATION_EVENT).is_some() {
        Kind::Watch
    } else if field_of(&output, ACCEPTED).is_some() && output.get_field_by_name("result").is_some()
    {
        Kind::Operation
    } else {
        Kind::Stream
    }
}

/// The upload whose pieces the method takes. One that is not as the contract says is a call like
/// any other.
fn upload(piece: &MethodDescriptor) -> Option<Upload> {
    let rules = option(&piece.options(), "cairn.meta.v1alpha1.rpc")?;
    if !rules.has_field_by_name("upload") {
        return None;
    }
    let rules = rules.get_field_by_name("upload")?.into_owned();
    let named = |field: &str| {
        let name = rules.as_message()?.get_field_by_name(field)?;
        let service = piece.parent_service();
        service
            .methods()
            .find(|method| Some(method.name()) == name.as_str())
    };
    let complete = named("complete")?;
    let has = |message: MessageDescriptor, fields: &[&str]| {
        let mut fields = fields.iter();
        fields.all(|field| message.get_field_by_name(field).is_some())
    };
    let fits = has(piece.input(), &["uuid", "offset", "data"])
        && has(piece.output(), &["next_offset"])
        && has(complete.input(), &["uuid", "file_size_bytes", "sha256"])
        && kind(&complete) == Kind::Operation;
    fits.then(|| Upload {
        piece: piece.clone(),
        create: named("create").filter(|create| kind(create) == Kind::Operation),
        complete,
    })
}

/// The field of a request that holds the query.
pub(crate) fn query_field(request: &MessageDescriptor) -> Option<FieldDescriptor> {
    field_of(request, QUERY)
}

/// The field that holds a message of that type.
fn field_of(message: &MessageDescriptor, full_name: &str) -> Option<FieldDescriptor> {
    let holds = |field: &FieldDescriptor| {
        let kind = field.kind();
        !field.is_list()
            && kind
                .as_message()
                .is_some_and(|m| m.full_name() == full_name)
    };
    message.fields().find(holds)
}

/// `AttachL2Network` is `attach-l2-network`.
fn kebab(name: &str) -> String {
    let mut out = String::new();
    let chars: Vec<char> = name.chars().collect();
    for (i, c) in chars.iter().enumerate() {
        let before = i.checked_sub(1).map(|b| chars[b]);
        let lower_after = chars.get(i + 1).is_some_and(|n| n.is_lowercase());
        let begins = before.is_some_and(|b| {
            b.is_lowercase() || b.is_numeric() || (b.is_uppercase() && lower_after)
        });
        if c.is_uppercase() && begins {
            out.push('-');
        }
        out.extend(c.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_words() {
        for (name, words) in [
            ("Zone", "zone"),
            ("VmInstance", "vm-instance"),
            ("L2Network", "l2-network"),
            ("AttachL2NetworkToCluster", "attach-l2-network-to-cluster"),
            ("GetVNCAddress", "get-vnc-address"),
        ] {
            assert_eq!(kebab(name), words);
        }
    }

    #[test]
    fn every_rpc_has_a_noun_and_a_verb() {
        let actions = Actions::of(Catalog::built_in());
        for (one, other, method, kind) in [
            ("zone", "create", "CreateZone", Kind::Operation),
            ("create", "zone", "CreateZone", Kind::Operation),
            ("get", "zone", "GetZone", Kind::Unary),
            ("host", "reconnect", "ReconnectHost", Kind::Operation),
            ("cluster", "query", "QueryCluster", Kind::Query),
            ("operation", "show", "GetOperation", Kind::Unary),
            ("operation", "watch", "WatchOperation", Kind::Watch),
            ("cancel", "operation", "CancelOperation", Kind::Unary),
            ("queue", "list", "ListQueue", Kind::Unary),
            ("image", "upload", "UploadImageChunk", Kind::Upload),
            ("image", "create", "CreateImage", Kind::Operation),
            (
                "vm-instance",
                "console-log",
                "GetVmInstanceConsoleLog",
                Kind::Log,
            ),
            (
                "l2-network",
                "attach-to-cluster",
                "AttachL2NetworkToCluster",
                Kind::Operation,
            ),
        ] {
            let action = actions.find(one, other).unwrap();
            assert_eq!((action.method.name(), action.kind), (method, kind));
        }
        assert!(actions.find("get", "operation").is_none());
        let doctor = actions.alone("doctor").unwrap();
        let complaint = doctor.complaint.as_ref().unwrap();
        assert_eq!(complaint.list.name(), "findings");
        assert_eq!(complaint.fixed_by.as_ref().unwrap().name(), "FixFinding");
        assert!(actions.find("doctor", "fix-finding").is_none());
        assert!(actions.alone("zone").is_none() && !actions.verbs().contains_key("examine"));
        let takes_files = |verb| actions.find("image", verb).unwrap().upload.is_some();
        assert!(takes_files("upload") && takes_files("create") && !takes_files("update"));
        assert!(actions.find("image", "complete-upload").is_none());
        assert!(actions.nouns().all(|(noun, _)| noun != "query"));
    }
}
