//! Making the plan, in the transaction that holds the snapshot.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use pgexport_api::job::{Consistency, FormatType, Strategy};
use pgexport_api::order::{DatasetOrder, RunOrder, Target};
use pgexport_api::reason::Reason;
use sha2::{Digest, Sha256};

use super::Column;
use super::describe::describe;
use super::query::values;
use super::values::Items;
use super::{
    Chunk, ItemValue, PLAN_VERSION, Plan, PlannedDataset, Rows, auto, column, expect, parameter, rewritten,
    shape, table, unchanged,
};
use crate::encode::header_statement;
use crate::error::{Error, Result};
use crate::output::file_name;
use crate::source::error::{ServerMessage, Stage};
use crate::source::{Holder, Session};
use crate::sql::{CHUNK, Values, substitute};

/// Plans a run: checks parameters and queries, describes the results, splits them, and makes sure that the tables are
/// still those of the snapshot. Any error has aborted the holder's transaction.
pub async fn make(holder: &Holder, order: &RunOrder) -> Result<Plan> {
    for parameter in &order.parameters {
        parameter::check(holder.session(), parameter).await?;
    }
    let values = values(&order.parameters, holder.snapshot().time)?;
    let mut datasets = Vec::with_capacity(order.datasets.len());
    let mut chunks = Vec::new();
    for (index, dataset) in (0_u32..).zip(&order.datasets) {
        let (planned, rows) = plan_dataset(holder, order, dataset, &values).await?;
        datasets.push(planned);
        chunks.extend((0_u32..).zip(rows).map(|(part, rows)| Chunk { dataset: index, part, rows }));
    }
    rewritten::check(holder.session()).await?;
    let one_snapshot = order.consistency == Consistency::Snapshot;
    let tables = if one_snapshot {
        Vec::new()
    } else {
        unchanged::split_tables(holder.session(), order, &chunks).await?
    };
    Ok(Plan {
        version: PLAN_VERSION,
        time: holder.snapshot().time,
        snapshot: one_snapshot.then(|| holder.snapshot().clone()),
        server: holder.server().clone(),
        datasets,
        chunks,
        tables,
    })
}

async fn plan_dataset(
    holder: &Holder,
    order: &RunOrder,
    dataset: &DatasetOrder,
    values: &Values,
) -> Result<(PlannedDataset, Vec<Rows>)> {
    let session = holder.session();
    let doing = format!("data set {}", dataset.name);
    let chunking = &dataset.chunking;
    let by_table = chunking.table.as_ref().filter(|_| chunking.strategy == Strategy::Table);
    let by_column = chunking.column.as_ref().filter(|_| chunking.strategy == Strategy::Column);
    let mut whole = values.clone();
    if by_table.is_some() {
        whole.insert(CHUNK.to_owned(), table::WHOLE.to_owned());
    }
    let items = Items::find(session, &doing, chunking, values).await?;
    let mut written = Vec::new();
    if let Some(items) = &items {
        // A query for items may have changed how they are read.
        holder.pin().await?;
        written = items.check(session, &doing).await?;
        items.insert_first(&mut whole)?;
    }
    let query = substitute(&dataset.sql, &whole);
    if let Some(items) = &items {
        items.check_placeholder(&doing, &query)?;
    }
    if by_table.is_some() {
        table::check_placeholder(&doing, &query)?;
    }
    // A query before this one may have changed how this one would be read.
    holder.pin().await?;
    let described = describe(session, &doing, &query).await?;
    expect::check_columns(dataset, &described.columns)?;
    if order.format.format_type == FormatType::Parquet {
        check_names(&doing, &described.columns)?;
    }
    let (types, modifiers) = (&described.types, &described.modifiers);
    let shapes = shape::shapes(session, &doing, types, modifiers, order.format.format_type).await?;
    let csv_header = header(session, &doing, order, &query.sql).await?;
    let mut auto = None;
    let rows = if chunking.strategy == Strategy::Auto {
        let mut split = auto::split(session, &doing, order, &dataset.sql, &whole, &query, &described).await?;
        let rows = std::mem::take(&mut split.rows);
        auto = Some(split);
        rows
    } else if let Some(chunking) = by_table {
        table::rows(session, &doing, &dataset.sql, values, &described, chunking).await?
    } else if let Some(chunking) = by_column {
        column::rows(session, &doing, &query.sql, &described, chunking).await?
    } else if let Some(items) = &items {
        items.rows(session, &doing, dataset, values).await?
    } else {
        vec![Rows::All]
    };
    if order.files.names_value() {
        check_file_names(&doing, order, &dataset.name, &written)?;
    } else if !items.is_some_and(|items| items.is_asked_for()) {
        written.clear();
    }
    let planned = PlannedDataset {
        name: dataset.name.clone(),
        columns: described.columns,
        shapes,
        query_sha256: hex::encode(Sha256::digest(&dataset.sql)),
        csv_header,
        strategy: auto.as_ref().map_or(chunking.strategy, |split| split.strategy),
        reason: auto.as_ref().map(|split| split.reason.clone()),
        from: auto.and_then(|split| split.from),
        values: written,
    };
    Ok((planned, rows))
}

/// A file of columns has no two of one name that readers could tell apart.
fn check_names(doing: &str, columns: &[Column]) -> Result<()> {
    let mut names = BTreeSet::new();
    match columns.iter().find(|column| !names.insert(column.name.as_str())) {
        None => Ok(()),
        Some(Column { name, .. }) => {
            let message =
                format!("{doing}: two columns are named {name:?}, and Parquet needs names that differ");
            Err(Error::new(Reason::InvalidQuery, message)
                .with_hint("name columns by AS, and list those that you need"))
        }
    }
}

/// The longest key that S3 takes. <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>
const MAX_KEY: usize = 1024;
/// The longest name that most file systems take.
const MAX_NAME: usize = 255;

/// Files that are named by values need names that stores take.
fn check_file_names(doing: &str, order: &RunOrder, dataset: &str, values: &[ItemValue]) -> Result<()> {
    let prefix = match &order.sink.target {
        Target::S3(s3) => s3.prefix.len(),
        Target::Volume(volume) => volume.path.len(),
    };
    for (part, value) in (0_u32..).zip(values) {
        let (format, token) = (order.format.format_type, order.token());
        let value = Some(value.as_str());
        let name = file_name(&order.files, format, order.compression, dataset, part, value, &token);
        let longest = name.split('/').map(str::len).max().unwrap_or_default();
        if longest > MAX_NAME || prefix + order.path.len() + name.len() > MAX_KEY {
            let message = format!(
                "{doing}: files.name: with the value of items[{part}], a file's name is too long: {longest} bytes between two slashes where {MAX_NAME} are the most, or more than {MAX_KEY} in all"
            );
            return Err(Error::new(Reason::ChunkingRefused, message)
                .with_hint("leave {value} out of files.name, or make the values shorter"));
        }
    }
    Ok(())
}

/// The header line as the server writes it, which also proves the CSV options.
async fn header(session: &Session, doing: &str, order: &RunOrder, query: &str) -> Result<Option<String>> {
    let Some(statement) = header_statement(query, &order.format) else { return Ok(None) };
    let failed = |error: tokio_postgres::Error| match ServerMessage::of(&error) {
        Some(said)
            if matches!(said.sql_state.get(..2), Some("22" | "42" | "0A")) && said.sql_state != "42501" =>
        {
            Error::new(Reason::InvalidSpec, format!("{doing}: format.csv: {}", said.message))
                .with_sql_state(said.sql_state)
        }
        _ => session.error(error, Stage::Plan, doing),
    };
    let lines = async {
        let mut stream = Box::pin(session.client().copy_out(&statement).await?);
        let mut lines = Vec::new();
        while let Some(line) = stream.next().await {
            lines.extend_from_slice(&line?);
        }
        Ok(lines)
    };
    let lines = session.watched(lines).await.map_err(failed)?;
    let wanted =
        order.format.format_type == FormatType::Csv && order.format.csv.as_ref().is_none_or(|csv| csv.header);
    let text = String::from_utf8(lines)
        .map_err(|_| Error::new(Reason::InternalError, format!("{doing}: the CSV header is not UTF-8")))?;
    Ok(wanted.then_some(text))
}
