//! Logging in.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pgexport_api::order::RunIdentity;
use pgexport_api::reason::Reason;
use pgexport_api::report::truncate;
use pgexport_api::source::{Login, Postgres, Server, ServerRole, TlsMode};
use tokio::net::TcpStream;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::Type;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::{ServerMessage, Stage, classify};
use super::iam::{self, Signer};
use super::session::{Encryption, Session};
use super::tap::{self, Tap, TapTls};
use super::{dial, setting, tls};
use crate::error::{Error, Result};
use crate::secret::Secrets;

/// How long the whole login may take, over all addresses of the host. What it is done with is there before.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);
/// PostgreSQL cuts longer names (NAMEDATALEN − 1).
pub(super) const MAX_APPLICATION_NAME: usize = 63;
/// The oldest server that is supported.
const MIN_VERSION: i32 = 140_000;
/// How often a server looks whether the client of a running query is still there, so that a worker that dies without a
/// word leaves no query behind.
const CONNECTION_CHECK: &str =
    "SELECT pg_catalog.set_config('client_connection_check_interval', '10s', false)";
/// Compiling what runs once a chunk, or asks a catalog, takes the server longer than it saves: half a second of its time was
/// seen for one question. A source's settings may turn it on.
const NO_JIT: &str = "SELECT pg_catalog.set_config('jit', 'off', false)";

const GREETING: &str = "SELECT pg_catalog.current_setting('server_version'), pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
       pg_catalog.current_setting('server_encoding'), pg_catalog.pg_is_in_recovery(), pg_catalog.pg_postmaster_start_time()";

/// Where a connection leads, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: String,
    pub(super) user: String,
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, database, user } = self;
        write!(formatter, "{host}:{port}, database {database}, user {user}")
    }
}

/// What a server tells about itself at the login.
#[derive(Clone, Debug)]
pub(super) struct Greeting {
    pub(super) server: Server,
    pub(super) version: i32,
    pub(super) postmaster_start: Timestamp,
}

/// The name of a run's connections in `pg_stat_activity`: `pgexport/{namespace}/{name}/{part}`. Where that is longer than
/// PostgreSQL keeps, namespace and name are cut.
#[must_use]
pub fn application_name(run: &RunIdentity, part: &str) -> String {
    let run = format!("pgexport/{}/{}", run.namespace, run.name);
    let room = MAX_APPLICATION_NAME.saturating_sub(part.len() + 1);
    format!("{}/{part}", truncate(&run, room))
}

/// Opens connections to one ExportSource.
#[derive(Clone, Debug)]
pub struct Connector {
    postgres: Postgres,
    secrets: Arc<dyn Secrets>,
    /// Where the login is by tokens.
    signer: Option<Arc<Signer>>,
}

impl Connector {
    /// A connector; nothing is opened or read yet.
    #[must_use]
    pub fn new(postgres: &Postgres, secrets: Arc<dyn Secrets>) -> Self {
        let signer = postgres.iam_auth.as_ref().map(|iam| Arc::new(Signer::new(iam)));
        Self { postgres: postgres.clone(), secrets, signer }
    }

    /// Connects, logs in with the password that the Secret holds now, or by a token that is signed now, checks that the server can be exported from, and
    /// makes the settings: the source's, then the pinned ones.
    pub async fn connect(&self, application_name: &str) -> Result<Session> {
        let address = self.address();
        let tls = MakeRustlsConnect::new(tls::config(&self.postgres, self.secrets.as_ref())?);
        let password = self.password(&address).await?;
        let config = self.config(application_name, &password);
        let logging_in = self.log_in(&address, tls, &config, application_name);
        let logged_in = tokio::time::timeout(LOGIN_TIMEOUT, logging_in).await;
        logged_in.unwrap_or_else(|_| {
            let message = format!("{address} did not answer within {} s", LOGIN_TIMEOUT.as_secs());
            Err(Error::new(Reason::DatabaseUnreachable, message))
        })
    }

    fn address(&self) -> Address {
        let Postgres { host, port, database, user, .. } = &self.postgres;
        Address { host: host.clone(), port: *port, database: database.clone(), user: user.clone() }
    }

    async fn log_in(
        &self,
        address: &Address,
        tls: MakeRustlsConnect,
        config: &Config,
        application_name: &str,
    ) -> Result<Session> {
        let stream = dial::host(address).await?;
        let (valve, outlet) = tap::valve();
        let (in_clear, over_tls) = match self.postgres.tls.mode {
            TlsMode::Disable => (Some(valve), None),
            TlsMode::Require | TlsMode::VerifyCA | TlsMode::VerifyFull => (None, Some(valve)),
        };
        let peer = stream.peer_addr().map_err(|error| {
            Error::new(Reason::DatabaseUnreachable, format!("{address} cannot be reached: {error}"))
        })?;
        let encryption = Encryption { tls, host: address.host.clone() };
        let (client, connection) = config
            .connect_raw(
                Tap::new(stream, in_clear),
                TapTls { tls: encryption.connect::<Tap<TcpStream>>(), valve: over_tls },
            )
            .await
            .map_err(|error| {
                self.refused(classify(error, Stage::Connect, address, "the login failed"), address)
            })?;
        let mut session = Session::start(client, connection, encryption, peer, outlet, address.clone());
        session.greeting = Some(greet(&session, address).await?);
        self.set(&session).await?;
        session.pin(application_name).await?;
        Ok(session)
    }

    async fn password(&self, address: &Address) -> Result<String> {
        match (self.postgres.login(), &self.signer) {
            (Some(Login::Password(reference)), _) => self.secrets.read_text(&reference.name, &reference.key),
            // What could be read on the way would be as good as a password.
            (Some(Login::Iam(_)), Some(signer)) if self.postgres.tls.mode != TlsMode::Disable => {
                signer.token(address).await
            }
            _ => {
                let message = "spec.postgres of the ExportSource: name one of passwordSecretRef and iamAuth, the latter with TLS";
                Err(Error::new(Reason::AuthenticationFailed, message))
            }
        }
    }

    fn config(&self, application_name: &str, password: &str) -> Config {
        let Postgres { database, user, tls, .. } = &self.postgres;
        let mut config = Config::new();
        config
            .dbname(database)
            .user(user)
            .password(password)
            .application_name(truncate(application_name, MAX_APPLICATION_NAME))
            .ssl_mode(match tls.mode {
                TlsMode::Disable => SslMode::Disable,
                TlsMode::Require | TlsMode::VerifyCA | TlsMode::VerifyFull => SslMode::Require,
            });
        config
    }

    /// Says which Secret a refused password is from, or what a token needs.
    fn refused(&self, error: Error, address: &Address) -> Error {
        match error.reason() {
            Reason::AuthenticationFailed => match self.postgres.login() {
                Some(Login::Password(reference)) => error.with_hint(format!(
                    "check that key {} of Secret {} is the password of {}, and that the server's pg_hba.conf lets it in",
                    reference.key, reference.name, address.user
                )),
                Some(Login::Iam(iam)) => error.with_hint(iam::hint(iam, address)),
                None => error,
            },
            Reason::DatabaseNotFound => error
                .with_hint(format!("create the database {}, or correct spec.postgres.database of the ExportSource", address.database)),
            Reason::PermissionDenied => {
                error.with_hint(format!("GRANT CONNECT ON DATABASE {} TO {}", address.database, address.user))
            }
            _ => error,
        }
    }

    /// The source's settings, one by one, so that the message can name the one that is refused.
    async fn set(&self, session: &Session) -> Result<()> {
        // Not every platform that a server runs on can do it; then a query ends when it next writes.
        let _ = session.client().query_typed(CONNECTION_CHECK, &[]).await;
        session.query(Stage::Connect, "turning JIT compilation off", NO_JIT, &[]).await?;
        for (name, value) in &self.postgres.settings {
            if setting::is_pinned(name) {
                let message =
                    format!("setting {name} is pinned by pgexport, as the bytes of the output depend on it");
                return Err(Error::new(Reason::InvalidSetting, message)
                    .with_hint(format!("remove {name} from spec.postgres.settings of the ExportSource")));
            }
            let sql = "SELECT pg_catalog.set_config($1, $2, false)";
            let set = session.client().query_typed(sql, &[(name, Type::TEXT), (value, Type::TEXT)]).await;
            set.map_err(|error| match ServerMessage::of(&error) {
                Some(said) => Error::new(Reason::InvalidSetting, format!("setting {name}: {}", said.message))
                    .with_sql_state(said.sql_state),
                None => session.error(error, Stage::Connect, &format!("setting {name}")),
            })?;
        }
        Ok(())
    }
}

async fn greet(session: &Session, address: &Address) -> Result<Greeting> {
    let doing = "asking for the server's version";
    let row = session.one(Stage::Connect, doing, GREETING, &[]).await?;
    let column = |error| session.error(error, Stage::Connect, doing);
    let version: &str = row.try_get(0).map_err(column)?;
    let number: i32 = row.try_get(1).map_err(column)?;
    let encoding: &str = row.try_get(2).map_err(column)?;
    let replica: bool = row.try_get(3).map_err(column)?;
    if number < MIN_VERSION {
        let message = format!("the server at {address} is PostgreSQL {version}; pgexport needs 14 or later");
        return Err(Error::new(Reason::UnsupportedServer, message));
    }
    if encoding == "SQL_ASCII" {
        let message = format!("the encoding of {address} is SQL_ASCII: nobody knows what its texts mean");
        return Err(Error::new(Reason::UnsupportedServer, message)
            .with_hint("move the data to a database with a real encoding, such as UTF8"));
    }
    Ok(Greeting {
        // Distributions add their own words: `15.18 (Debian 15.18-0+deb12u1)`.
        server: Server {
            version: version.split(' ').next().unwrap_or(version).to_owned(),
            role: if replica { ServerRole::Replica } else { ServerRole::Primary },
        },
        version: number,
        postmaster_start: row.try_get(4).map_err(column)?,
    })
}

#[cfg(test)]
mod tests {
    use super::{MAX_APPLICATION_NAME, RunIdentity, application_name};

    #[test]
    fn application_names_keep_their_chunk() {
        let mut run = RunIdentity {
            namespace: "shop".to_owned(),
            name: "orders".to_owned(),
            uid: String::new(),
            attempt: 1,
            spec_sha256: String::new(),
            created: jiff::Timestamp::UNIX_EPOCH,
        };
        assert_eq!(application_name(&run, "12"), "pgexport/shop/orders/12");
        run.namespace = "n".repeat(63);
        let name = application_name(&run, "12");
        assert_eq!(name.len(), MAX_APPLICATION_NAME);
        assert!(name.ends_with("n/12"), "{name}");
    }
}
