//! The ConfigMap that carries a worker's order.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use pgexport_api::order::Order;
use sha2::{Digest, Sha256};

/// The key of the order in its ConfigMap.
pub const ORDER_KEY: &str = "order.json";
/// No order is longer: etcd takes objects of 1.5 MiB, `ConfigMaps` of 1 MiB, and the metadata needs room.
pub const MAX_BYTES: usize = 900 * 1024;

/// The order as its worker reads it.
#[must_use]
pub fn to_json(order: &Order) -> String {
    // Serialising these plain structs cannot fail.
    serde_json::to_string(order).unwrap_or_default()
}

/// What a Job says of the order that is meant for it, in hexadecimal: its worker obeys no other one. Whoever may create
/// `ConfigMaps` could put one of the Job's name there before ours.
#[must_use]
pub fn sha256(order: &Order) -> String {
    hex::encode(Sha256::digest(to_json(order)))
}

/// The immutable ConfigMap that belongs to a Job, and bears its name.
#[must_use]
pub fn config_map(
    namespace: &str,
    job_name: &str,
    job_uid: &str,
    labels: BTreeMap<String, String>,
    order: &Order,
) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(job_name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels),
            owner_references: Some(vec![OwnerReference {
                api_version: "batch/v1".to_owned(),
                kind: "Job".to_owned(),
                name: job_name.to_owned(),
                uid: job_uid.to_owned(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        data: Some(BTreeMap::from([(ORDER_KEY.to_owned(), to_json(order))])),
        ..ConfigMap::default()
    }
}
