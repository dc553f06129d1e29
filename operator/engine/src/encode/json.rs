//! Rows as JSON objects: lines, or what is between the brackets of an array.

use super::batch::Output;
use super::binary::Rows;
use crate::decode::{Decoded, Malformed, Scalar, Shape, ends_lines, escape_json, hex, versioned, write_json};
use crate::plan::Column;

/// Encodes rows as `row_to_json` does.
#[derive(Debug)]
pub(super) struct JsonRows {
    pub(super) output: Output,
    columns: Vec<Field>,
    layout: Layout,
    /// Whether some of the value came that comes in parts.
    begun: bool,
}

/// How rows follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Each is a line.
    Lines,
    /// They are those of an array: a comma and a line's end stands between them.
    Array,
    /// As before, and there is a row.
    ArrayBegun,
}

#[derive(Debug)]
struct Field {
    /// What stands before a value: `{"name":`, and a comma in the place of the brace for all but the first.
    key: Vec<u8>,
    form: Form,
}

/// How a value's JSON comes from the wire.
#[derive(Debug)]
enum Form {
    /// As JSON.
    Json,
    /// As JSON, behind the version of `jsonb`.
    Jsonb,
    /// As a text.
    Text,
    /// As the bytes of a `bytea`.
    Bytea,
    /// To be decoded.
    Decoded(Shape),
}

impl JsonRows {
    pub(super) fn new(columns: &[Column], shapes: &[Option<Shape>], layout: Layout) -> Self {
        let columns = columns
            .iter()
            .zip(shapes)
            .enumerate()
            .map(|(index, (column, shape))| {
                let mut key = if index == 0 { b"{\"".to_vec() } else { b",\"".to_vec() };
                escape_json(column.name.as_bytes(), &mut key);
                key.extend_from_slice(b"\":");
                Field { key, form: Form::of(shape.as_ref()) }
            })
            .collect();
        Self { output: Output::default(), columns, layout, begun: false }
    }
}

impl Form {
    fn of(shape: Option<&Shape>) -> Self {
        match shape {
            None | Some(Shape::Scalar(Scalar::Json)) => Self::Json,
            Some(Shape::Scalar(Scalar::Jsonb)) => Self::Jsonb,
            Some(Shape::Scalar(Scalar::Text)) => Self::Text,
            Some(Shape::Scalar(Scalar::Bytea)) => Self::Bytea,
            Some(shape) => Self::Decoded(shape.clone()),
        }
    }
}

impl Rows for JsonRows {
    type Error = Malformed;

    fn columns(&self) -> usize {
        self.columns.len()
    }

    #[inline]
    fn value(&mut self, column: usize, value: Option<&[u8]>) -> Decoded {
        let Field { key, form } = self.columns.get(column).ok_or(SURPLUS)?;
        let out = &mut self.output.data;
        out.extend_from_slice(key);
        let Some(value) = value else {
            out.extend_from_slice(b"null");
            return Ok(());
        };
        match form {
            Form::Json => out.extend_from_slice(&ends_lines(value)),
            Form::Jsonb => out.extend_from_slice(versioned(value)?),
            Form::Text => write_json(&Shape::Scalar(Scalar::Text), value, out)?,
            Form::Bytea => write_json(&Shape::Scalar(Scalar::Bytea), value, out)?,
            Form::Decoded(shape) => write_json(shape, value, out)?,
        }
        Ok(())
    }

    fn takes_parts(&self, column: usize) -> bool {
        self.columns.get(column).is_some_and(|field| !matches!(field.form, Form::Decoded(_)))
    }

    #[inline]
    fn begin(&mut self, column: usize) {
        self.begun = false;
        let Some(field) = self.columns.get(column) else { return };
        self.output.data.extend_from_slice(&field.key);
        match field.form {
            Form::Text => self.output.data.push(b'"'),
            Form::Bytea => self.output.data.extend_from_slice(b"\"\\\\x"),
            Form::Json | Form::Jsonb | Form::Decoded(_) => {}
        }
    }

    #[inline]
    fn part(&mut self, column: usize, part: &[u8]) -> Decoded {
        let first = !std::mem::replace(&mut self.begun, true);
        let out = &mut self.output.data;
        match self.columns.get(column).ok_or(SURPLUS)?.form {
            Form::Json => out.extend_from_slice(&ends_lines(part)),
            Form::Jsonb => out.extend_from_slice(if first { versioned(part)? } else { part }),
            Form::Text => escape_json(part, out),
            Form::Bytea => hex(part, out),
            Form::Decoded(_) => return Err(Malformed("a value came in parts that is decoded as a whole")),
        }
        Ok(())
    }

    #[inline]
    fn end(&mut self, column: usize) -> Decoded {
        if matches!(self.columns.get(column).ok_or(SURPLUS)?.form, Form::Text | Form::Bytea) {
            self.output.data.push(b'"');
        }
        Ok(())
    }

    fn end_row(&mut self) {
        self.output.data.extend_from_slice(if self.layout == Layout::Lines { b"}\n" } else { b"}" });
        self.output.rows += 1;
        if self.layout == Layout::Array {
            // From the second row on, what stands between rows is a part of the first key.
            if let Some(first) = self.columns.first_mut() {
                first.key.splice(..0, *b",\n");
            }
            self.layout = Layout::ArrayBegun;
        }
    }

    fn is_full(&self) -> bool {
        self.output.is_full()
    }
}

const SURPLUS: Malformed = Malformed("a row has more columns than the query");
