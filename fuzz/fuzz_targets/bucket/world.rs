//! A run whose chunks are staged, a sink, and somebody who alters what is in both.

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use pgexport_api::job::{Compression, Format, FormatType, Layout, Strategy};
use pgexport_api::order::{CleanupOrder, CleanupPart, DeliveryPath, RunOrder};
use pgexport_api::source::{Server, ServerRole};
use pgexport_engine::decode::{Scalar, Shape};
use pgexport_engine::encode::Encoder;
use pgexport_engine::manifest::Manifest;
use pgexport_engine::output::{Packer, Role};
use pgexport_engine::plan::{Chunk, Column, PLAN_VERSION, Plan, PlannedDataset, Rows, Snapshot};
use pgexport_engine::progress::Progress;
use pgexport_engine::secret::MemorySecrets;
use pgexport_engine::staging::{ChunkRecord, Staging, Unseen};
use pgexport_engine::store::{self, Put, PutMode, Volumes};
use pgexport_engine::{cleanup, transfer};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::edit::edit;

const UID: &str = "0b0c1d2e-0000-4000-8000-000000000000";
const OTHER_UID: &str = "ffffffff-0000-4000-8000-000000000000";
const CANARY: &str = "canary";

/// How a run's chunks were staged.
const STAGED: &[(FormatType, Layout, bool)] = &[
    (FormatType::Json, Layout::Single, false),
    (FormatType::Csv, Layout::PerChunk, false),
    (FormatType::Parquet, Layout::Single, false),
    (FormatType::Ndjson, Layout::Single, true),
];

/// Files by their paths, of which the first part is `staging` or `sink`.
type Files = BTreeMap<String, Vec<u8>>;

/// What a transfer and a cleanup find.
pub struct Case {
    order: RunOrder,
    files: Files,
    /// Whether nothing was at the location.
    empty: bool,
}

impl Case {
    pub fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        let kind = input.choose_index(STAGED.len())?;
        let replace = input.arbitrary()?;
        let mut files = base(kind).clone();
        let there: u8 = input.int_in_range(0..=4)?;
        files.retain(|path, _| match path.as_str() {
            _ if path.starts_with("staging/") => true,
            _ if path.ends_with("_manifest.json") => there > 1,
            _ => there > 2,
        });
        if there == 4 {
            for file in files.iter_mut().filter(|(path, _)| path.starts_with("sink/")) {
                let text = String::from_utf8_lossy(file.1).replace(UID, OTHER_UID);
                *file.1 = text.into_bytes();
            }
        }
        for _ in 0..input.int_in_range(1..=4)? {
            let place = input.choose_index(files.len())?;
            if let Some(file) = files.values_mut().nth(place) {
                edit(file, input)?;
            }
        }
        let (format, layout, _) = STAGED[kind];
        Ok(Self { order: order(format, layout, replace), files, empty: there < 2 })
    }

    pub fn check(&self) {
        let world = World::new(&self.files);
        let (volumes, progress) = (world.volumes(), Progress::default());
        let secrets = Arc::new(MemorySecrets::default());
        let never = CancellationToken::new();
        RUNTIME.with(|runtime| {
            runtime.block_on(async {
                let delivered =
                    transfer::run(&self.order, secrets.clone(), &volumes, &progress, &never).await;
                world.check();
                if delivered.is_ok() && self.empty {
                    world.check_delivery(&self.order);
                }
                let _ = cleanup::run(&cleanup_of(&self.order), secrets, &volumes, &never).await;
                world.check();
                if delivered.is_ok() && self.empty {
                    world.check_delivery(&self.order);
                }
            });
        });
    }
}

thread_local!(static RUNTIME: LazyCell<Runtime> = LazyCell::new(|| {
    Builder::new_current_thread().max_blocking_threads(1).build().expect("a runtime")
}));

/// Two volumes, and what is beside them.
struct World(TempDir);

impl World {
    fn new(files: &Files) -> Self {
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
        let world = Self(root.expect("a folder"));
        world.write(CANARY, CANARY.as_bytes());
        fs::create_dir(world.path("sink")).expect("a folder");
        for (path, bytes) in files {
            world.write(path, bytes);
        }
        world
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }

    fn volumes(&self) -> Volumes {
        let folder = |name: &str| (name.to_owned(), self.path(name));
        Volumes::folders(BTreeMap::from([folder("staging"), folder("sink")]))
    }

    /// What is beside the volumes is as it was.
    fn check(&self) {
        let mut found: Vec<_> =
            fs::read_dir(self.0.path()).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
        found.sort();
        assert!(found.iter().all(|name| name == CANARY || name == "sink" || name == "staging"), "{found:?}");
        assert_eq!(fs::read(self.path(CANARY)).expect("the canary"), CANARY.as_bytes());
    }

    /// What the manifest names is there, whole.
    fn check_delivery(&self, order: &RunOrder) {
        let place = |name: &str| self.path(&format!("sink/{}{name}", order.path));
        assert!(place("_SUCCESS").exists());
        let text = fs::read(place("_manifest.json")).expect("a manifest");
        let manifest = Manifest::read(&text).unwrap_or_else(|| panic!("no manifest: {}", String::from_utf8_lossy(&text)));
        for file in manifest.datasets.iter().flat_map(|dataset| &dataset.files) {
            let bytes = fs::metadata(place(&file.path)).expect("a file").len();
            assert_eq!(bytes, file.digest.bytes, "{}", file.path);
        }
    }

    fn files(&self) -> Files {
        let mut files = Files::new();
        let mut folders = vec![self.0.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Some(name) = path.strip_prefix(self.0.path()).ok().and_then(Path::to_str) {
                    files.insert(name.to_owned(), fs::read(&path).expect("a file"));
                }
            }
        }
        files
    }
}

/// What an honest run has staged and delivered: its data files are left out.
fn base(kind: usize) -> &'static Files {
    static BASES: [OnceLock<Files>; STAGED.len()] = [const { OnceLock::new() }; STAGED.len()];
    BASES[kind].get_or_init(|| {
        let world = World::new(&Files::new());
        let (format, layout, unseen) = STAGED[kind];
        let order = order(format, layout, false);
        RUNTIME.with(|runtime| runtime.block_on(stage(&world, &order, unseen)));
        let mut files = world.files();
        files.retain(|path, _| path.starts_with("staging/") || path.contains("/_"));
        assert!(files.keys().any(|path| path.ends_with("_SUCCESS")), "{:?}", files.keys());
        files
    })
}

async fn stage(world: &World, order: &RunOrder, unseen: bool) {
    let DeliveryPath::Staged { staging } = &order.delivery else { unreachable!() };
    let secrets = Arc::new(MemorySecrets::default());
    let store = store::open(&staging.target, secrets.clone(), &world.volumes()).expect("a store");
    let staging = Staging::open(store.clone(), order);
    let plan = plan();
    assert_eq!(staging.create_plan(&plan).await.expect("a plan"), Put::Written);
    for chunk in 0..2 {
        let at = plan.time;
        let mut record = ChunkRecord { chunk, rows: 1, footer: None, started: at, finished: at, worker: 0 };
        if unseen {
            let key = staging.unseen_key(&plan, chunk).expect("a key");
            let line = b"{\"id\":7}\n";
            store.put(&key, line.to_vec().into(), "x/y", PutMode::Create).await.expect("a body");
            let told = Unseen { bytes: line.len() as u64, objects: 1 };
            staging.seal_unseen(record, key, told).await.expect("a sidecar");
            continue;
        }
        let mut writer = staging.writer(&plan, chunk).await.expect("a writer");
        let dataset = &plan.datasets[0];
        let mut encoder = Encoder::new(&order.format, &dataset.columns, &dataset.shapes).expect("an encoder");
        let rows = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x08\0\0\0\0\0\0\0\x07\xff\xff";
        let mut packer = Packer::new(&order.format, order.compression, dataset, Role::Part).expect("a packer");
        let mut pieces = Vec::new();
        let pushed = encoder.push(&mut &rows[..]).expect("rows");
        for batch in pushed.into_iter().chain(encoder.finish().expect("rows")) {
            pieces.extend(packer.batch(batch).await.expect("bytes"));
        }
        pieces.extend(packer.finish().await.expect("bytes"));
        record.footer = packer.footer();
        for piece in pieces {
            writer.write(piece).await.expect("room");
        }
        staging.seal(record, writer.finish().await.expect("a file")).await.expect("a sidecar");
    }
    let delivered =
        transfer::run(order, secrets, &world.volumes(), &Progress::default(), &CancellationToken::new()).await;
    delivered.expect("a delivery");
}

fn plan() -> Plan {
    let time = "2026-11-23T10:00:00Z".parse().expect("a time");
    let dataset = PlannedDataset {
        name: "findings".to_owned(),
        columns: vec![Column { name: "id".to_owned(), column_type: "bigint".to_owned() }],
        shapes: vec![Some(Shape::Scalar(Scalar::Int8))],
        query_sha256: "q".to_owned(),
        csv_header: Some("id\n".to_owned()),
        strategy: Strategy::None,
        reason: None,
        from: None,
        values: Vec::new(),
    };
    Plan {
        version: PLAN_VERSION,
        time,
        snapshot: Some(Snapshot {
            id: "00000003-1B-1".to_owned(),
            visible: "1:2:".to_owned(),
            postmaster_start: time,
            time,
            lsn: Some("0/16B3748".to_owned()),
        }),
        server: Server { version: "17.7".to_owned(), role: ServerRole::Primary },
        datasets: vec![dataset],
        chunks: (0..2).map(|part| Chunk { dataset: 0, part, rows: Rows::All }).collect(),
        tables: Vec::new(),
    }
}

fn order(format: FormatType, layout: Layout, replace: bool) -> RunOrder {
    let format = Format { format_type: format, csv: None, parquet: None };
    let order = json!({
        "run": {
            "namespace": "shop", "name": "nightly", "uid": UID, "attempt": 2, "specSha256": "5pec",
            "created": "2026-11-23T00:00:00Z",
        },
        "source": {"name": "db", "postgres": {
            "host": "db", "database": "db", "user": "u", "passwordSecretRef": {"name": "db", "key": "password"},
        }},
        "sink": volume("sink"),
        "delivery": {"mode": "Staged", "staging": volume("staging")},
        "looksAhead": false, "path": "findings/", "consistency": "Snapshot",
        "datasets": [], "parameters": [], "format": format, "compression": Compression::None,
        "files": {"layout": layout}, "ifExists": if replace { "Replace" } else { "Fail" },
        "workers": 1, "parallelism": 1,
    });
    serde_json::from_value(order).expect("an order")
}

fn volume(name: &str) -> serde_json::Value {
    json!({"name": name, "target": {"volume": {"claimName": name, "path": ""}}, "staging": name == "staging"})
}

fn cleanup_of(order: &RunOrder) -> CleanupOrder {
    let DeliveryPath::Staged { staging } = &order.delivery else { unreachable!() };
    CleanupOrder {
        run: order.run.clone(),
        sink: Some(order.sink.clone()),
        path: order.path.clone(),
        staging: Some(staging.clone()),
        part: CleanupPart::Everything,
        source: None,
    }
}
