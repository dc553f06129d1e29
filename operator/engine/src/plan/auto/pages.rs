//! A query over one table: by ranges of its pages, or by its partitions.

use std::collections::BTreeSet;

use pgexport_api::job::Strategy;

use super::super::Rows;
use super::super::explain::Node;
use super::super::from::{FromItem, PART, TablePart};
use super::size::{Part, chunks, pack};
use super::table::{self, Named, Table};
use super::{SYSTEM_COLUMNS, Split, Subject};
use crate::error::Result;
use crate::sql::{Outline, identifier};

/// A chunk may cost so many times its share of what the whole costs: connections read side by side.
const WORTH: f64 = 2.0;

/// Splits a query over one table, or says why not.
pub(super) async fn split(
    subject: &Subject<'_>,
    outline: &Outline,
    tables: &[Named],
) -> Result<Result<Split, String>> {
    let named = match tables {
        [one] => one,
        [] => return Ok(Err("it names no table".to_owned())),
        tables => return Ok(Err(format!("it names {} tables", tables.len()))),
    };
    if subject.described.plan.names_rows() {
        return Ok(Err("it names a table's row as a whole".to_owned()));
    }
    if let Some(column) = SYSTEM_COLUMNS.iter().find(|column| outline.words.contains(**column)) {
        return Ok(Err(format!("it names {column}")));
    }
    let table = &named.table;
    let has_only = named.name.only.is_some();
    let is_parent = table.kind == "p" || (table.has_children && !has_only);
    let why = match table.kind.as_str() {
        "v" => "is a view",
        "f" => "is a foreign table",
        "r" | "m" if table.pages.is_none() => "has an access method other than heap",
        _ if !table.may_select => "lets the login read some columns only",
        // Policies of a partitioned table do not hold where a partition is read by its own name.
        _ if is_parent && table.has_policies => "has row-level security and partitions",
        _ => "",
    };
    if !why.is_empty() {
        return Ok(Err(format!("{} {why}", table.said())));
    }
    // As a subquery of a name that nothing else has: what the plan calls so comes from there. Behind the table there may
    // be an alias: then another one is a syntax error.
    let only = if has_only { "ONLY " } else { "" };
    let subquery = format!("SELECT * FROM {only}{} AS {PART}", table.quoted());
    let mut found = None;
    for has_alias in [false, true] {
        let from = named.place(subject, has_alias);
        if let Some(plan) = subject.plan_with(from.with(subject.sql, &subquery)).await? {
            found = Some((from, plan));
            break;
        }
    }
    let Some((from, plan)) = found else {
        return Ok(Err(format!("a subquery in the place of {} is not the same to the server", table.said())));
    };
    let scans = match plan.sole_scans(PART) {
        Ok(scans) => scans,
        Err(what) => return Ok(Err(format!("in its plan stands {what}"))),
    };
    match scans.first() {
        None => Ok(Err("the server knows that it has no rows".to_owned())),
        Some(_) if is_parent => partitions(subject, table, from, &scans).await,
        Some(scan) => pages(subject, table, from, scan).await,
    }
}

/// By the pages of one table.
async fn pages(
    subject: &Subject<'_>,
    table: &Table,
    from: FromItem,
    scan: &Node,
) -> Result<Result<Split, String>> {
    let pages = table.pages.unwrap_or_default();
    let count = chunks(pages, subject.parallelism, subject.budget);
    let said = table.said();
    if count < 2 {
        return Ok(Err(format!("{said} is small")));
    }
    let packed = pack(&[Some(pages)], pages / u64::from(count));
    let tables = [table.clone()];
    if let Err(why) = try_range(subject, &from, &tables, &packed, &[scan]).await? {
        return Ok(Err(format!("{said}: {why}")));
    }
    Ok(Ok(made(from, &tables, &packed, format!("{said}, by ranges of its pages"))))
}

/// By partitions, or by tables that inherit. Large ones are split by their pages.
async fn partitions(
    subject: &Subject<'_>,
    parent: &Table,
    mut from: FromItem,
    scans: &[&Node],
) -> Result<Result<Split, String>> {
    let said = parent.said();
    let leaves = table::of_scans(subject, scans).await?;
    if leaves.len() != scans.len() {
        return Ok(Err(format!("{said}: its partitions are not those of its plan")));
    }
    if leaves.iter().map(|leaf| leaf.oid).collect::<BTreeSet<_>>().len() < leaves.len() {
        return Ok(Err(format!("{said} is read more than once")));
    }
    if let Some(leaf) = leaves.iter().find(|leaf| leaf.has_policies || !leaf.may_select) {
        return Ok(Err(format!(
            "{}: the login may not read it by its own name, or it has row-level security",
            leaf.said()
        )));
    }
    let columns: Vec<String> = parent.columns.iter().map(|column| identifier(column)).collect();
    from.columns = Some(columns.join(", "));
    let sizes: Vec<Option<u64>> = leaves.iter().map(|leaf| leaf.pages).collect();
    let total: u64 = sizes.iter().flatten().sum();
    // Where partitions are joined and split, there may be twice as many.
    let count = chunks(total, subject.parallelism, subject.budget / 2);
    let others = sizes.iter().filter(|size| size.is_none()).count();
    if others + leaves.len() / 32 > subject.budget as usize / 2 {
        return Ok(Err(format!("{said} has more partitions than there may be chunks")));
    }
    if count < 2 && others == 0 {
        return Ok(Err(format!("{said} is small")));
    }
    let mut packed = pack(&sizes, total.div_ceil(u64::from(count)));
    let mut how = "by its partitions";
    if packed.iter().flatten().any(|part| !part.is_whole()) {
        how = "by its partitions, and large ones by ranges of their pages";
        if try_range(subject, &from, &leaves, &packed, scans).await?.is_err() {
            packed = pack(&sizes, u64::MAX / 4);
            how = "by its partitions";
        }
    }
    if packed.len() < 2 {
        return Ok(Err(format!("{said}: its rows are in one partition")));
    }
    let joined = packed.iter().max_by_key(|chunk| chunk.len()).map(Vec::as_slice).unwrap_or_default();
    let joined = from.with_parts(subject.sql, &parts(&leaves, joined));
    if subject.plan_with(joined).await?.is_none() {
        return Ok(Err(format!("partitions in the place of {said} are not the same to the server")));
    }
    Ok(Ok(made(from, &leaves, &packed, format!("{said}, {how}"))))
}

/// Has the server plan a range of pages, the middle one of a table. Not worth it: an index finds the rows sooner.
async fn try_range(
    subject: &Subject<'_>,
    from: &FromItem,
    tables: &[Table],
    packed: &[Vec<Part>],
    scans: &[&Node],
) -> Result<Result<(), String>> {
    let ranges: Vec<&Part> = packed.iter().flatten().filter(|part| !part.is_whole()).collect();
    let Some(range) = ranges.get(ranges.len() / 2) else { return Ok(Ok(())) };
    let pieces = ranges.iter().filter(|part| part.table == range.table).count();
    let parted = from.with_parts(subject.sql, &parts(tables, std::slice::from_ref(*range)));
    let Some(plan) = subject.plan_with(parted).await? else {
        return Ok(Err("a part in its place is not the same to the server".to_owned()));
    };
    let read = match plan.sole_scans(PART) {
        Ok(read) => read,
        Err(what) => return Ok(Err(format!("in the plan of a part stands {what}"))),
    };
    let [part] = read.as_slice() else { return Ok(Err("the server reads a part by other ways".to_owned())) };
    let whole = scans.get(range.table).copied();
    // Under Gather, what a sequential scan costs is a worker's share of it.
    let by_index = whole.is_some_and(|whole| whole.kind != "Seq Scan");
    #[allow(clippy::cast_precision_loss, reason = "it is compared with an estimate")]
    let cost = part.total_cost * pieces as f64;
    if part.tid_condition.is_none() || by_index && whole.is_some_and(|whole| cost > WORTH * whole.total_cost)
    {
        return Ok(Err("an index finds the rows sooner than ranges of pages do".to_owned()));
    }
    Ok(Ok(()))
}

fn parts(tables: &[Table], chunk: &[Part]) -> Vec<TablePart> {
    let part = |part: &Part| {
        let table = tables.get(part.table)?;
        Some(TablePart { table: table.quoted(), oid: table.oid, condition: part.condition(PART) })
    };
    chunk.iter().filter_map(part).collect()
}

fn made(from: FromItem, tables: &[Table], packed: &[Vec<Part>], reason: String) -> Split {
    let rows = packed.iter().map(|chunk| Rows::OfParts { parts: parts(tables, chunk) }).collect();
    Split { rows, strategy: Strategy::Table, reason, from: Some(from) }
}

impl Rows {
    /// The tables of which a chunk reads ranges of pages.
    pub(in super::super) fn ranged(&self) -> impl Iterator<Item = &TablePart> {
        let parts = match self {
            Self::OfParts { parts } => parts.as_slice(),
            _ => &[],
        };
        parts.iter().filter(|part| part.condition.is_some())
    }
}
