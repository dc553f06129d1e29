//! The location: rendered once, from facts that do not change.

use jiff::Zoned;

/// A path that cannot be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// A placeholder that does not exist.
    #[error(
        "path: {{{0}}} is not a placeholder; there are {{namespace}}, {{job}}, {{uid}}, {{schedule}}, {{date}} and {{time}}"
    )]
    UnknownPlaceholder(String),
    /// The schedule's name where there is no schedule.
    #[error("path: {{schedule}} is for ExportJobs that an ExportSchedule makes: write the name itself")]
    NotScheduled,
    /// A brace without its partner.
    #[error("path: a brace has no partner")]
    Unbalanced,
}

/// What a path can tell of a run.
#[derive(Clone, Copy, Debug)]
pub struct RunFacts<'a> {
    /// The ExportJob's namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// The ExportSchedule that made it.
    pub schedule: Option<&'a str>,
    /// When it is for, in the time zone of whoever asked for it.
    pub time: &'a Zoned,
}

/// Renders `path`.
pub fn render_path(path: &str, run: &RunFacts<'_>) -> Result<String, LocationError> {
    substitute(path, |placeholder| {
        Ok(match placeholder {
            "namespace" => run.namespace.to_owned(),
            "job" => run.name.to_owned(),
            "uid" => run.uid.to_owned(),
            "schedule" => run.schedule.ok_or(LocationError::NotScheduled)?.to_owned(),
            "date" => run.time.strftime("%Y-%m-%d").to_string(),
            "time" => run.time.strftime("%H%M%S").to_string(),
            _ => return Err(LocationError::UnknownPlaceholder(placeholder.to_owned())),
        })
    })
}

fn substitute(
    template: &str,
    value: impl Fn(&str) -> Result<String, LocationError>,
) -> Result<String, LocationError> {
    let mut rendered = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(open) = rest.find(['{', '}']) {
        rendered.push_str(&rest[..open]);
        let after = rest[open..].strip_prefix('{').ok_or(LocationError::Unbalanced)?;
        let (placeholder, tail) = after.split_once('}').ok_or(LocationError::Unbalanced)?;
        rendered.push_str(&value(placeholder)?);
        rest = tail;
    }
    rendered.push_str(rest);
    Ok(rendered)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn render_for(schedule: Option<&str>, zone: &str, path: &str) -> Result<String, LocationError> {
        let time: Timestamp = "2026-11-23T13:45:01.5Z".parse().unwrap();
        let time = &time.to_zoned(crate::time_zone::find(zone).unwrap());
        render_path(path, &RunFacts { namespace: "team", name: "acme", uid: "0b0c6f0e-5b0e", schedule, time })
    }

    fn render(path: &str) -> Result<String, LocationError> {
        render_for(None, "UTC", path)
    }

    #[test]
    fn date_and_time_are_those_of_the_schedules_time_zone() {
        let path = "{schedule}/{date}/{time}/";
        assert_eq!(render_for(Some("nightly"), "Asia/Tokyo", path).unwrap(), "nightly/2026-11-23/224501/");
        assert_eq!(
            render_for(Some("nightly"), "Pacific/Auckland", path).unwrap(),
            "nightly/2026-11-24/024501/"
        );
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
        assert_eq!(render("{day}/").unwrap_err(), LocationError::UnknownPlaceholder("day".to_owned()));
        assert!(render("{day}/").unwrap_err().to_string().contains("{day} is not a placeholder"));
        assert_eq!(render("{schedule}/").unwrap_err(), LocationError::NotScheduled);
    }

    #[test]
    fn a_brace_without_partner_is_refused() {
        for path in ["{date/", "date}/", "}{/"] {
            assert_eq!(render(path).unwrap_err(), LocationError::Unbalanced, "{path}");
        }
    }
}
