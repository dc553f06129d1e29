//! The JSON of a value, as `row_to_json` writes it (`datum_to_json` in PostgreSQL's `json.c`).

use super::cursor::{Cursor, whole};
use super::date::{self, Style};
use super::nested::{self, Array};
use super::text::{boolean, hex, versioned, write_scalar, write_text};
use super::{Decoded, Scalar, Shape, ends_lines, escape_json, quote_json};

/// Appends the JSON of a value that is not NULL.
pub(crate) fn write_json(shape: &Shape, value: &[u8], out: &mut Vec<u8>) -> Decoded {
    match shape {
        Shape::Scalar(scalar) => scalar_json(*scalar, value, out),
        Shape::Decimal { .. } => scalar_json(Scalar::Numeric, value, out),
        Shape::Array { element, .. } => {
            let array = Array::read(value)?;
            let mut elements = array.elements;
            if array.lengths().is_empty() {
                out.extend_from_slice(b"[]");
            } else {
                dimension(element, array.lengths(), &mut elements, out)?;
            }
            elements.end()
        }
        Shape::Composite(attributes) => {
            out.push(b'{');
            nested::attributes(attributes, value, |index, attribute, value| {
                out.extend_from_slice(if index > 0 { b",\"" } else { b"\"" });
                escape_json(attribute.name.as_bytes(), out);
                out.extend_from_slice(b"\":");
                or_null(&attribute.shape, value, out)
            })?;
            out.push(b'}');
            Ok(())
        }
        Shape::Range(_) | Shape::Multirange(_) => {
            let start = out.len();
            write_text(shape, value, out)?;
            quote_json(out, start);
            Ok(())
        }
    }
}

fn dimension(element: &Shape, lengths: &[usize], elements: &mut Cursor<'_>, out: &mut Vec<u8>) -> Decoded {
    let Some((length, inner)) = lengths.split_first() else {
        return or_null(element, elements.value()?, out);
    };
    out.push(b'[');
    for index in 0..*length {
        if index > 0 {
            out.push(b',');
        }
        dimension(element, inner, elements, out)?;
    }
    out.push(b']');
    Ok(())
}

fn or_null(shape: &Shape, value: Option<&[u8]>, out: &mut Vec<u8>) -> Decoded {
    if let Some(value) = value {
        write_json(shape, value, out)
    } else {
        out.extend_from_slice(b"null");
        Ok(())
    }
}

fn scalar_json(scalar: Scalar, value: &[u8], out: &mut Vec<u8>) -> Decoded {
    match scalar {
        Scalar::Bool => out.extend_from_slice(if boolean(value)? { b"true" } else { b"false" }),
        Scalar::Int2 | Scalar::Int4 | Scalar::Int8 => write_scalar(scalar, value, out)?,
        Scalar::Float4 | Scalar::Float8 | Scalar::Numeric => {
            let start = out.len();
            write_scalar(scalar, value, out)?;
            // NaN and the infinities are no numbers in JSON.
            if !out.last().is_some_and(u8::is_ascii_digit) {
                out.insert(start, b'"');
                out.push(b'"');
            }
        }
        Scalar::Json => out.extend_from_slice(&ends_lines(value)),
        Scalar::Jsonb => out.extend_from_slice(versioned(value)?),
        Scalar::Text => {
            out.push(b'"');
            escape_json(value, out);
            out.push(b'"');
        }
        Scalar::Bytea => {
            out.extend_from_slice(b"\"\\\\x");
            hex(value, out);
            out.push(b'"');
        }
        Scalar::Timestamp => {
            out.push(b'"');
            date::timestamp(i64::from_be_bytes(whole(value)?), Style::Xsd, out);
            out.push(b'"');
        }
        Scalar::Timestamptz => {
            out.push(b'"');
            date::timestamptz(i64::from_be_bytes(whole(value)?), Style::Xsd, out);
            out.push(b'"');
        }
        Scalar::Jsonpath | Scalar::Tsvector => {
            let start = out.len();
            write_scalar(scalar, value, out)?;
            quote_json(out, start);
        }
        // Nothing in their texts needs an escape.
        Scalar::Oid
        | Scalar::Xid8
        | Scalar::Tid
        | Scalar::Lsn
        | Scalar::Uuid
        | Scalar::Date
        | Scalar::Time
        | Scalar::Timetz
        | Scalar::Interval
        | Scalar::Inet
        | Scalar::Macaddr
        | Scalar::Bit
        | Scalar::Point
        | Scalar::Lseg
        | Scalar::Box
        | Scalar::Path
        | Scalar::Polygon
        | Scalar::Line
        | Scalar::Circle => {
            out.push(b'"');
            write_scalar(scalar, value, out)?;
            out.push(b'"');
        }
    }
    Ok(())
}
