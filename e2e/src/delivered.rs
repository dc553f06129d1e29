//! What a customer finds in the bucket.

use pgexport_peers::{S3, TestDatabase};
use serde_json::Value;

/// A finished delivery.
pub struct Delivery {
    /// The manifest.
    pub manifest: Value,
    /// The data files, with their keys below the location.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Delivery {
    /// Reads what lies below `location` of a bucket, and checks that it is a finished delivery and nothing else: the
    /// manifest names each file with its size, there is no other one, and no upload is open in the bucket.
    pub async fn read(s3: &S3, bucket: &str, location: &str) -> Self {
        let delivery = Self::read_beside_others(s3, bucket, location).await;
        assert!(s3.open_uploads(bucket).await.expect("uploads").is_empty(), "an upload is left open");
        delivery
    }

    /// The same where others deliver to the bucket meanwhile.
    pub async fn read_beside_others(s3: &S3, bucket: &str, location: &str) -> Self {
        let objects = s3.list(bucket, location).await.expect("a listing");
        let mut keys: Vec<String> = objects.into_iter().map(|object| object.key).collect();
        assert!(keys.contains(&format!("{location}_SUCCESS")), "no _SUCCESS among {keys:?}");
        let manifest = s3.get(bucket, &format!("{location}_manifest.json")).await.expect("a manifest");
        let manifest: Value = serde_json::from_slice(&manifest).expect("a manifest in JSON");
        keys.retain(|key| !key.ends_with("_SUCCESS") && !key.ends_with("_manifest.json"));
        let mut files = Vec::new();
        for key in keys {
            let body = s3.get(bucket, &key).await.expect("a file");
            files.push((key[location.len()..].to_owned(), body));
        }
        let delivery = Self { manifest, files };
        delivery.check_manifest();
        delivery
    }

    fn check_manifest(&self) {
        let mut named: Vec<(String, u64)> = self.manifest_files().collect();
        named.sort();
        let mut found: Vec<(String, u64)> =
            self.files.iter().map(|(key, body)| (key.clone(), body.len() as u64)).collect();
        found.sort();
        assert_eq!(named, found, "the manifest's files are not those in the bucket");
    }

    fn manifest_files(&self) -> impl Iterator<Item = (String, u64)> {
        let datasets = self.manifest["datasets"].as_array().expect("datasets");
        datasets.iter().flat_map(|dataset| dataset["files"].as_array().expect("files")).map(|file| {
            (file["path"].as_str().expect("a path").to_owned(), file["bytes"].as_u64().expect("bytes"))
        })
    }

    /// The files of a data set, in the manifest's order.
    pub fn files_of(&self, dataset: &str) -> Vec<&[u8]> {
        let datasets = self.manifest["datasets"].as_array().expect("datasets");
        let dataset = datasets.iter().find(|candidate| candidate["name"] == dataset).expect("the data set");
        let paths = dataset["files"]
            .as_array()
            .expect("files")
            .iter()
            .map(|file| file["path"].as_str().expect("a path"));
        paths
            .map(|path| {
                let (_, body) = self.files.iter().find(|(key, _)| key == path).expect("the file");
                body.as_slice()
            })
            .collect()
    }
}

/// The rows of one JSON document, each as its own bytes, sorted: a multiset that can be compared.
pub fn json_rows(document: &[u8]) -> Vec<&[u8]> {
    let inner =
        document.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]\n")).expect("one JSON array");
    let mut rows: Vec<&[u8]> = inner
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| line.strip_suffix(b",").unwrap_or(line))
        .collect();
    rows.sort_unstable();
    rows
}

/// The rows of NDJSON files, each as its own bytes, sorted.
pub fn ndjson_rows<'a>(files: impl IntoIterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
    let lines = files.into_iter().flat_map(|file| file.split(|byte| *byte == b'\n'));
    let mut rows: Vec<&[u8]> = lines.filter(|line| !line.is_empty()).collect();
    rows.sort_unstable();
    rows
}

/// The rows of a query as PostgreSQL itself writes them in JSON, sorted.
pub async fn expected_rows(database: &TestDatabase, sql: &str) -> Vec<Vec<u8>> {
    let admin = database.admin().await.expect("a connection");
    admin.batch_execute("SET TimeZone = 'UTC'").await.expect("a setting");
    let sql = format!("SELECT row_to_json(q.*)::text FROM ({sql}) q");
    let rows = admin.query(&sql, &[]).await.expect("rows");
    let line = |row: &tokio_postgres::Row| row.get::<_, String>(0).replace(['\r', '\n'], " ").into_bytes();
    let mut rows: Vec<Vec<u8>> = rows.iter().map(line).collect();
    rows.sort_unstable();
    rows
}

/// The records of CSV files (without headers), each as its own bytes, sorted.
pub fn csv_records<'a>(files: impl IntoIterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
    let mut records = Vec::new();
    for file in files {
        let (mut start, mut quoted) = (0, false);
        for (at, byte) in file.iter().enumerate() {
            match byte {
                b'"' => quoted = !quoted,
                b'\n' if !quoted => {
                    records.push(&file[start..=at]);
                    start = at + 1;
                }
                _ => {}
            }
        }
        assert_eq!(start, file.len(), "a record has no end");
    }
    records.sort_unstable();
    records
}
