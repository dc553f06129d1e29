//! Compressed exports, direct and staged.

use pgexport_api::job::{Compression, Format, FormatType, Layout};
use pgexport_api::order::RunOrder;
use pgexport_api::report::Outcome;
use pgexport_engine::{export, transfer};

use super::support::decompressed;
use super::{ALL, Room};

/// Exports, and gives what the customer finds, with the bytes that were told.
async fn deliver(room: &Room, order: &RunOrder) -> (Vec<(String, Vec<u8>)>, u64) {
    let context = room.context(order.clone(), 0);
    let progress = context.progress.clone();
    let delivered = match export::run(context.clone()).await.unwrap() {
        Outcome::Delivered(delivered) => {
            assert_eq!(progress.snapshot().bytes, delivered.bytes, "progress counts what is stored");
            delivered
        }
        Outcome::Exported(exported) => {
            assert_eq!(progress.snapshot().bytes, exported.bytes, "progress counts what is stored");
            transfer::run(order, context.secrets, &context.volumes, &progress, &context.cancel).await.unwrap()
        }
        other => panic!("one worker tells the totals: {other:?}"),
    };
    (room.delivered().await, delivered.bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn direct_and_staged_compressed_files_hold_every_row() {
    for (compression, format_type, staged) in [
        (Compression::Gzip, FormatType::Json, false),
        (Compression::Zstd, FormatType::Json, true),
        (Compression::Gzip, FormatType::Ndjson, true),
        (Compression::Zstd, FormatType::Ndjson, false),
    ] {
        let room = Room::new("compressed").await;
        let order = RunOrder {
            format: Format { format_type, csv: None, parquet: None },
            compression,
            workers: 1,
            ..room.order(ALL, staged)
        };
        let (files, told) = deliver(&room, &order).await;
        let stored: u64 = files.iter().map(|(_, file)| file.len() as u64).sum();
        assert_eq!(stored, told);
        let ending = format!(".{}.{}", format_type.extension(), compression.extension().unwrap());
        let mut found = Vec::new();
        let mut plain = 0;
        for (key, file) in &files {
            assert!(key.ends_with(&ending), "{key}");
            let text = String::from_utf8(decompressed(compression, file)).unwrap();
            plain += text.len() as u64;
            if format_type == FormatType::Json {
                serde_json::from_str::<Vec<serde::de::IgnoredAny>>(&text).expect("one JSON document");
            }
            let rows = text.lines().filter(|line| line.starts_with('{'));
            found.extend(rows.map(|row| row.strip_suffix(',').unwrap_or(row).to_owned()));
        }
        assert_eq!(files.len(), if order.files.layout == Layout::Single { 1 } else { 6 });
        assert!(plain > 3 * stored, "{plain} bytes became {stored}");
        found.sort_unstable();
        assert!(found == room.rows().await, "{compression:?} {format_type:?}");
        room.assert_quiet().await;
        room.database.drop_database().await.unwrap();
    }
}
