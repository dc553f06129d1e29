//! Names of data sets and files. The CRD's rules say the same; `pgexport run` has no API server.

use std::collections::BTreeSet;

use super::Refusal;
use crate::job::{ExportJobSpec, Layout};
use crate::reason::Reason;

/// What keeps files from overwriting one another. The CRD's rules say the same; `pgexport run` has no API server.
pub(super) fn check_names(job: &ExportJobSpec) -> Result<(), Refusal> {
    let invalid = |message: &str| Err(Refusal::new(Reason::InvalidSpec, message));
    let names: BTreeSet<&str> = job.datasets.iter().map(|dataset| dataset.name.as_str()).collect();
    if names.len() < job.datasets.len() {
        return invalid("datasets: each needs a name of its own");
    }
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    if !names.iter().all(|name| is_name(name)) {
        return invalid("datasets: names consist of letters, digits, '-' and '_'");
    }
    let template = job.files.name_template();
    if !template.contains("{token}") {
        return invalid("files.name: name {token}, so that no attempt overwrites another one's files");
    }
    if !is_set_off(template, "{token}") {
        return invalid(
            "files.name: set {token} off from what is beside it by '-', '_', '.', '=' or '/', so that a cleanup knows the files of its own run",
        );
    }
    if !template.contains("{dataset}") {
        return invalid("files.name: name {dataset}, or the files of data sets would overwrite one another");
    }
    if job.files.names_value() && job.files.layout == Layout::Single {
        return invalid("files.name: {value} is a chunk's, and goes with layout PerChunk");
    }
    if job.files.layout == Layout::PerChunk && !template.contains("{part}") {
        return invalid("files.name: name {part}, or the files of a data set would overwrite one another");
    }
    let relative =
        |path: &str| !path.starts_with('/') && !path.split('/').any(|part| part == "." || part == "..");
    if !relative(template) || !relative(&job.path) || !job.path.ends_with('/') || job.path.contains("//") {
        return invalid("path: a relative path that ends with '/', without '//', '.' and '..'");
    }
    Ok(())
}

/// Whether a placeholder stands at least once with no letter, digit or other placeholder beside it.
fn is_set_off(template: &str, placeholder: &str) -> bool {
    template.match_indices(placeholder).any(|(start, found)| {
        let before = template[..start].chars().next_back();
        let after = template[start + found.len()..].chars().next();
        !before.is_some_and(|char| char.is_ascii_alphanumeric() || char == '}')
            && !after.is_some_and(|char| char.is_ascii_alphanumeric() || char == '{')
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::refuses;
    use super::*;

    #[test]
    fn names_that_would_overwrite_one_another_are_refused_with_the_fix() {
        refuses([
            (json!({"files": {"name": "{dataset}-{token}"}}), None, Reason::InvalidSpec, "name {part}"),
            (json!({"files": {"name": "{part}-{token}"}}), None, Reason::InvalidSpec, "name {dataset}"),
            (json!({"files": {"name": "{dataset}-{part}"}}), None, Reason::InvalidSpec, "name {token}"),
            (
                json!({"files": {"name": "{dataset}-{part}{token}"}}),
                None,
                Reason::InvalidSpec,
                "set {token} off",
            ),
            (
                json!({
                    "files": {"name": "{value}/{dataset}-{token}", "layout": "Single"},
                    "chunking": {"strategy": "Values", "values": {"parameter": "v", "items": [1]}},
                }),
                None,
                Reason::InvalidSpec,
                "goes with layout PerChunk",
            ),
            (json!({"path": "no-slash"}), None, Reason::InvalidSpec, "ends with '/'"),
            (json!({"path": "a/../b/"}), None, Reason::InvalidSpec, "without '//'"),
            (
                json!({"datasets": [{"name": "a", "sql": "SELECT 1"}, {"name": "a", "sql": "SELECT 2"}]}),
                None,
                Reason::InvalidSpec,
                "a name of its own",
            ),
        ]);
    }
}
