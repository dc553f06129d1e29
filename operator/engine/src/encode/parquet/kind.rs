//! What a column becomes in a Parquet file, by its shape.

use std::sync::Arc;

use arrow_schema::extension::{Json, Uuid};
use arrow_schema::{DataType, Field, Schema, TimeUnit};

use crate::decode::{Scalar, Shape};
use crate::plan::Column;

/// A column's type. What Parquet has no type for is written as its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int16,
    Int32,
    Int64,
    /// An unsigned number of four bytes, as one of eight with a sign.
    Oid,
    Float32,
    Float64,
    Decimal {
        precision: u8,
        scale: i8,
    },
    /// A text, as it comes.
    Text,
    Json,
    Jsonb,
    /// What the server would print.
    Printed(Shape),
    Binary,
    Uuid,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    List(Box<Self>),
}

impl Kind {
    pub(super) fn of(shape: Option<&Shape>) -> Self {
        let Some(shape) = shape else { return Self::Text };
        match shape {
            Shape::Decimal { precision, scale } => Self::Decimal { precision: *precision, scale: *scale },
            Shape::Array { element, .. } => Self::List(Box::new(Self::of(Some(element)))),
            Shape::Scalar(Scalar::Bool) => Self::Bool,
            Shape::Scalar(Scalar::Int2) => Self::Int16,
            Shape::Scalar(Scalar::Int4) => Self::Int32,
            Shape::Scalar(Scalar::Int8) => Self::Int64,
            Shape::Scalar(Scalar::Oid) => Self::Oid,
            Shape::Scalar(Scalar::Float4) => Self::Float32,
            Shape::Scalar(Scalar::Float8) => Self::Float64,
            Shape::Scalar(Scalar::Text) => Self::Text,
            Shape::Scalar(Scalar::Json) => Self::Json,
            Shape::Scalar(Scalar::Jsonb) => Self::Jsonb,
            Shape::Scalar(Scalar::Bytea) => Self::Binary,
            Shape::Scalar(Scalar::Uuid) => Self::Uuid,
            Shape::Scalar(Scalar::Date) => Self::Date,
            Shape::Scalar(Scalar::Time) => Self::Time,
            Shape::Scalar(Scalar::Timestamp) => Self::Timestamp,
            Shape::Scalar(Scalar::Timestamptz) => Self::Timestamptz,
            Shape::Scalar(_) | Shape::Composite(_) | Shape::Range(_) | Shape::Multirange(_) => {
                Self::Printed(shape.clone())
            }
        }
    }

    /// A field of it, which may be null.
    pub(super) fn field(&self, name: &str) -> Field {
        let field = Field::new(name, self.data_type(), true);
        match self {
            Self::Json | Self::Jsonb => field.with_extension_type(Json::default()),
            Self::Uuid => field.with_extension_type(Uuid),
            _ => field,
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int16 => DataType::Int16,
            Self::Int32 => DataType::Int32,
            Self::Int64 | Self::Oid => DataType::Int64,
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale),
            Self::Text | Self::Json | Self::Jsonb | Self::Printed(_) => DataType::Utf8,
            Self::Binary => DataType::Binary,
            Self::Uuid => DataType::FixedSizeBinary(16),
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            // The name that Parquet's specification of lists gives.
            Self::List(element) => DataType::List(Arc::new(element.field("element"))),
        }
    }
}

/// The schema of a data set's files.
#[must_use]
pub fn schema(columns: &[Column], shapes: &[Option<Shape>]) -> Schema {
    let field = |(column, shape): (&Column, &Option<Shape>)| Kind::of(shape.as_ref()).field(&column.name);
    Schema::new(columns.iter().zip(shapes).map(field).collect::<Vec<_>>())
}
