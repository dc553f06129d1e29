//! The labels and annotations that an ExportJob gives its pods.

use pgexport_api::job::PodTemplate;
use pgexport_api::order::Refusal;
use pgexport_api::{ExportJobSpec, Reason};

/// Whether the labels and annotations that the ExportJob gives its pods are of those that the installation allows: they
/// could join a Service's or a NetworkPolicy's selector, or drive whoever injects containers.
pub(super) fn check(spec: &ExportJobSpec, prefixes: &[String]) -> Result<(), Refusal> {
    let Some(template) = &spec.pod_template else { return Ok(()) };
    let fields = [("labels", &template.labels), ("annotations", &template.annotations)];
    let all = fields.into_iter().flat_map(|(field, map)| map.keys().map(move |key| (field, key)));
    for (field, key) in all {
        if !is_allowed(key, prefixes) {
            let allowed = match prefixes {
                [] => "this installation allows none".to_owned(),
                prefixes => format!("this installation allows keys that begin with {}", prefixes.join(", ")),
            };
            return Err(Refusal {
                reason: Reason::InvalidSpec,
                message: format!(
                    "podTemplate.{field}: {key} is not allowed ({allowed}): remove it in a new ExportJob, or let the operator's installation allow it (worker.metadataPrefixes of its chart)"
                ),
            });
        }
    }
    Ok(())
}

/// What is left of the template where all else is left out: for pods that have to be made, whatever is allowed by now.
pub(super) fn allowed(template: &PodTemplate, prefixes: &[String]) -> PodTemplate {
    let mut allowed = template.clone();
    for map in [&mut allowed.labels, &mut allowed.annotations] {
        map.retain(|key, _| is_allowed(key, prefixes));
    }
    allowed
}

fn is_allowed(key: &str, prefixes: &[String]) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let is_ours = ["pgexport.dev", "kubernetes.io", "k8s.io"]
        .iter()
        .any(|reserved| domain == *reserved || domain.ends_with(&format!(".{reserved}")));
    !is_ours && prefixes.iter().any(|prefix| key.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::export_job::fixture::job;

    #[test]
    fn pods_bear_only_what_the_installation_allows() {
        let checked = |template: serde_json::Value, prefixes: &[&str]| {
            let job = job(&json!({"podTemplate": template}));
            let prefixes: Vec<String> = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
            check(&job.spec, &prefixes)
        };
        let label = |key: &str| json!({"labels": {key: "x"}});
        assert_eq!(checked(label("acme.com/cost-centre"), &["acme.com/"]), Ok(()));
        assert_eq!(checked(json!({"annotations": {"acme.com/note": "x"}}), &["acme.com/"]), Ok(()));
        let refused = [
            checked(label("app"), &["acme.com/"]),
            checked(label("acme.com/team"), &[]),
            checked(json!({"annotations": {"sidecar.istio.io/inject": "true"}}), &["acme.com/"]),
            checked(label("pgexport.dev/owner"), &[""]),
            checked(label("app.kubernetes.io/name"), &["app.kubernetes.io/"]),
        ];
        for refusal in refused {
            let refusal = refusal.unwrap_err();
            assert_eq!(refusal.reason, Reason::InvalidSpec);
            assert!(refusal.message.contains("worker.metadataPrefixes"), "{refusal}");
        }
    }

    #[test]
    fn what_is_not_allowed_any_more_is_left_out() {
        let template = json!({
            "labels": {"acme.com/team": "x", "other.com/team": "x"}, "annotations": {"acme.com/note": "x"},
            "nodeSelector": {"disk": "fast"},
        });
        let template: PodTemplate = serde_json::from_value(template).unwrap();
        let left = allowed(&template, &["acme.com/".to_owned()]);
        assert_eq!(left.labels.keys().collect::<Vec<_>>(), ["acme.com/team"]);
        assert_eq!(
            (&left.annotations, &left.node_selector),
            (&template.annotations, &template.node_selector)
        );
        let left = allowed(&template, &[]);
        assert!(left.labels.is_empty() && left.annotations.is_empty());
    }
}
