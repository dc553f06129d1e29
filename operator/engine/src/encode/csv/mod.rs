//! Rows as lines of CSV.

mod dialect;
mod options;
mod rows;

pub(super) use options::options;
pub(super) use rows::CsvRows;

/// The characters that a format's CSV is written with.
#[cfg(test)]
pub(super) fn dialect_of(format: &pgexport_api::job::Format) -> dialect::Dialect {
    dialect::Dialect::new(format.csv.as_ref(), 1)
}
