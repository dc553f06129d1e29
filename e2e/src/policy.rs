//! An admission policy, such as platform teams have.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;

use crate::lab::Lab;

/// A policy that holds in one namespace.
pub struct Policy<'a> {
    lab: &'a Lab,
    name: String,
}

impl<'a> Policy<'a> {
    /// Refuses pods with a label.
    pub async fn forbids_label(lab: &'a Lab, namespace: &str, label: &str) -> Self {
        let name = format!("{namespace}-label");
        let policy = json!({
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]},
                ]},
                "validations": [{
                    "expression": format!("!has(object.metadata.labels) || !('{label}' in object.metadata.labels)"),
                    "message": format!("no pod may have the label {label}"),
                }],
            },
        });
        let binding = json!({
            "metadata": {"name": name},
            "spec": {
                "policyName": name,
                "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}},
            },
        });
        let policy: ValidatingAdmissionPolicy = serde_json::from_value(policy).expect("a policy");
        let binding: ValidatingAdmissionPolicyBinding = serde_json::from_value(binding).expect("a binding");
        let created = PostParams::default();
        Api::all(lab.client.clone()).create(&created, &policy).await.expect("the policy");
        Api::all(lab.client.clone()).create(&created, &binding).await.expect("its binding");
        Self { lab, name }
    }

    /// Removes it.
    pub async fn remove(self) {
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(self.lab.client.clone());
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(self.lab.client.clone());
        let _ = bindings.delete(&self.name, &DeleteParams::default()).await;
        let _ = policies.delete(&self.name, &DeleteParams::default()).await;
    }
}
