//! A location holds one delivery: another job's is never altered, also where only writing is allowed.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use pgexport_api::job::{FormatType, Layout};
use pgexport_api::order::{RunIdentity, RunOrder, Target};
use pgexport_api::reason::Reason;
use pgexport_api::report::Delivered;
use pgexport_engine::Result;
use pgexport_engine::manifest::{Arrival, Export, Manifest, Sealed, arrive};
use pgexport_engine::store::{self, PutMode, Store, Volumes};
use pgexport_peers::WRITE_ONLY;
use support::run::{PATH, order, plan};
use support::{Backend, s3_target, secrets};

fn job(backend: &Backend, uid: &str, attempt: u32) -> RunOrder {
    let target = backend.target();
    let mut order = order(FormatType::Json, Layout::Single, target.clone(), target);
    uid.clone_into(&mut order.run.uid);
    order.run.spec_sha256 = format!("spec of {uid}");
    order.run.attempt = attempt;
    order
}

fn manifest(order: &RunOrder) -> Manifest {
    let plan = plan(&[("findings", &[""])]);
    let time = plan.time;
    Manifest::new(order, &plan, Export { chunks: 1, started: time, finished: time }, Vec::new())
}

async fn write_only(backend: &Backend) -> Arc<dyn Store> {
    let Backend::S3 { peers, bucket } = backend else { unreachable!() };
    let account = peers.s3.create_account("writer").await.unwrap();
    peers.s3.allow(bucket, &account, &WRITE_ONLY).await.unwrap();
    let none = Volumes::folders(BTreeMap::new());
    store::open(&Target::S3(s3_target(peers, bucket)), secrets(&account), &none).unwrap()
}

async fn seal(store: &dyn Store, manifest: &Manifest) -> Result<Sealed> {
    pgexport_engine::manifest::seal(store, PATH, manifest, None).await
}

/// What is found delivered.
async fn found(store: &dyn Store, order: &RunOrder) -> Result<Option<Delivered>> {
    Ok(match arrive(store, order).await? {
        Arrival::Delivered(delivered) => Some(delivered),
        Arrival::Open(earlier) => {
            assert!(earlier.is_none(), "nothing is to be replaced");
            None
        }
    })
}

async fn contents(backend: &Backend) -> [Vec<u8>; 2] {
    [backend.bytes(&format!("{PATH}_manifest.json")).await, backend.bytes(&format!("{PATH}_SUCCESS")).await]
}

#[tokio::test]
async fn sealing_again_is_the_same_and_another_job_is_refused() {
    for backend in [Backend::s3().await, Backend::volume()] {
        let store = backend.store();
        let ours = job(&backend, "ours", 1);
        assert_eq!(found(store.as_ref(), &ours).await.unwrap(), None);
        let sealed = seal(store.as_ref(), &manifest(&ours)).await.unwrap();
        let before = contents(&backend).await;
        assert_eq!(seal(store.as_ref(), &manifest(&ours)).await.unwrap(), sealed);
        let later = job(&backend, "ours", 2);
        let told = found(store.as_ref(), &later).await.unwrap().unwrap();
        assert_eq!(told.manifest_sha256, sealed.sha256, "a later attempt finds the earlier one's delivery");

        let theirs = job(&backend, "theirs", 1);
        for error in [
            found(store.as_ref(), &theirs).await.unwrap_err(),
            seal(store.as_ref(), &manifest(&theirs)).await.unwrap_err(),
        ] {
            assert_eq!(error.reason(), Reason::OutputExists);
            assert!(
                error.to_string().contains(PATH) && error.to_string().contains("shop/nightly (ours"),
                "{error}"
            );
        }
        assert_eq!(contents(&backend).await, before);

        // Created again, as GitOps does where something was removed.
        let again = RunOrder { run: RunIdentity { uid: "again".to_owned(), ..ours.run.clone() }, ..ours };
        let told = found(store.as_ref(), &again).await.unwrap().unwrap();
        assert!(told.already && told.manifest_sha256 == sealed.sha256, "{told:?}");
    }
}

#[tokio::test]
async fn a_manifest_that_was_never_sealed_is_replaced() {
    for backend in [Backend::s3().await, Backend::volume()] {
        let store = backend.store();
        store.put(&format!("{PATH}_manifest.json"), "{}".into(), "x/y", PutMode::Create).await.unwrap();
        seal(store.as_ref(), &manifest(&job(&backend, "ours", 2))).await.unwrap();
        let [manifest, _] = contents(&backend).await;
        assert!(manifest.len() > 100);
    }
}

#[tokio::test]
async fn somebody_else_s_success_file_is_respected() {
    let backend = Backend::volume();
    let store = backend.store();
    store.put(&format!("{PATH}_SUCCESS"), "".into(), "x/y", PutMode::Create).await.unwrap();
    let error = found(store.as_ref(), &job(&backend, "ours", 1)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::OutputExists);
}

#[tokio::test]
async fn where_only_writing_is_allowed_a_first_delivery_passes_and_no_other_is_altered() {
    let backend = Backend::s3().await;
    let store = write_only(&backend).await;
    let ours = job(&backend, "ours", 1);
    assert_eq!(found(store.as_ref(), &ours).await.unwrap(), None);
    seal(store.as_ref(), &manifest(&ours)).await.unwrap();
    let before = contents(&backend).await;
    let theirs = job(&backend, "theirs", 1);
    assert_eq!(found(store.as_ref(), &theirs).await.unwrap(), None);
    let error = seal(store.as_ref(), &manifest(&theirs)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::OutputExists);
    assert!(error.to_string().contains("cannot be told"), "{error}");
    assert_eq!(contents(&backend).await, before);
}
