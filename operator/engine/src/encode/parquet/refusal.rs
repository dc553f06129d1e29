//! Values that a Parquet column cannot hold.

use pgexport_api::reason::Reason;

use crate::decode::Malformed;
use crate::error::Error;

/// Why a value is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::encode) enum Unfit {
    /// `infinity` and `-infinity` of dates and timestamps.
    Infinity,
    /// `NaN`, `Infinity` and `-Infinity` in a decimal.
    NoNumber,
    /// A timestamp behind the year 294246, which is the end of Parquet's.
    Late,
    /// `24:00:00`.
    Midnight,
    /// An array of more dimensions than one.
    Dimensions,
    /// Bytes that are not UTF-8, as a database of encoding `SQL_ASCII` may have them.
    NotUtf8,
}

/// Why rows cannot be encoded.
#[derive(Debug)]
pub(in crate::encode) enum Refusal {
    /// The data is not what was asked for.
    Malformed(Malformed),
    /// A column holds a value that it cannot have in Parquet.
    Unfit {
        /// The column's name.
        column: String,
        /// Why.
        unfit: Unfit,
    },
}

/// Why a value cannot be encoded, in a column that its caller knows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    Malformed(Malformed),
    Unfit(Unfit),
}

impl Unfit {
    /// What the column holds, and what to write instead.
    const fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::Infinity => (
                "infinity, which Parquet's dates and timestamps do not have",
                "select NULLIF(column, 'infinity'), or cast the column to text",
            ),
            Self::NoNumber => (
                "NaN or an infinity, which Parquet's decimals do not have",
                "cast the column to text or to float8, or select NULLIF(column, 'NaN')",
            ),
            Self::Late => {
                ("a timestamp after the year 294246, where Parquet's end", "cast the column to text")
            }
            Self::Midnight => {
                ("the time 24:00:00, which Parquet's times do not have", "cast the column to text")
            }
            Self::Dimensions => (
                "an array of several dimensions, and others are lists in Parquet",
                "cast the column to text, or select to_jsonb(column)",
            ),
            Self::NotUtf8 => (
                "bytes that are not UTF-8",
                "select convert_to(column, 'SQL_ASCII') to get its bytes, or correct the data",
            ),
        }
    }
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Unfit> for Fault {
    fn from(unfit: Unfit) -> Self {
        Self::Unfit(unfit)
    }
}

impl Fault {
    /// Names the column.
    pub(super) fn of(self, column: &str) -> Refusal {
        match self {
            Self::Malformed(malformed) => Refusal::Malformed(malformed),
            Self::Unfit(unfit) => Refusal::Unfit { column: column.to_owned(), unfit },
        }
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed(malformed) => malformed.into(),
            Refusal::Unfit { column, unfit } => {
                let (what, instead) = unfit.told();
                Self::new(Reason::DataError, format!("column {column:?} holds {what}")).with_hint(instead)
            }
        }
    }
}
