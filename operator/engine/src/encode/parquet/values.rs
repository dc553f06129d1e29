//! The values of a column, as an Arrow array in the making.

use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder as _, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder,
    FixedSizeBinaryBuilder, Float32Builder, Float64Builder, GenericByteBuilder, Int16Builder, Int32Builder,
    Int64Builder, PrimitiveBuilder, StringBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::types::{ArrowPrimitiveType, ByteArrayType};
use arrow_array::{Array as _, ArrayRef, ListArray};
use arrow_buffer::{NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, FieldRef};

use super::kind::Kind;
use super::refusal::{Fault, Unfit};
use crate::decode::{Array, Malformed, Shape, boolean, decimal, versioned, whole, write_text};

/// Days from 1970 to 2000.
const DAYS: i32 = 10_957;
/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// A column's values.
#[derive(Debug)]
pub(super) enum Values {
    Bool(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Oid(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder, i8),
    Text(StringBuilder),
    Jsonb(StringBuilder),
    Printed(StringBuilder, Shape, Vec<u8>),
    Binary(BinaryBuilder),
    Uuid(FixedSizeBinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    List(Box<List>),
}

/// Lists: where each ends among all elements.
#[derive(Debug)]
pub(super) struct List {
    field: FieldRef,
    ends: Vec<i32>,
    validity: NullBufferBuilder,
    elements: Values,
}

impl Values {
    pub(super) fn new(kind: &Kind) -> Result<Self, ArrowError> {
        Ok(match kind {
            Kind::Bool => Self::Bool(BooleanBuilder::new()),
            Kind::Int16 => Self::Int16(Int16Builder::new()),
            Kind::Int32 => Self::Int32(Int32Builder::new()),
            Kind::Int64 => Self::Int64(Int64Builder::new()),
            Kind::Oid => Self::Oid(Int64Builder::new()),
            Kind::Float32 => Self::Float32(Float32Builder::new()),
            Kind::Float64 => Self::Float64(Float64Builder::new()),
            Kind::Decimal { precision, scale } => {
                Self::Decimal(Decimal128Builder::new().with_precision_and_scale(*precision, *scale)?, *scale)
            }
            Kind::Text | Kind::Json => Self::Text(StringBuilder::new()),
            Kind::Jsonb => Self::Jsonb(StringBuilder::new()),
            Kind::Printed(shape) => Self::Printed(StringBuilder::new(), shape.clone(), Vec::new()),
            Kind::Binary => Self::Binary(BinaryBuilder::new()),
            Kind::Uuid => Self::Uuid(FixedSizeBinaryBuilder::new(16)),
            Kind::Date => Self::Date(Date32Builder::new()),
            Kind::Time => Self::Time(Time64MicrosecondBuilder::new()),
            Kind::Timestamp => Self::Timestamp(TimestampMicrosecondBuilder::new()),
            Kind::Timestamptz => Self::Timestamp(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
            Kind::List(element) => Self::List(Box::new(List {
                field: Arc::new(element.field("element")),
                ends: vec![0],
                validity: NullBufferBuilder::new(0),
                elements: Self::new(element)?,
            })),
        })
    }

    /// Takes a value; `None` is NULL. Returns about how many bytes it is here.
    #[inline]
    pub(super) fn push(&mut self, value: Option<&[u8]>) -> Result<usize, Fault> {
        if let Some(value) = value {
            return self.value(value);
        }
        self.null();
        Ok(0)
    }

    #[inline]
    fn value(&mut self, value: &[u8]) -> Result<usize, Fault> {
        match self {
            Self::Bool(builder) => builder.append_value(boolean(value)?),
            Self::Int16(builder) => builder.append_value(i16::from_be_bytes(whole(value)?)),
            Self::Int32(builder) => builder.append_value(i32::from_be_bytes(whole(value)?)),
            Self::Int64(builder) => builder.append_value(i64::from_be_bytes(whole(value)?)),
            Self::Oid(builder) => {
                builder.append_value(i64::from(u32::from_be_bytes(whole(value)?)));
            }
            Self::Float32(builder) => builder.append_value(f32::from_be_bytes(whole(value)?)),
            Self::Float64(builder) => builder.append_value(f64::from_be_bytes(whole(value)?)),
            Self::Decimal(builder, scale) => {
                builder.append_value(decimal(value, *scale)?.ok_or(Unfit::NoNumber)?);
            }
            Self::Text(builder) => builder.append_value(utf8(value)?),
            Self::Jsonb(builder) => builder.append_value(utf8(versioned(value)?)?),
            Self::Printed(builder, shape, text) => {
                text.clear();
                write_text(shape, value, text)?;
                builder.append_value(utf8(text)?);
                // A numeric of a few bytes may have a hundred thousand digits.
                return Ok(text.len());
            }
            Self::Binary(builder) => builder.append_value(value),
            Self::Uuid(builder) => {
                builder.append_value(whole::<16>(value)?).map_err(|_| Malformed("a uuid has no 16 bytes"))?;
            }
            Self::Date(builder) => builder.append_value(date(i32::from_be_bytes(whole(value)?))?),
            Self::Time(builder) => builder.append_value(time(i64::from_be_bytes(whole(value)?))?),
            Self::Timestamp(builder) => {
                builder.append_value(timestamp(i64::from_be_bytes(whole(value)?))?);
            }
            Self::List(list) => return list.value(value),
        }
        Ok(value.len())
    }

    fn null(&mut self) {
        match self {
            Self::Bool(builder) => builder.append_null(),
            Self::Int16(builder) => builder.append_null(),
            Self::Int32(builder) => builder.append_null(),
            Self::Int64(builder) | Self::Oid(builder) => builder.append_null(),
            Self::Float32(builder) => builder.append_null(),
            Self::Float64(builder) => builder.append_null(),
            Self::Decimal(builder, _) => builder.append_null(),
            Self::Text(builder) | Self::Jsonb(builder) | Self::Printed(builder, ..) => builder.append_null(),
            Self::Binary(builder) => builder.append_null(),
            Self::Uuid(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Time(builder) => builder.append_null(),
            Self::Timestamp(builder) => builder.append_null(),
            Self::List(list) => list.end(false),
        }
    }

    /// How many values there are.
    fn len(&self) -> usize {
        match self {
            Self::Bool(builder) => builder.len(),
            Self::Int16(builder) => builder.len(),
            Self::Int32(builder) => builder.len(),
            Self::Int64(builder) | Self::Oid(builder) => builder.len(),
            Self::Float32(builder) => builder.len(),
            Self::Float64(builder) => builder.len(),
            Self::Decimal(builder, _) => builder.len(),
            Self::Text(builder) | Self::Jsonb(builder) | Self::Printed(builder, ..) => builder.len(),
            Self::Binary(builder) => builder.len(),
            Self::Uuid(builder) => builder.len(),
            Self::Date(builder) => builder.len(),
            Self::Time(builder) => builder.len(),
            Self::Timestamp(builder) => builder.len(),
            Self::List(list) => list.validity.len(),
        }
    }

    /// The values so far; then there are none, and room for as many.
    pub(super) fn take(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Bool(builder) => Arc::new(builder.finish()),
            Self::Int16(builder) => numbers(builder),
            Self::Int32(builder) => numbers(builder),
            Self::Int64(builder) | Self::Oid(builder) => numbers(builder),
            Self::Float32(builder) => numbers(builder),
            Self::Float64(builder) => numbers(builder),
            Self::Decimal(builder, _) => numbers(builder),
            Self::Text(builder) | Self::Jsonb(builder) | Self::Printed(builder, ..) => bytes(builder),
            Self::Binary(builder) => bytes(builder),
            Self::Uuid(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => numbers(builder),
            Self::Time(builder) => numbers(builder),
            Self::Timestamp(builder) => numbers(builder),
            Self::List(list) => Arc::new(list.take()?),
        })
    }
}

/// A builder's values. A builder that grew again with each batch would copy them all.
fn numbers<T: ArrowPrimitiveType>(builder: &mut PrimitiveBuilder<T>) -> ArrayRef {
    let array = builder.finish();
    let empty = PrimitiveBuilder::with_capacity(array.len());
    *builder = empty.with_data_type(array.data_type().clone());
    Arc::new(array)
}

/// As [`numbers`]. The next batch may be somewhat larger.
fn bytes<T: ByteArrayType>(builder: &mut GenericByteBuilder<T>) -> ArrayRef {
    let array = builder.finish();
    let length = array.value_data().len();
    *builder = GenericByteBuilder::with_capacity(array.len(), length + length / 8);
    Arc::new(array)
}

impl List {
    fn value(&mut self, value: &[u8]) -> Result<usize, Fault> {
        let mut array = Array::read(value)?;
        let length = match array.lengths() {
            [] => 0,
            [length] => *length,
            _ => return Err(Unfit::Dimensions.into()),
        };
        let mut bytes = 0;
        for _ in 0..length {
            let element = array.elements.value()?;
            bytes += self.elements.push(element)?;
        }
        array.elements.end()?;
        self.end(true);
        Ok(bytes)
    }

    fn end(&mut self, valid: bool) {
        // A batch is far smaller than this counts.
        self.ends.push(i32::try_from(self.elements.len()).unwrap_or(i32::MAX));
        self.validity.append(valid);
    }

    fn take(&mut self) -> Result<ListArray, ArrowError> {
        let ends = std::mem::replace(&mut self.ends, vec![0]);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
        ListArray::try_new(Arc::clone(&self.field), offsets, self.elements.take()?, self.validity.finish())
    }
}

fn utf8(text: &[u8]) -> Result<&str, Unfit> {
    std::str::from_utf8(text).map_err(|_| Unfit::NotUtf8)
}

/// Days since 1970, of those since 2000.
fn date(days: i32) -> Result<i32, Unfit> {
    match days {
        i32::MIN | i32::MAX => Err(Unfit::Infinity),
        days => days.checked_add(DAYS).ok_or(Unfit::Late),
    }
}

fn time(microseconds: i64) -> Result<i64, Unfit> {
    if microseconds < DAY { Ok(microseconds) } else { Err(Unfit::Midnight) }
}

/// Microseconds since 1970, of those since 2000.
fn timestamp(microseconds: i64) -> Result<i64, Unfit> {
    match microseconds {
        i64::MIN | i64::MAX => Err(Unfit::Infinity),
        microseconds => microseconds.checked_add(i64::from(DAYS) * DAY).ok_or(Unfit::Late),
    }
}
