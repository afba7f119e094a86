//! The version of a record's form.

use nic_host::Foreign;

/// The schema of a record, as it is written, when it is none from `oldest` to `newest`. A record without one is none of this
/// program's, and is left to its parser.
pub(super) fn unreadable_schema(record: &serde_json::Value, oldest: u32, newest: u32) -> Option<String> {
    let schema = record.get("schema")?;
    let versions = u64::from(oldest)..=u64::from(newest);
    if schema.as_u64().is_some_and(|schema| versions.contains(&schema)) {
        return None;
    }
    // A number is shown as it stands there, and all else as foreign text.
    if let Some(number) = schema.as_i64() {
        return Some(number.to_string());
    }
    let text = schema.as_str().map_or_else(|| schema.to_string(), str::to_owned);
    Some(Foreign(&text).to_string())
}
