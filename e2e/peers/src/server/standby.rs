//! A hot standby of the PostgreSQL peer, on a port of its own.
//!
//! It is made anew from the primary whenever it is started: what it missed meanwhile may be gone from the primary's log.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{
    ServerError, base_backup,
    certificate::Validity,
    daemon::Daemon,
    postgres::{CONFIGURATION, admit_standbys, launch, owner, write_certificate, write_owned},
    release::Release,
};
use crate::{Postgres, state::StateFolder};

/// How long it may take to answer.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// Beside the primary's. Without feedback the primary removes rows that the standby's queries still need: such a query, or the
/// session that holds its snapshot, is then cancelled, as on Aurora.
const OWN_CONFIGURATION: &str = "\
hot_standby = on
hot_standby_feedback = off
wal_receiver_status_interval = 1s
wal_retrieve_retry_interval = 200ms
";

/// The standby's process.
pub(super) fn daemon(folder: &StateFolder) -> Daemon {
    Daemon {
        name: "postgres",
        data: folder.standby_data(),
        log: folder.standby_log(),
        stop_signal: Signal::SIGINT,
    }
}

/// Starts the standby, unless it runs as wanted, and waits until it answers and has seen all that the primary has done.
pub(super) async fn start(
    folder: &StateFolder,
    primary: &Postgres,
    standby: &Postgres,
    release: &Release,
) -> Result<(), ServerError> {
    let (data, daemon) = (folder.standby_data(), daemon(folder));
    let launch = launch(release, &data, standby);
    if !daemon.runs_as(&launch) {
        daemon.stop().await?;
        admit_standbys(folder)?;
        base_backup::take(primary, &folder.postgres_data(), &data).await?;
        // Which certificate that is, SCRAM's channel binding looks after.
        let connection = format!(
            "host={} port={} user={} sslmode=require channel_binding=require application_name=standby",
            primary.host.ip(),
            primary.host.port(),
            primary.admin.user
        );
        let conninfo = format!("primary_conninfo = '{connection} password={}'\n", primary.admin.password);
        let configuration = [CONFIGURATION, OWN_CONFIGURATION, &conninfo].concat();
        write_owned(&data, owner(), "postgresql.conf", &configuration)?;
        write_owned(&data, owner(), "standby.signal", "")?;
        write_certificate(folder, &data, owner(), standby, Validity::Now)?;
        daemon.start(&launch)?;
    }
    let position = primary.position().await?;
    daemon.wait(START_TIMEOUT, async || standby.has_replayed(&position).await).await
}
