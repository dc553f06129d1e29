//! The PostgreSQL peer as tests use it: connections over verified TLS, and a database of one's own.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, Config, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{PeersError, error::during, findings, unique};

/// The advisory lock that is held while the template with the small data set is made.
const TEMPLATE_LOCK: i64 = 0x7067_6578_706f_7274;

/// A role that may log in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Login {
    /// The role's name.
    pub user: String,
    /// Its password.
    pub password: String,
}

/// Where PostgreSQL is, and who may log in. TLS is required and the password is checked by SCRAM.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Postgres {
    /// The address for processes of this machine.
    pub host: SocketAddr,
    /// The address for pods.
    pub pod: SocketAddr,
    /// The superuser.
    pub admin: Login,
    /// An ordinary role that may read every table, and nothing else.
    pub exporter: Login,
    /// The CA certificate, as a file.
    pub ca_file: PathBuf,
    /// The CA certificate itself.
    pub ca_pem: String,
    /// Its major version; absent in the records of earlier peers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
}

impl Postgres {
    /// Connects from this machine, over TLS that is verified against the CA.
    ///
    /// # Errors
    /// The certificate does not verify, or PostgreSQL refuses.
    pub async fn connect(&self, database: &str, user: &str, password: &str) -> Result<Client, PeersError> {
        let mut config = Config::new();
        config
            .host(self.host.ip().to_string())
            .port(self.host.port())
            .dbname(database)
            .user(user)
            .password(password)
            .application_name("peers")
            .ssl_mode(SslMode::Require);
        let (client, connection) =
            config.connect(MakeRustlsConnect::new(self.tls()?)).await.map_err(during(format!(
                "connecting to {} as {user}, database {database} (`peers status` tells whether it runs)",
                self.host
            )))?;
        // The connection ends with its client, which also gets to see what went wrong.
        tokio::spawn(connection);
        Ok(client)
    }

    /// Connects as the superuser.
    ///
    /// # Errors
    /// As for [`Postgres::connect`].
    pub async fn admin(&self, database: &str) -> Result<Client, PeersError> {
        self.connect(database, &self.admin.user, &self.admin.password).await
    }

    /// Connects as the role that exports.
    ///
    /// # Errors
    /// As for [`Postgres::connect`].
    pub async fn exporter(&self, database: &str) -> Result<Client, PeersError> {
        self.connect(database, &self.exporter.user, &self.exporter.password).await
    }

    /// A client configuration that trusts the peers' CA and nothing else.
    ///
    /// # Errors
    /// The recorded certificate is damaged.
    pub fn tls(&self) -> Result<ClientConfig, PeersError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.ca_pem.as_bytes()) {
            roots.add(certificate.map_err(|error| PeersError::Certificate(error.to_string()))?)?;
        }
        Ok(ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth())
    }

    /// How far this primary's log goes.
    ///
    /// # Errors
    /// PostgreSQL cannot be reached, or is a standby.
    pub async fn position(&self) -> Result<String, PeersError> {
        let doing = || during("asking how far the primary's log goes");
        let admin = self.admin("postgres").await?;
        // A record of its own: where the next one will be, is no place that a standby is sure to come to. It is flushed, and so
        // is what was committed before it without waiting for that.
        admin.batch_execute("SET synchronous_commit = on").await.map_err(doing())?;
        let record = "SELECT pg_logical_emit_message(true, 'peers', '')::text";
        Ok(admin.query_one(record, &[]).await.map_err(doing())?.get(0))
    }

    /// Fails with [`PeersError::Behind`] until this standby has replayed the primary's log up to a position.
    ///
    /// # Errors
    /// That, or PostgreSQL cannot be reached.
    pub async fn has_replayed(&self, position: &str) -> Result<(), PeersError> {
        let asking = format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{position}', false)");
        let row = self.admin("postgres").await?.query_one(&asking, &[]).await;
        if row.map_err(during("asking how far the standby is"))?.get(0) {
            return Ok(());
        }
        Err(PeersError::Behind { standby: self.host })
    }

    /// Waits until this standby has replayed all that `primary` has done by now.
    ///
    /// # Errors
    /// One of them cannot be asked, or half a minute is not enough.
    pub async fn catch_up(&self, primary: &Self) -> Result<(), PeersError> {
        let position = primary.position().await?;
        let mut tries = 300;
        loop {
            match self.has_replayed(&position).await {
                Err(PeersError::Behind { .. }) if tries > 0 => tries -= 1,
                answer => return answer,
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Makes the database unless it exists.
    ///
    /// # Errors
    /// PostgreSQL cannot be reached, or refuses.
    pub async fn ensure_database(&self, name: &str) -> Result<(), PeersError> {
        let admin = self.admin("postgres").await?;
        let action = || during(format!("making the database {name}"));
        // Quoted by PostgreSQL itself; CREATE DATABASE takes no parameters.
        let statement =
            "SELECT format('CREATE DATABASE %I', $1::text) WHERE $1 NOT IN (SELECT datname FROM pg_database)";
        if let Some(row) = admin.query_opt(statement, &[&name]).await.map_err(action())? {
            admin.batch_execute(row.get(0)).await.map_err(action())?;
        }
        Ok(())
    }

    /// Makes a login with a unique name that begins with `hint`, which may read every table, and nothing else. It stays until
    /// `peers down --purge`.
    ///
    /// # Errors
    /// PostgreSQL cannot be reached, or refuses.
    pub async fn create_login(&self, hint: &str) -> Result<Login, PeersError> {
        let login = Login { user: unique::name(hint, '_'), password: unique::secret() };
        // Neither holds a quote.
        let statement = format!(
            "CREATE ROLE {} LOGIN PASSWORD '{}' IN ROLE pg_read_all_data",
            login.user, login.password
        );
        let action = during(format!("making the login {}", login.user));
        self.admin("postgres").await?.batch_execute(&statement).await.map_err(action)?;
        Ok(login)
    }

    /// Makes an empty database with a unique name that begins with `hint`.
    ///
    /// # Errors
    /// PostgreSQL cannot be reached, or refuses.
    pub async fn create_database(&self, hint: &str) -> Result<TestDatabase, PeersError> {
        self.create_database_from(hint, "template1").await
    }

    /// Makes a database with [`findings::SMALL`] findings and their assets. The first call makes a template, the
    /// others copy it.
    ///
    /// # Errors
    /// PostgreSQL cannot be reached, or refuses.
    pub async fn create_findings_database(&self, hint: &str) -> Result<TestDatabase, PeersError> {
        let template = format!("findings_small_{}", findings::GENERATOR);
        let admin = self.admin("postgres").await?;
        let template_is_ready = "SELECT FROM pg_database WHERE datname = $1 AND datistemplate";
        let ready = |rows: Vec<_>| !rows.is_empty();
        let look = || during(format!("looking for the template {template}"));
        if !ready(admin.query(template_is_ready, &[&template]).await.map_err(look())?) {
            // Session-level: it is released with the connection, also when this test dies half-way.
            admin.execute("SELECT pg_advisory_lock($1)", &[&TEMPLATE_LOCK]).await.map_err(look())?;
            if !ready(admin.query(template_is_ready, &[&template]).await.map_err(look())?) {
                self.make_template(&admin, &template).await?;
            }
        }
        self.create_database_from(hint, &template).await
    }

    async fn make_template(&self, admin: &Client, template: &str) -> Result<(), PeersError> {
        for statement in [
            format!("DROP DATABASE IF EXISTS {template} WITH (FORCE)"),
            format!("CREATE DATABASE {template}"),
        ] {
            admin.batch_execute(&statement).await.map_err(during(statement.clone()))?;
        }
        findings::load(&self.admin(template).await?, "findings", findings::SMALL).await?;
        // Nobody may connect from now on, so that copies can be made at any time; PostgreSQL waits up to five
        // seconds for the loading session to end.
        let seal = format!("ALTER DATABASE {template} WITH ALLOW_CONNECTIONS false IS_TEMPLATE true");
        admin.batch_execute(&seal).await.map_err(during(seal.clone()))
    }

    async fn create_database_from(&self, hint: &str, template: &str) -> Result<TestDatabase, PeersError> {
        let name = unique::name(hint, '_');
        let statement = format!("CREATE DATABASE {name} TEMPLATE {template}");
        self.admin("postgres").await?.batch_execute(&statement).await.map_err(during(statement.clone()))?;
        Ok(TestDatabase { name, postgres: self.clone() })
    }
}

/// A database that belongs to one test. It stays until [`TestDatabase::drop_database`] or `peers down --purge`, so a
/// failed test can be looked into.
#[derive(Debug, Clone)]
pub struct TestDatabase {
    /// Its name.
    pub name: String,
    postgres: Postgres,
}

impl TestDatabase {
    /// Connects as the superuser.
    ///
    /// # Errors
    /// As for [`Postgres::connect`].
    pub async fn admin(&self) -> Result<Client, PeersError> {
        self.postgres.admin(&self.name).await
    }

    /// Connects as the role that exports.
    ///
    /// # Errors
    /// As for [`Postgres::connect`].
    pub async fn exporter(&self) -> Result<Client, PeersError> {
        self.postgres.exporter(&self.name).await
    }

    /// Connects to another database of the same server, as the superuser.
    pub(crate) async fn server(&self) -> Result<Client, PeersError> {
        self.postgres.admin("postgres").await
    }

    /// Drops the database and whoever is still connected to it.
    ///
    /// # Errors
    /// PostgreSQL cannot be reached, or refuses.
    pub async fn drop_database(self) -> Result<(), PeersError> {
        let statement = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        self.postgres
            .admin("postgres")
            .await?
            .batch_execute(&statement)
            .await
            .map_err(during(statement.clone()))
    }
}
