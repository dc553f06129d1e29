//! The location: rendered once, from facts that do not change.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A path that cannot be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// A placeholder that does not exist.
    #[error(
        "path: {{{0}}} is not a placeholder; there are {{namespace}}, {{job}}, {{uid}}, {{date}} and {{time}}"
    )]
    UnknownPlaceholder(String),
    /// A brace without its partner.
    #[error("path: a brace has no partner")]
    Unbalanced,
}

/// Renders `path` for a run that was created at `created`.
pub fn render_path(
    path: &str,
    namespace: &str,
    name: &str,
    uid: &str,
    created: Timestamp,
) -> Result<String, LocationError> {
    let created = created.to_zoned(TimeZone::UTC);
    substitute(path, |placeholder| match placeholder {
        "namespace" => Some(namespace.to_owned()),
        "job" => Some(name.to_owned()),
        "uid" => Some(uid.to_owned()),
        "date" => Some(created.strftime("%Y-%m-%d").to_string()),
        "time" => Some(created.strftime("%H%M%S").to_string()),
        _ => None,
    })
}

fn substitute(template: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, LocationError> {
    let mut rendered = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(open) = rest.find(['{', '}']) {
        rendered.push_str(&rest[..open]);
        let after = rest[open..].strip_prefix('{').ok_or(LocationError::Unbalanced)?;
        let (placeholder, tail) = after.split_once('}').ok_or(LocationError::Unbalanced)?;
        rendered.push_str(
            &value(placeholder).ok_or_else(|| LocationError::UnknownPlaceholder(placeholder.to_owned()))?,
        );
        rest = tail;
    }
    rendered.push_str(rest);
    Ok(rendered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(path: &str) -> Result<String, LocationError> {
        render_path(path, "team", "acme", "0b0c6f0e-5b0e", "2026-11-23T13:45:01.5Z".parse().unwrap())
    }

    #[test]
    fn placeholders_are_facts_of_the_run() {
        assert_eq!(
            render("{namespace}/{job}/{date}/{time}-{uid}/").unwrap(),
            "team/acme/2026-11-23/134501-0b0c6f0e-5b0e/"
        );
        assert_eq!(render("plain/").unwrap(), "plain/");
    }

    #[test]
    fn what_is_no_placeholder_is_named() {
        assert_eq!(
            render("{schedule}/").unwrap_err(),
            LocationError::UnknownPlaceholder("schedule".to_owned())
        );
        assert!(render("{schedule}/").unwrap_err().to_string().contains("{schedule} is not a placeholder"));
    }

    #[test]
    fn a_brace_without_partner_is_refused() {
        for path in ["{date/", "date}/", "}{/"] {
            assert_eq!(render(path).unwrap_err(), LocationError::Unbalanced, "{path}");
        }
    }
}
