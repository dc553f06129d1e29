//! Two instances behind one address. They are copies of one another, so that even snapshot ids are the same.

use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::Duration;

use pgexport_api::reason::Reason;
use pgexport_api::source::{Postgres, Tls, TlsMode};
use pgexport_engine::secret::{MemorySecrets, Secret};
use pgexport_engine::source::{Connector, Holder, Importer};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::{Client, NoTls};

use super::world::key;

/// Servers of this test's own.
struct Instances {
    folder: tempfile::TempDir,
    program: PathBuf,
    owner: Option<(u32, u32)>,
    running: Vec<Child>,
}

impl Instances {
    fn new() -> Self {
        let program = std::fs::read_dir("/usr/lib/postgresql")
            .unwrap()
            .map(|entry| entry.unwrap().path().join("bin"))
            .filter(|program| program.join("initdb").exists())
            .max()
            .unwrap();
        let number = |option: &str, user: &str| -> u32 {
            let told = Command::new("id").args([option, user]).output().unwrap();
            String::from_utf8(told.stdout).unwrap().trim().parse().unwrap()
        };
        // PostgreSQL does not run as root.
        let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
        let owner = root.then(|| (number("-u", "postgres"), number("-g", "postgres")));
        let folder = tempfile::tempdir().unwrap();
        if let Some((user, group)) = owner {
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        Self { folder, program, owner, running: Vec::new() }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Two data directories with the same bytes.
    fn initialise(&self) {
        let mut initdb = self.command(&self.program.join("initdb"));
        initdb.args(["-D", "one", "-U", "exporter", "-A", "trust", "-E", "UTF8", "--no-sync"]);
        assert!(initdb.status().unwrap().success());
        assert!(self.command(Path::new("cp")).args(["-a", "one", "two"]).status().unwrap().success());
    }

    async fn start(&mut self, data: &str) -> u16 {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut postgres = self.command(&self.program.join("postgres"));
        postgres.args(["-D", data, "-p", &port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "autovacuum=off",
            "shared_buffers=16MB",
        ] {
            postgres.args(["-c", setting]);
        }
        self.running.push(postgres.spawn().unwrap());
        for _ in 0..300 {
            if connect(port).await.is_some() {
                return port;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the instance {data} does not answer");
    }
}

impl Drop for Instances {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

async fn connect(port: u16) -> Option<Client> {
    let config = format!("host=127.0.0.1 port={port} user=exporter dbname=postgres");
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}

/// One address that leads to whichever instance `port` names.
async fn balancer(port: Arc<AtomicU16>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect(("127.0.0.1", port.load(Relaxed))).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    });
    address
}

/// A holder on one instance, and a transaction on the other that exports a snapshot of the same id. The place in a server's table
/// of processes, which is in the id, is luck.
async fn namesakes(connector: &Connector, one: u16, two: u16) -> (Holder, Client) {
    for _ in 0..10 {
        // So that the other instance is behind.
        let busy = connect(one).await.unwrap();
        for _ in 0..300 {
            busy.batch_execute("BEGIN; SELECT 1; COMMIT").await.unwrap();
        }
        drop(busy);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let holder = Holder::begin(connector, "holder").await.unwrap();
        if let Some(twin) = twin(two, &holder.snapshot().id).await {
            return (holder, twin);
        }
        holder.finish().await;
    }
    panic!("no two snapshots have the same id");
}

/// A transaction on the instance that exports a snapshot of this id.
async fn twin(port: u16, id: &str) -> Option<Client> {
    let mut others = Vec::new();
    for _ in 0..20 {
        let client = connect(port).await.unwrap();
        for _ in 0..2000 {
            client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await.unwrap();
            let row = client.query_one("SELECT pg_export_snapshot()", &[]).await.unwrap();
            let exported: String = row.get(0);
            if exported == id {
                return Some(client);
            }
            client.batch_execute("ROLLBACK").await.unwrap();
            // The same place in the server's table of processes, and fewer transactions there so far: it can come.
            if exported.split('-').next() != id.split('-').next() || exported.as_str() > id {
                break;
            }
        }
        others.push(client);
    }
    None
}

#[tokio::test]
async fn another_instance_with_the_same_snapshot_id_is_noticed() {
    let mut instances = Instances::new();
    instances.initialise();
    let (one, two) = (instances.start("one").await, instances.start("two").await);
    let port = Arc::new(AtomicU16::new(one));
    let address = balancer(Arc::clone(&port)).await;
    let postgres = Postgres {
        host: address.ip().to_string(),
        port: address.port(),
        database: "postgres".to_owned(),
        user: "exporter".to_owned(),
        password_secret_ref: Some(key("login", "password")),
        iam_auth: None,
        tls: Tls { mode: TlsMode::Disable, ca_secret_ref: None, ca_config_map_ref: None },
        settings: std::collections::BTreeMap::default(),
    };
    let mut secrets = MemorySecrets::default();
    secrets.insert("login", "password", Secret::new(b"any".to_vec()));
    let connector = Connector::new(&postgres, Arc::new(secrets));
    let (holder, twin) = namesakes(&connector, one, two).await;
    let snapshot = holder.snapshot().clone();
    let importer = connect(two).await.unwrap();
    let import = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET TRANSACTION SNAPSHOT '{}'",
        snapshot.id
    );
    importer.batch_execute(&import).await.expect("the other instance takes the id for its own");

    port.store(two, Relaxed);
    let error = Importer::join(&connector, &snapshot, "astray").await.unwrap_err();
    assert_eq!(error.reason(), Reason::WrongInstance, "{error}");
    twin.batch_execute("ROLLBACK").await.unwrap();
    port.store(one, Relaxed);
    let importer = Importer::join(&connector, &snapshot, "right").await.expect("the holder's own instance");
    importer.finish().await;
    holder.finish().await;
}
