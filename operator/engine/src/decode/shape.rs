//! What the binary values of a type look like.

use serde::{Deserialize, Serialize};

use super::Scalar;

/// A type that is decoded, and those of its parts. Domains are of their base type's shape.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Shape {
    /// A type without parts.
    Scalar(Scalar),
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
