//! What somebody typed, and should not have: each ends in a condition that names the thing and the fix, and what can be put
//! right goes on by itself when it is.

use std::time::{Duration, Instant};

use futures::future::join_all;
use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota, ServiceAccount};
use kube::api::{Api, Patch, PatchParams, PostParams};
use pgexport_api::{ConditionType, ExportJob, ExportSink, ExportSource, Phase};
use pgexport_e2e::{Gate, Lab, Namespace, OwnServer, Policy, World, condition, job, postgres_spec, s3_spec};
use pgexport_peers::server::Validity;
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

/// How long a refusal may take that is certain: some seconds, on a machine that does everything at once.
const SOON: Duration = Duration::from_secs(90);

/// How long one may take that is not: more than a probe waits for an answer, or a pod for its node.
const PATIENCE: Duration = Duration::from_mins(4);

/// An ExportJob that cannot go well.
struct Case {
    /// The ExportJob's name.
    name: &'static str,
    /// Its one query.
    sql: &'static str,
    /// What else it says.
    with: Value,
    /// How the condition's reason reads.
    reason: &'static str,
    /// What its message names: the thing, and the fix.
    words: &'static [&'static str],
}

const fn case(
    name: &'static str,
    sql: &'static str,
    with: Value,
    reason: &'static str,
    words: &'static [&'static str],
) -> Case {
    Case { name, sql, with, reason, words }
}

fn spec(case: &Case) -> Value {
    let dataset = json!([{"name": "findings", "sql": case.sql}]);
    let mut with = json!({"path": format!("{}/", case.name)});
    with.as_object_mut().unwrap().extend(case.with.as_object().unwrap().clone());
    job(dataset, "NDJSON", with)
}

/// What a condition says of an ExportJob, the SQLSTATE of its last error included.
fn says(job: &ExportJob, kind: ConditionType) -> Option<(String, String)> {
    let status = job.status.as_ref()?;
    let (truth, reason, message) = condition(&status.conditions, kind)?;
    let state = status.last_error.as_ref().and_then(|error| error.sql_state.as_deref()).unwrap_or_default();
    (truth == "True").then(|| (reason.to_owned(), format!("{message} {state}")))
}

/// Waits until a condition is true of the case's ExportJob, and compares what it says.
async fn refused(namespace: &Namespace<'_>, case: &Case, kind: ConditionType, within: Duration) -> ExportJob {
    let started = Instant::now();
    let job = namespace
        .job_when(case.name, kind.as_str(), within, |job| {
            says(job, kind).is_some_and(|(reason, _)| reason == case.reason) || has_ended(job)
        })
        .await;
    println!("{}: {:.1} s", case.name, started.elapsed().as_secs_f32());
    let Some((reason, message)) = says(&job, kind) else {
        panic!("{} is not {}: {:#?}", case.name, kind.as_str(), job.status);
    };
    assert_eq!(reason, case.reason, "{}: {message}", case.name);
    for word in case.words {
        assert!(message.contains(word), "{}: {word:?} is not in: {message}", case.name);
    }
    job
}

fn has_ended(job: &ExportJob) -> bool {
    job.status.as_ref().and_then(|status| status.phase).is_some_and(Phase::is_terminal)
}

#[tokio::test]
async fn what_only_another_export_job_can_put_right_fails_at_once() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database("certain").await.unwrap();
    let (namespace, customer, _) = Namespace::furnished(&lab, "certain", &database.name).await;
    let queries = json!([{"name": "tenant-findings", "sql": "SELECT 1 AS one", "parameters": [{"name": "tenant", "type": "uuid"}]}]);
    let strict = json!({"postgres": postgres_spec(&lab.peers, &database.name), "inlineSQL": "Forbid", "queries": queries});
    namespace.source("strict", strict).await;

    let named = json!({"sourceRef": {"name": "strict"}, "datasets": [{"name": "findings", "queryRef": {"name": "tenant-findings"}}]});
    let cases = [
        case(
            "to-program",
            "SELECT 1) TO PROGRAM 'touch /tmp/owned' --",
            json!({}),
            "InvalidQuery",
            &["findings", "syntax error", "42601"],
        ),
        case("two-statements", "SELECT 1; SELECT 2", json!({}), "InvalidQuery", &["findings", "statement"]),
        case(
            "two-with-drop",
            "SELECT 1; DROP TABLE findings",
            json!({}),
            "InvalidQuery",
            &["findings", "statement"],
        ),
        case("copy", "COPY findings TO '/tmp/owned'", json!({}), "InvalidQuery", &["findings"]),
        case("unknown-table", "SELECT * FROM nowhere", json!({}), "InvalidQuery", &["nowhere"]),
        case(
            "writes",
            "DELETE FROM findings RETURNING seq",
            json!({}),
            "QueryWrites",
            &["findings", "SELECT"],
        ),
        case("no-parameter", "SELECT :tenant", json!({}), "InvalidParameter", &["tenant", "spec.parameters"]),
        case(
            "bad-parameter",
            "SELECT :tenant AS tenant",
            json!({"parameters": [{"name": "tenant", "type": "uuid", "value": "hush-hush"}]}),
            "InvalidParameter",
            &["tenant", "uuid"],
        ),
        case(
            "inline",
            "SELECT 1 AS one",
            json!({"sourceRef": {"name": "strict"}}),
            "InlineSQLForbidden",
            &["ExportSource strict", "queryRef", "tenant-findings"],
        ),
        case("undeclared", "", named, "InvalidParameter", &["tenant-findings", "tenant", "uuid"]),
        case(
            "too-few-rows",
            "SELECT seq FROM findings WHERE seq < 0",
            json!({"expect": {"minRows": 1}}),
            "ExpectationUnmet",
            &["findings", "minRows", "0"],
        ),
        case(
            "too-few-rows-staged",
            "SELECT seq FROM findings WHERE seq < 0",
            json!({"expect": {"minRows": 1}, "delivery": {"mode": "Staged"}}),
            "ExpectationUnmet",
            &["findings", "minRows", "0"],
        ),
        case(
            "other-columns",
            "SELECT seq, title FROM findings",
            json!({"expect": {"columns": ["seq", "name"]}}),
            "ExpectationUnmet",
            &["findings", "expect.columns", "[seq, name]", "[seq, title]"],
        ),
        case(
            "label",
            "SELECT 1 AS one",
            json!({"podTemplate": {"labels": {"app": "payments"}}}),
            "InvalidSpec",
            &["podTemplate.labels", "app", "worker.metadataPrefixes"],
        ),
        case(
            "annotation",
            "SELECT 1 AS one",
            json!({"podTemplate": {"annotations": {"sidecar.istio.io/inject": "true"}}}),
            "InvalidSpec",
            &["podTemplate.annotations", "sidecar.istio.io/inject"],
        ),
    ];
    let refusals = cases.iter().map(async |case| {
        namespace.job(case.name, spec(case)).await;
        let job = refused(&namespace, case, ConditionType::Failed, SOON).await;
        let status = job.status.unwrap();
        assert!(status.attempts <= 1, "{}: {} attempts", case.name, status.attempts);
        let told = serde_json::to_string(&status).unwrap();
        assert!(!told.contains("hush-hush"), "a parameter's value is told: {told}");
    });
    join_all(refusals).await;
    assert!(!std::path::Path::new("/tmp/owned").exists(), "a query ran a program");
    assert!(lab.peers.s3.list(&customer, "").await.unwrap().is_empty(), "something was delivered");
    assert!(lab.peers.s3.open_uploads(&customer).await.unwrap().is_empty(), "an upload is open");
    let admin = database.admin().await.unwrap();
    assert_eq!(admin.query_one("SELECT count(*) FROM findings", &[]).await.unwrap().get::<_, i64>(0), 10_000);
    namespace.remove().await;
    database.drop_database().await.unwrap();
}

#[tokio::test]
async fn placeholders_are_told_from_comments_strings_and_casts() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database("lexer").await.unwrap();
    let (namespace, customer, _) = Namespace::furnished(&lab, "lexer", &database.name).await;
    let sql = "SELECT :name AS name, $$:name$$ AS dollars, ':name' AS string, $x$ $$:name$$ $x$ AS nested, \
               '1'::int AS cast, (ARRAY[1,2,3])[1:2] AS slice /* :nobody, ' */ -- :nobody, '";
    let value = "'); DROP TABLE findings; --";
    let with = json!({"parameters": [{"name": "name", "type": "text", "value": value}]});
    namespace.job("quoted", job(json!([{"name": "quoted", "sql": sql}]), "NDJSON", with)).await;
    namespace.succeeded("quoted", 2 * MINUTE).await;
    let delivery = pgexport_e2e::Delivery::read(&lab.peers.s3, &customer, "from-us/out/").await;
    let row: Value = serde_json::from_slice(delivery.files_of("quoted")[0]).unwrap();
    let wanted = json!({
        "name": value, "dollars": ":name", "string": ":name", "nested": " $$:name$$ ", "cast": 1, "slice": [1, 2],
    });
    assert_eq!(row, wanted);
    namespace.remove().await;
    database.drop_database().await.unwrap();
}

/// Something around an ExportJob that keeps it from going on, and how it is put right.
async fn waits_and_goes_on(namespace: &Namespace<'_>, case: Case, correct: impl AsyncFnOnce()) {
    namespace.job(case.name, spec(&case)).await;
    let job = refused(namespace, &case, ConditionType::Stalled, PATIENCE).await;
    // A quota is met when the attempt has begun, and all else before.
    let phase = job.status.unwrap().phase;
    assert!(matches!(phase, Some(Phase::Pending | Phase::Exporting)), "{}: {phase:?}", case.name);
    correct().await;
    let started = Instant::now();
    namespace.succeeded(case.name, 4 * MINUTE).await;
    println!("{}: went on and ended after {:.1} s", case.name, started.elapsed().as_secs_f32());
}

#[tokio::test]
async fn what_can_be_put_right_stalls_and_goes_on_by_itself() {
    let lab = Lab::find().await;
    let postgres = &lab.peers.postgres;
    let database = postgres.create_findings_database("stalls").await.unwrap();
    let (namespace, _, _) = Namespace::furnished(&lab, "stalls", &database.name).await;
    let sources: Api<ExportSource> = namespace.api();
    let sinks: Api<ExportSink> = namespace.api();
    let merge = async |source: &str, spec: Value| {
        let patch = Patch::Merge(json!({"spec": spec}));
        sources.patch(source, &PatchParams::default(), &patch).await.unwrap();
    };
    let source = |with: Value| {
        let mut spec = json!({"postgres": postgres_spec(&lab.peers, &database.name)});
        spec.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        spec
    };
    let from = |name: &str| json!({"sourceRef": {"name": name}});

    let allow = async {
        let strict = json!({"s3": s3_spec(&lab.peers, &lab.peers.s3.create_bucket("allow").await.unwrap(), ""), "allow": {"sources": ["other"]}});
        namespace.create_object("ExportSink", "strict", strict).await.unwrap();
        let with = json!({"sinkRef": {"name": "strict"}});
        let words = &["ExportSink strict", "allow.sources", "db", "extend spec.allow"];
        let case = case("outside-allow", "SELECT 1 AS one", with, "NotAllowed", words);
        waits_and_goes_on(&namespace, case, async || {
            let patch = Patch::Merge(json!({"spec": {"allow": {"sources": ["other", "db"]}}}));
            sinks.patch("strict", &PatchParams::default(), &patch).await.unwrap();
        })
        .await;
    };
    let query = async {
        namespace.source("named", source(json!({}))).await;
        let with = json!({"sourceRef": {"name": "named"}, "datasets": [{"name": "findings", "queryRef": {"name": "later"}}]});
        let words = &["ExportSource named", "no query later"];
        let case = case("unknown-query", "", with, "ReferenceNotFound", words);
        waits_and_goes_on(&namespace, case, async || {
            merge("named", json!({"queries": [{"name": "later", "sql": "SELECT 1 AS one"}]})).await;
        })
        .await;
    };
    let superuser = async {
        namespace
            .secret("admin", &[("password", &postgres.admin.password), ("ca.crt", &postgres.ca_pem)])
            .await;
        let mut spec = source(json!({}));
        spec["postgres"]["user"] = json!(postgres.admin.user);
        spec["postgres"]["passwordSecretRef"]["name"] = json!("admin");
        namespace.source("superuser", spec).await;
        let words = &["superuser", "PrivilegedLogin", "spec.allowPrivilegedLogin of ExportSource superuser"];
        let case = case("superuser", "SELECT 1 AS one", from("superuser"), "SourceNotReady", words);
        waits_and_goes_on(&namespace, case, async || {
            merge("superuser", json!({"allowPrivilegedLogin": true})).await;
        })
        .await;
    };
    let wrong_ca = async {
        let other = rcgen::generate_simple_self_signed(["elsewhere".to_owned()]).unwrap().cert.pem();
        namespace.secret("wrong-ca", &[("password", &postgres.exporter.password), ("ca.crt", &other)]).await;
        let mut spec = source(json!({}));
        spec["postgres"]["tls"]["caSecretRef"]["name"] = json!("wrong-ca");
        namespace.source("wrong-ca", spec).await;
        let words = &["ExportSource wrong-ca", "TlsFailed", "certificate"];
        let case = case("wrong-ca", "SELECT 1 AS one", from("wrong-ca"), "SourceNotReady", words);
        waits_and_goes_on(&namespace, case, async || {
            namespace
                .secret(
                    "wrong-ca",
                    &[("password", &postgres.exporter.password), ("ca.crt", &postgres.ca_pem)],
                )
                .await;
        })
        .await;
    };
    let expired = async {
        let server = OwnServer::up(&lab).await;
        server.certify(Validity::Expired).await;
        let postgres = &server.postgres;
        namespace
            .secret("expired", &[("password", &postgres.exporter.password), ("ca.crt", &postgres.ca_pem)])
            .await;
        let mut spec = source(json!({}));
        spec["postgres"]["port"] = json!(postgres.pod.port());
        spec["postgres"]["database"] = json!("findings");
        spec["postgres"]["passwordSecretRef"]["name"] = json!("expired");
        spec["postgres"]["tls"]["caSecretRef"]["name"] = json!("expired");
        namespace.source("expired", spec).await;
        let words = &[
            "ExportSource expired",
            "TlsFailed",
            "certificate has expired",
            "renew the server's certificate",
        ];
        let case = case("expired", "SELECT 1 AS one", from("expired"), "SourceNotReady", words);
        waits_and_goes_on(&namespace, case, async || server.certify(Validity::Now).await).await;
        drop(server);
    };
    let unreachable = async {
        let mut spec = source(json!({}));
        let host = spec["postgres"]["host"].take();
        // An address of documentation (RFC 5737): nobody has it.
        spec["postgres"]["host"] = json!("192.0.2.1");
        namespace.source("unreachable", spec).await;
        let words = &[
            "ExportSource unreachable",
            "DatabaseUnreachable",
            "192.0.2.1",
            "check host and port of the ExportSource",
        ];
        let case = case("unreachable", "SELECT 1 AS one", from("unreachable"), "SourceNotReady", words);
        waits_and_goes_on(&namespace, case, async || {
            // The certificate is for the host's name.
            merge("unreachable", json!({"postgres": {"host": host}})).await;
        })
        .await;
    };
    let secret = async {
        let mut spec = source(json!({}));
        spec["postgres"]["passwordSecretRef"]["name"] = json!("missing");
        namespace.source("missing", spec).await;
        let words = &["ExportSource missing", "SecretNotFound", "Secret missing", "password"];
        let case = case("missing-secret", "SELECT 1 AS one", from("missing"), "SourceNotReady", words);
        waits_and_goes_on(&namespace, case, async || {
            namespace.secret("missing", &[("password", &postgres.exporter.password)]).await;
        })
        .await;
    };
    let bucket = async {
        let bucket = format!("later-{}", namespace.name);
        namespace.sink("later", &bucket, "").await;
        let words = &["ExportSink later", "BucketNotFound", "create the bucket"];
        let with = json!({"sinkRef": {"name": "later"}});
        let case = case("missing-bucket", "SELECT 1 AS one", with, "SinkNotReady", words);
        waits_and_goes_on(&namespace, case, async || {
            lab.peers.s3.ensure_bucket(&bucket).await.unwrap();
        })
        .await;
    };
    let account = async {
        namespace.source("reader", source(json!({"serviceAccountName": "reader"}))).await;
        let words = &["ExportSource reader", "PodNotStarted", "serviceaccount", "reader"];
        let case = case("no-account", "SELECT 1 AS one", from("reader"), "SourceNotReady", words);
        waits_and_goes_on(&namespace, case, async || {
            let account = json!({"metadata": {"name": "reader"}});
            let account: ServiceAccount = serde_json::from_value(account).unwrap();
            namespace.api().create(&PostParams::default(), &account).await.unwrap();
        })
        .await;
    };
    futures::join!(allow, query, superuser, wrong_ca, expired, unreachable, secret, bucket, account);
    namespace.remove().await;
    database.drop_database().await.unwrap();
}

#[tokio::test]
async fn a_quota_that_is_exceeded_stalls_until_it_is_raised() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database("quota").await.unwrap();
    let (namespace, _, _) = Namespace::furnished(&lab, "quota", &database.name).await;
    let quotas: Api<ResourceQuota> = namespace.api();
    let quota = json!({"metadata": {"name": "small"}, "spec": {"hard": {"requests.memory": "400Mi"}}});
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    let with = json!({"podTemplate": {"resources": {"requests": {"memory": "500Mi"}}}});
    let case = case(
        "quota",
        "SELECT 1 AS one",
        with,
        "PodNotStarted",
        &["exceeded quota", "small", "requests.memory"],
    );
    waits_and_goes_on(&namespace, case, async || {
        let patch = Patch::Merge(json!({"spec": {"hard": {"requests.memory": "2Gi"}}}));
        quotas.patch("small", &PatchParams::default(), &patch).await.unwrap();
    })
    .await;
    namespace.remove().await;
    database.drop_database().await.unwrap();
}

/// What a namespace can have against a pod: a class that is not there, a LimitRange, a policy.
#[tokio::test]
async fn a_pod_that_the_namespace_refuses_is_told_within_the_start_deadline() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database("refuses").await.unwrap();
    let (namespace, _, _) = Namespace::furnished(&lab, "refuses", &database.name).await;
    // The probes' own pods are let in.
    let limits = json!({
        "metadata": {"name": "narrow"},
        "spec": {"limits": [{"type": "Pod", "max": {"memory": "600Mi"}}]},
    });
    let limits: LimitRange = serde_json::from_value(limits).unwrap();
    namespace.api().create(&PostParams::default(), &limits).await.unwrap();
    let policy = Policy::forbids_label(&lab, &namespace.name, "failpoints.test/forbidden").await;

    let template = |with: Value| json!({"podTemplate": with, "deadlines": {"start": "20s"}});
    let cases = [
        case(
            "priority",
            "SELECT 1 AS one",
            template(json!({"priorityClassName": "nobodys"})),
            "PodNotStarted",
            &["PriorityClass", "nobodys", "deadlines.start"],
        ),
        case(
            "limit-range",
            "SELECT 1 AS one",
            template(json!({"resources": {"requests": {"memory": "700Mi"}, "limits": {"memory": "700Mi"}}})),
            "PodNotStarted",
            &["maximum memory usage per Pod is 600Mi", "deadlines.start"],
        ),
        case(
            "policy",
            "SELECT 1 AS one",
            template(json!({"labels": {"failpoints.test/forbidden": "yes"}})),
            "PodNotStarted",
            &["no pod may have the label failpoints.test/forbidden", "deadlines.start"],
        ),
    ];
    join_all(cases.iter().map(async |case| {
        namespace.job(case.name, spec(case)).await;
        refused(&namespace, case, ConditionType::Failed, PATIENCE).await;
    }))
    .await;
    policy.remove().await;
    namespace.remove().await;
    database.drop_database().await.unwrap();
}

#[tokio::test]
async fn a_location_in_use_is_waited_for_and_then_found_taken() {
    let lab = Lab::find().await;
    let world = World::create(&lab, "location").await;
    let namespace = &world.namespace;
    let gate = Gate::close(&world.database).await;
    namespace
        .job(
            "first",
            World::export_where(
                "same/",
                &Gate::condition("a.hostname = (SELECT min(hostname) FROM assets)"),
                json!({}),
            ),
        )
        .await;
    let waits = pgexport_e2e::eventually(2 * MINUTE, async || (gate.waiting().await > 0).then_some(())).await;
    assert!(waits.is_some(), "the first does not come to the gate");
    let words = &["/first", "from-us/same/", "wait for the other ExportJob"];
    let second = case("second", "SELECT 1 AS one", json!({"path": "same/"}), "LocationInUse", words);
    namespace.job(second.name, spec(&second)).await;
    refused(namespace, &second, ConditionType::Stalled, SOON).await;
    gate.open().await;
    namespace.succeeded("first", 2 * MINUTE).await;
    let taken = case("second", "", json!({}), "OutputExists", &["from-us/same/", "another path"]);
    refused(namespace, &taken, ConditionType::Failed, SOON).await;
    world.whole("same/").await;
    world.remove(&["first", "second"]).await;
}
