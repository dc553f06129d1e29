//! Lines of CSV, as COPY writes them.

use pgexport_api::job::Csv;

use super::dialect::Dialect;
use crate::decode::{Decoded, Malformed, Scalar, Shape, hex, versioned, write_text};
use crate::encode::batch::Output;
use crate::encode::binary::Rows;
use crate::plan::Column;

/// Encodes rows as CSV.
#[derive(Debug)]
pub(in crate::encode) struct CsvRows {
    pub(in crate::encode) output: Output,
    dialect: Dialect,
    columns: Vec<Field>,
    /// What is known of the value that comes in parts.
    parts: Parts,
    /// A text that is being put into quotes.
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Field {
    form: Form,
    /// Its values are quoted always.
    force: bool,
    /// Its values need no look for what needs quotes.
    plain: bool,
}

/// How a text comes from the wire.
#[derive(Debug)]
enum Form {
    /// As it is.
    Text,
    /// As it is, behind the version of `jsonb`.
    Jsonb,
    /// As the bytes of a `bytea`.
    Bytea,
    /// To be decoded.
    Decoded(Shape),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Parts {
    /// Whether something came.
    begun: bool,
    /// Whether the value stands in quotes.
    quoted: bool,
}

impl CsvRows {
    pub(in crate::encode) fn new(csv: Option<&Csv>, columns: &[Column], shapes: &[Option<Shape>]) -> Self {
        let dialect = Dialect::new(csv, columns.len());
        let force = csv.map(|csv| csv.force_quote.as_slice()).unwrap_or_default();
        let forced = |index: usize| match force {
            [all] if all == "*" => true,
            // COPY finds the first column of a name.
            names => {
                names.iter().any(|name| columns.iter().position(|column| column.name == *name) == Some(index))
            }
        };
        let columns = shapes
            .iter()
            .enumerate()
            .map(|(index, shape)| {
                let force = forced(index);
                Field {
                    force,
                    plain: !force && shape.as_ref().is_some_and(|shape| dialect.never_quotes(shape)),
                    form: Form::of(shape.as_ref()),
                }
            })
            .collect();
        Self { output: Output::default(), dialect, columns, parts: Parts::default(), scratch: Vec::new() }
    }

    fn field(&self, column: usize) -> Decoded<&Field> {
        self.columns.get(column).ok_or(Malformed("a row has more columns than the query"))
    }

    fn delimit(&mut self, column: usize) {
        if column > 0 {
            self.output.data.push(self.dialect.delimiter);
        }
    }
}

impl Form {
    fn of(shape: Option<&Shape>) -> Self {
        match shape {
            None | Some(Shape::Scalar(Scalar::Text | Scalar::Json)) => Self::Text,
            Some(Shape::Scalar(Scalar::Jsonb)) => Self::Jsonb,
            Some(Shape::Scalar(Scalar::Bytea)) => Self::Bytea,
            Some(shape) => Self::Decoded(shape.clone()),
        }
    }
}

impl Rows for CsvRows {
    type Error = Malformed;

    fn columns(&self) -> usize {
        self.columns.len()
    }

    #[inline]
    fn value(&mut self, column: usize, value: Option<&[u8]>) -> Decoded {
        self.delimit(column);
        let Self { output, dialect, columns, scratch, .. } = self;
        let out = &mut output.data;
        let Some(value) = value else {
            out.extend_from_slice(&dialect.null);
            return Ok(());
        };
        let field = columns.get(column).ok_or(Malformed("a row has more columns than the query"))?;
        let start = out.len();
        match &field.form {
            Form::Text => {
                dialect.text(value, field.force, out);
                return Ok(());
            }
            Form::Jsonb => {
                dialect.text(versioned(value)?, field.force, out);
                return Ok(());
            }
            Form::Bytea => {
                out.extend_from_slice(b"\\x");
                hex(value, out);
            }
            Form::Decoded(shape) => write_text(shape, value, out)?,
        }
        if !field.plain {
            dialect.tail(start, field.force, out, scratch);
        }
        Ok(())
    }

    fn takes_parts(&self, column: usize) -> bool {
        self.columns.get(column).is_some_and(|field| !matches!(field.form, Form::Decoded(_)))
    }

    fn begin(&mut self, column: usize) {
        self.delimit(column);
        let quoted = self.field(column).is_ok_and(|field| field.force);
        let plain = self.field(column).is_ok_and(|field| field.plain);
        self.parts = Parts { begun: false, quoted };
        if quoted {
            self.output.data.push(self.dialect.quote);
        } else if !plain {
            // Until it is known whether a quote stands before it.
            self.output.open = Some(self.output.data.len());
        }
    }

    fn part(&mut self, column: usize, part: &[u8]) -> Decoded {
        let first = !std::mem::replace(&mut self.parts.begun, true);
        let Self { output, dialect, columns, parts, .. } = self;
        let field = columns.get(column).ok_or(Malformed("a row has more columns than the query"))?;
        let out = &mut output.data;
        let mut digits = Vec::new();
        let part = match field.form {
            Form::Jsonb if first => versioned(part)?,
            Form::Bytea => {
                if first {
                    digits.extend_from_slice(b"\\x");
                }
                hex(part, &mut digits);
                &digits
            }
            _ => part,
        };
        if parts.quoted {
            dialect.escape(part, out);
        } else if field.plain || !dialect.needs_quotes(part) {
            out.extend_from_slice(part);
        } else {
            let before = output.open.take().map(|start| out.split_off(start)).unwrap_or_default();
            out.push(dialect.quote);
            dialect.escape(&before, out);
            dialect.escape(part, out);
            parts.quoted = true;
        }
        Ok(())
    }

    fn end(&mut self, column: usize) -> Decoded {
        let force = self.field(column)?.force;
        if self.parts.quoted {
            self.output.data.push(self.dialect.quote);
        } else if let Some(start) = self.output.open.take() {
            self.dialect.tail(start, force, &mut self.output.data, &mut self.scratch);
        }
        Ok(())
    }

    fn end_row(&mut self) {
        self.output.data.push(b'\n');
        self.output.rows += 1;
    }

    fn is_full(&self) -> bool {
        self.output.is_full()
    }
}
