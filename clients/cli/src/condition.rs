//! Conditions of a query as people write them: `name=web`, `cluster.zone.name?=east,west`.

use cairn_proto::query::v1alpha1::{Condition, Operator};

use crate::size;

/// What the help of every query says of conditions.
pub(crate) const HELP: &str = "\
All conditions hold together: FIELD=VALUE, or with != > >= < <= in place of =;
FIELD?=A,B and FIELD!?=A,B (one of, none of), FIELD~=PATTERN and FIELD!~=PATTERN
(% is any text, _ one character), FIELD=null and FIELD!=null. A field may be a
path along references: cluster.zone.name=east. In a value, `\\,` is a comma.
A field that holds a uuid takes a name too: zone=east, which is zoneUuid=east.
name:TEXT is always a name, also one that looks like a uuid.
Quote conditions for the shell: 'memoryBytes>=2GiB'.";

// Each before those that it begins with.
const OPERATORS: [(&str, Operator); 10] = [
    ("!?=", Operator::NotIn),
    ("!~=", Operator::NotLike),
    ("!=", Operator::Ne),
    ("?=", Operator::In),
    ("~=", Operator::Like),
    (">=", Operator::Ge),
    ("<=", Operator::Le),
    ("=", Operator::Eq),
    (">", Operator::Gt),
    ("<", Operator::Lt),
];

/// Reads one condition.
pub(crate) fn parse(text: &str) -> Result<Condition, String> {
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.')
        .unwrap_or(text.len());
    let (field, rest) = text.split_at(end);
    if field.is_empty() {
        return Err("a condition begins with a field: name=web".to_owned());
    }
    let Some((operator, value)) = OPERATORS
        .iter()
        .find_map(|(sign, operator)| Some((*operator, rest.strip_prefix(sign)?)))
    else {
        return Err(format!(
            "after `{field}` comes one of = != > >= < <= ?= !?= ~= !~="
        ));
    };
    let (operator, values) = match (operator, value) {
        (Operator::Eq, "null") => (Operator::IsNull, Vec::new()),
        (Operator::Ne, "null") => (Operator::IsNotNull, Vec::new()),
        (Operator::In | Operator::NotIn, list) => (operator, split(list)),
        (_, one) => (operator, vec![one.replace("\\,", ",")]),
    };
    let pattern = matches!(operator, Operator::Like | Operator::NotLike);
    let values = if size::is_size(field) && !pattern {
        let each = values.iter();
        each.map(|v| size::parse(v).map(|bytes| bytes.to_string()))
            .collect::<Result<_, _>>()?
    } else {
        values
    };
    Ok(Condition {
        field: field.to_owned(),
        operator: operator.into(),
        values,
    })
}

fn split(list: &str) -> Vec<String> {
    let mut values = vec![String::new()];
    let mut rest = list.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, values.last_mut()) {
            ('\\', Some(last)) if rest.next_if_eq(&',').is_some() => last.push(','),
            (',', _) => values.push(String::new()),
            (c, Some(last)) => last.push(c),
            (_, None) => {}
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read() {
        use Operator::*;
        for (text, field, operator, values) in [
            ("name=web", "name", Eq, &["web"][..]),
            ("name=", "name", Eq, &[""]),
            ("name!=web", "name", Ne, &["web"]),
            ("cpuCount>2", "cpuCount", Gt, &["2"]),
            ("cpu_count>=2", "cpu_count", Ge, &["2"]),
            ("a<1", "a", Lt, &["1"]),
            ("a<=1", "a", Le, &["1"]),
            (
                "state?=Enabled,Disabled",
                "state",
                In,
                &["Enabled", "Disabled"],
            ),
            ("name?=a\\,b,c", "name", In, &["a,b", "c"]),
            ("name?=null", "name", In, &["null"]),
            ("name!?=a", "name", NotIn, &["a"]),
            ("name~=web-%", "name", Like, &["web-%"]),
            ("name!~=web_", "name", NotLike, &["web_"]),
            ("hostUuid=null", "hostUuid", IsNull, &[]),
            ("hostUuid!=null", "hostUuid", IsNotNull, &[]),
            ("cluster.zone.name=east", "cluster.zone.name", Eq, &["east"]),
            ("name=a=b>c", "name", Eq, &["a=b>c"]),
            ("name=a\\,b", "name", Eq, &["a,b"]),
            ("name=a\\b", "name", Eq, &["a\\b"]),
            ("memoryBytes>=2GiB", "memoryBytes", Ge, &["2147483648"]),
            (
                "host.memory_bytes?=1K,5",
                "host.memory_bytes",
                In,
                &["1024", "5"],
            ),
        ] {
            let condition = parse(text).unwrap();
            assert_eq!(
                (
                    condition.field.as_str(),
                    condition.operator(),
                    condition.values
                ),
                (
                    field,
                    operator,
                    values.iter().map(|v| (*v).to_owned()).collect()
                ),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_condition_says_so() {
        for (text, part) in [
            ("", "begins with a field"),
            ("=x", "begins with a field"),
            ("name", "after `name` comes one of"),
            ("name web", "after `name` comes one of"),
            ("name!web", "after `name` comes one of"),
            ("memoryBytes>lots", "is not a size"),
        ] {
            let problem = parse(text).unwrap_err();
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }
}
