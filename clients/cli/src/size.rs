//! Sizes in bytes as people write and read them: `2GiB`.

const BINARY: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
const DECIMAL: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/// Whether a field of that name holds bytes: `memory_bytes`, `memoryBytes`.
pub(crate) fn is_size(field: &str) -> bool {
    field == "bytes" || field.ends_with("_bytes") || field.ends_with("Bytes")
}

/// Reads `1073741824`, `1GiB`, `1.5G` (as GiB) or `1GB` (10^9); the result is whole.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let problem = || format!("`{text}` is not a size; a size looks like 2GiB, 512MiB or 1000000");
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = factor(unit.trim_start()).ok_or_else(problem)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let scale = 10_u128
        .checked_pow(u32::try_from(part.len()).unwrap_or(u32::MAX))
        .ok_or_else(problem)?;
    let whole: u128 = whole.parse().map_err(|_| problem())?;
    let part: u128 = part.parse().map_err(|_| problem())?;
    let bytes = whole
        .checked_mul(scale)
        .and_then(|w| w.checked_add(part))
        .and_then(|n| n.checked_mul(factor))
        .ok_or_else(problem)?;
    if bytes % scale != 0 {
        return Err(format!("`{text}` is not a whole number of bytes"));
    }
    u64::try_from(bytes / scale).map_err(|_| format!("`{text}` is more than 2^64 bytes"))
}

fn factor(unit: &str) -> Option<u128> {
    let place = |units: [&str; 7]| {
        units
            .iter()
            .position(|known| known.eq_ignore_ascii_case(unit))
    };
    let power = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    if unit.is_empty() {
        return Some(1);
    }
    if let Some(n) = place(BINARY) {
        return Some(1024_u128.pow(power(n)));
    }
    if let Some(n) = place(DECIMAL) {
        return Some(1000_u128.pow(power(n)));
    }
    // A bare letter is the binary unit, as everywhere in virtualisation.
    let n = BINARY
        .iter()
        .position(|known| known[..1].eq_ignore_ascii_case(unit))?;
    Some(1024_u128.pow(power(n)))
}

/// Writes a size in the largest unit that it fills, with one digit after the point if it is
/// not a whole number of them.
pub(crate) fn text(bytes: u64) -> String {
    let unit = bytes.checked_ilog2().unwrap_or(0) / 10;
    let one = 1_u64 << (unit * 10);
    let name = BINARY[unit as usize];
    if bytes.is_multiple_of(one) {
        return format!("{}{name}", bytes / one);
    }
    let tenths = u128::from(bytes) * 10 / u128::from(one);
    format!("{}.{}{name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1000),
            ("2GiB", 2 << 30),
            ("2 gib", 2 << 30),
            ("2G", 2 << 30),
            ("1.5GiB", 3 << 29),
            ("1GB", 1_000_000_000),
            ("7b", 7),
            ("15EiB", 15 << 60),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in [
            "", "GiB", "x", "-1", "1.5", "2Gx", "1..5G", "16EiB", "0.3B", "9e9",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_written() {
        for (bytes, expected) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1536, "1.5KiB"),
            (2 << 30, "2GiB"),
            (u64::MAX, "15.9EiB"),
        ] {
            assert_eq!(text(bytes), expected);
        }
    }
}
