//! Names and labels that controller, workers, chart and tests agree upon.

/// The label that names the ExportJob, ExportSource or ExportSink that a Job was made for.
pub const OWNER_LABEL: &str = "pgexport.dev/owner";
/// The label with the owner's kind, in lower case.
pub const OWNER_KIND_LABEL: &str = "pgexport.dev/owner-kind";
/// The finalizer of an ExportJob that may have left something to clean up.
pub const CLEANUP_FINALIZER: &str = "pgexport.dev/cleanup";
/// The label with what a Job does: `export`, `transfer`, `cleanup`, `notify` or `probe`.
pub const ROLE_LABEL: &str = "pgexport.dev/role";
/// The label with the number of the attempt or the probe.
pub const ATTEMPT_LABEL: &str = "pgexport.dev/attempt";
/// The standard label by which the controller finds what is its own, and its value.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "pgexport");
/// The annotation that asks for a probe now; any new value does.
pub const PROBE_REQUEST_ANNOTATION: &str = "pgexport.dev/probe-requested-at";
/// The label that names the ExportSchedule that an ExportJob was made by.
pub const SCHEDULE_LABEL: &str = "pgexport.dev/schedule";
/// The annotation with the `runNow.token` that an ExportJob was made for.
pub const RUN_NOW_ANNOTATION: &str = "pgexport.dev/run-now-token";

/// The label that Velero gives to what it restores. It restores no status: such an ExportJob would run again.
pub const RESTORED_LABEL: &str = "velero.io/restore-name";

/// Where a worker finds its order.
pub const ORDER_PATH: &str = "/etc/pgexport/order.json";
/// Where Secrets are mounted, each in a folder of its name.
pub const SECRETS_PATH: &str = "/var/run/pgexport/secrets";
/// Where ConfigMaps are mounted, each in a folder of its name.
pub const CONFIG_MAPS_PATH: &str = "/var/run/pgexport/config-maps";
/// Where PersistentVolumeClaims are mounted, each in a folder of its name.
pub const VOLUMES_PATH: &str = "/var/run/pgexport/volumes";
/// Where a worker writes its report.
pub const TERMINATION_PATH: &str = "/dev/termination-log";

/// The part of a uid that goes into names: its first eight hexadecimal digits.
#[must_use]
pub fn short_uid(uid: &str) -> &str {
    crate::report::truncate(uid, 8)
}

/// What is unique to an attempt: the placeholder `{token}`.
#[must_use]
pub fn token(uid: &str, attempt: u32) -> String {
    format!("{}-{attempt}", short_uid(uid))
}
