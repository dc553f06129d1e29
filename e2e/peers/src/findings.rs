//! The sample data: security findings and assets, the same rows on every machine.

use tokio_postgres::Client;

use crate::{PeersError, error::during};

/// The generator, as psql would read it.
const SCRIPT: &str = include_str!("../../findings/findings.sql");

/// The version of the generator, which the script leaves in the table's comment.
pub const GENERATOR: u32 = 1;

/// Rows of the small data set, enough for every odd value to occur.
pub const SMALL: u64 = 10_000;

/// Rows of the big data set, about 300 MB as CSV.
pub const BIG: u64 = 500_000;

/// What [`load`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loaded {
    /// The rows were made.
    Made,
    /// The very same rows were there already.
    AlreadyThere,
}

/// Fills `table` with `rows` findings and its companion with a twentieth as many assets. The companion of `findings`
/// is `assets`, that of another table has its name with `_assets`. Tables of other rows are replaced.
///
/// # Errors
/// The client may not create tables, or the connection broke.
pub async fn load(client: &Client, table: &str, rows: u64) -> Result<Loaded, PeersError> {
    let action = || during(format!("loading {rows} findings into {table}"));
    let mark = client
        .query_opt("SELECT obj_description(to_regclass(quote_ident($1)), 'pg_class')", &[&table])
        .await
        .map_err(action())?
        .and_then(|row| row.get::<_, Option<String>>(0));
    if mark.as_deref() == Some(&*format!("pgexport findings: generator {GENERATOR}, rows {rows}")) {
        return Ok(Loaded::AlreadyThere);
    }
    for statements in script(table, rows) {
        if let Err(error) = client.batch_execute(&statements).await {
            // The first error is the one that counts; the caller gets a client back that is in no transaction.
            let _ = client.batch_execute("ROLLBACK").await;
            return Err(action()(error));
        }
    }
    Ok(Loaded::Made)
}

/// The script without psql's own commands and with its variables replaced: first the transaction, then each VACUUM,
/// which must not share a message with anything.
fn script(table: &str, rows: u64) -> Vec<String> {
    let assets = if table == "findings" { "assets".to_owned() } else { format!("{table}_assets") };
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let literal = |name: &str| format!("'{}'", name.replace('\'', "''"));
    let sql: String =
        SCRIPT.lines().filter(|line| !line.starts_with('\\')).flat_map(|line| [line, "\n"]).collect();
    let sql = sql
        .replace(":rows", &rows.to_string())
        .replace(":\"table\"", &quoted(table))
        .replace(":\"assets\"", &quoted(&assets))
        .replace(":'table'", &literal(table))
        .replace(":'assets'", &literal(&assets));
    let (transaction, vacuum) = sql.split_once("\nCOMMIT;\n").unwrap_or((&sql, ""));
    std::iter::once(format!("{transaction}\nCOMMIT;"))
        .chain(vacuum.lines().filter(|line| !line.is_empty()).map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{GENERATOR, SCRIPT, script};

    #[test]
    fn the_script_leaves_the_version_that_load_looks_for() {
        assert!(SCRIPT.contains(&format!("'pgexport findings: generator {GENERATOR}, rows '")));
    }

    #[test]
    fn psql_variables_and_commands_are_gone() {
        let statements = script("odd \"name'", 42);
        assert_eq!(statements.len(), 3, "the transaction and two VACUUMs");
        assert!(statements[0].contains("CREATE TABLE \"odd \"\"name'\" ("));
        assert!(statements[0].contains("'odd \"name''_assets'"));
        assert!(statements[0].contains("generate_series(1::bigint, 42)"));
        for left in [":rows", ":\"table", ":\"assets", ":'table", ":'assets", "\n\\"] {
            assert!(!statements.iter().any(|sql| sql.contains(left)), "{left:?} is left");
        }
    }
}
