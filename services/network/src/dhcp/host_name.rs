//! The host name of a guest, made from what people call its virtual machine.

/// The longest label (RFC 1035, 2.3.4).
const LENGTH_MOST: usize = 63;
/// Digits of the uuid in the name of a virtual machine that has no usable one.
const DIGITS: usize = 8;

/// One label: lower-case letters, digits, and hyphens between them. What else is in the name
/// becomes a hyphen; of a name that has nothing else, the uuid takes the place.
pub(super) fn of(name: &str, uuid: &str) -> String {
    let mut label = String::new();
    for c in name.chars() {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => label.push(c),
            _ if !label.is_empty() && !label.ends_with('-') => label.push('-'),
            _ => {}
        }
    }
    label.truncate(LENGTH_MOST);
    let label = label.trim_end_matches('-');
    if label.is_empty() {
        let digits: String = uuid.chars().take(DIGITS).collect();
        return format!("vm-{digits}");
    }
    label.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_named_after_its_virtual_machine() {
        let uuid = "01890a5d-ac96-774b-bcce-b302099a8057";
        for (name, expected) in [
            ("web", "web"),
            ("Web 01", "web-01"),
            ("--db_main..(old)--", "db-main-old"),
            ("büro", "b-ro"),
            ("７", "vm-01890a5d"),
            ("", "vm-01890a5d"),
            ("-", "vm-01890a5d"),
            ("a\nb,c", "a-b-c"),
        ] {
            assert_eq!(of(name, uuid), expected, "{name:?}");
        }
        let long = of(&"x".repeat(62).replace("xx", "x-"), uuid);
        assert!(long.len() <= 63 && !long.ends_with('-'), "{long}");
        assert_eq!(of(&"x".repeat(255), uuid), "x".repeat(63));
        assert_eq!(of(&format!("{} y", "x".repeat(62)), uuid), "x".repeat(62));
    }
}
