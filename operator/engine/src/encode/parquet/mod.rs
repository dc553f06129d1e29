//! Rows as Arrow's record batches, which `output::parquet` makes files of.

mod kind;
mod refusal;
mod values;

pub use kind::schema;
pub(super) use refusal::Refusal;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, SchemaRef};
use pgexport_api::reason::Reason;

use self::kind::Kind;
use self::values::Values;
use super::batch::{Batch, Payload};
use super::binary::Rows;
use crate::decode::{Malformed, Shape};
use crate::error::{Error, Result};
use crate::plan::Column;

/// A batch is handed on when it has so many bytes: enough to make its cost small.
const BATCH_BYTES: usize = 1 << 20;
/// Or so many rows.
const BATCH_ROWS: usize = 8192;

/// Collects rows to record batches.
#[derive(Debug)]
pub(super) struct ParquetRows {
    schema: SchemaRef,
    columns: Vec<Values>,
    rows: usize,
    bytes: usize,
    /// Whether the rows are enough. Only a row's end tells, since a batch holds whole rows.
    full: bool,
}

impl ParquetRows {
    pub(super) fn new(columns: &[Column], shapes: &[Option<Shape>]) -> Result<Self> {
        let values = shapes.iter().map(|shape| Values::new(&Kind::of(shape.as_ref())));
        let values = values.collect::<Result<_, _>>().map_err(failed)?;
        Ok(Self {
            schema: Arc::new(schema(columns, shapes)),
            columns: values,
            rows: 0,
            bytes: 0,
            full: false,
        })
    }

    /// The rows so far, if there are any.
    pub(super) fn take(&mut self) -> Result<Option<Batch>> {
        if self.rows == 0 {
            return Ok(None);
        }
        let rows = std::mem::take(&mut self.rows) as u64;
        self.bytes = 0;
        self.full = false;
        let columns = self.columns.iter_mut().map(Values::take).collect::<Result<_, _>>().map_err(failed)?;
        let records = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(failed)?;
        Ok(Some(Batch { data: Payload::Records(records), rows }))
    }
}

/// Arrow takes all that is made here.
fn failed(error: ArrowError) -> Error {
    Error::new(Reason::InternalError, "rows cannot be made a record batch").with_source(error)
}

impl Rows for ParquetRows {
    type Error = Refusal;

    fn columns(&self) -> usize {
        self.columns.len()
    }

    #[inline]
    fn value(&mut self, column: usize, value: Option<&[u8]>) -> Result<(), Refusal> {
        let values =
            self.columns.get_mut(column).ok_or(Malformed("a row has more columns than the query"))?;
        self.bytes += values.push(value).map_err(|fault| fault.of(self.schema.field(column).name()))?;
        Ok(())
    }

    fn takes_parts(&self, _: usize) -> bool {
        false
    }

    fn begin(&mut self, _: usize) {}

    fn part(&mut self, _: usize, _: &[u8]) -> Result<(), Refusal> {
        Err(Malformed("a value came in parts that is decoded as a whole").into())
    }

    fn end(&mut self, _: usize) -> Result<(), Refusal> {
        Ok(())
    }

    fn end_row(&mut self) {
        self.rows += 1;
        self.full = self.bytes >= BATCH_BYTES || self.rows >= BATCH_ROWS;
    }

    fn is_full(&self) -> bool {
        self.full
    }
}
