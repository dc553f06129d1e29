//! What the binary values of a type look like.

use serde::{Deserialize, Serialize};

use super::Scalar;

/// A type that is decoded, and those of its parts. Domains are of their base type's shape.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Shape {
    /// A type without parts.
    Scalar(Scalar),
    /// A `numeric` of so many digits at most, so many of them behind the point, where the format has such a type.
    Decimal {
        /// Digits, from 1 to 38.
        precision: u8,
        /// Those of them behind the point.
        scale: i8,
    },
    /// An array of any dimensions.
    Array {
        /// Of what.
        element: Box<Self>,
        /// What stands between elements in its text: the element type's `typdelim`.
        delimiter: char,
    },
    /// A composite type.
    Composite(Vec<Attribute>),
    /// A range over a type.
    Range(Box<Self>),
    /// A multirange; the type is that of its ranges' bounds.
    Multirange(Box<Self>),
}

/// An attribute of a composite type.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// What its values look like.
    pub shape: Shape,
}
