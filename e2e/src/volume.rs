//! Volumes: folders of the node, which is this machine.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Api, PostParams};
use serde_json::json;

use crate::namespace::Namespace;

/// Makes a PersistentVolumeClaim that is bound to a folder of this machine, and returns the folder.
pub async fn claim(namespace: &Namespace<'_>, name: &str) -> PathBuf {
    let state = pgexport_peers::state::root();
    let folder = state.join("volumes").join(&namespace.name).join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    // A hostPath volume takes no fsGroup: the pod's user must be let in.
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).expect("permissions");
    let volume_name = format!("{}-{name}", namespace.name);
    let shared = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": ""});
    let mut volume = shared.clone();
    volume["capacity"] = json!({"storage": "1Gi"});
    volume["hostPath"] = json!({"path": folder});
    volume["persistentVolumeReclaimPolicy"] = json!("Retain");
    let volume: PersistentVolume =
        serde_json::from_value(json!({"metadata": {"name": volume_name}, "spec": volume}))
            .expect("a PersistentVolume");
    let volumes: Api<PersistentVolume> = Api::all(namespace.lab.client.clone());
    volumes.create(&PostParams::default(), &volume).await.expect("a PersistentVolume");
    let mut claim = shared;
    claim["volumeName"] = json!(volume_name);
    claim["resources"] = json!({"requests": {"storage": "1Gi"}});
    let claim: PersistentVolumeClaim =
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": claim}))
            .expect("a PersistentVolumeClaim");
    namespace
        .api::<PersistentVolumeClaim>()
        .create(&PostParams::default(), &claim)
        .await
        .expect("a PersistentVolumeClaim");
    folder
}
