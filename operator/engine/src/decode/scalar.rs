//! The types of PostgreSQL's own that are decoded.

use serde::{Deserialize, Serialize};

/// A type without parts of other types. Types of one binary form and one text share a name here.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Scalar {
    /// `boolean`
    Bool,
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `oid`, `xid` and `cid`: unsigned, of four bytes
    Oid,
    /// `xid8`: unsigned, of eight bytes
    Xid8,
    /// `tid`
    Tid,
    /// `pg_lsn`
    Lsn,
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `numeric`
    Numeric,
    /// `text`, `varchar`, `char(n)`, `name`, `refcursor`, `void`, and every enum
    Text,
    /// `bytea`
    Bytea,
    /// `json`
    Json,
    /// `jsonb`
    Jsonb,
    /// `jsonpath`
    Jsonpath,
    /// `uuid`
    Uuid,
    /// `date`
    Date,
    /// `time`
    Time,
    /// `time with time zone`
    Timetz,
    /// `timestamp`
    Timestamp,
    /// `timestamp with time zone`
    Timestamptz,
    /// `interval`
    Interval,
    /// `inet` and `cidr`
    Inet,
    /// `macaddr` and `macaddr8`
    Macaddr,
    /// `bit` and `bit varying`
    Bit,
    /// `point`
    Point,
    /// `lseg`
    Lseg,
    /// `box`
    Box,
    /// `path`
    Path,
    /// `polygon`
    Polygon,
    /// `line`
    Line,
    /// `circle`
    Circle,
    /// `tsvector`
    Tsvector,
}

impl Scalar {
    /// The type of an oid, which PostgreSQL's `pg_type.dat` fixes. Not among them are types whose text depends on the
    /// server: `money` (`lc_monetary`), `reg*` (`search_path`), `"char"` (its text changed in 16), `xml` (which differs in
    /// its two forms), and what nobody selects.
    #[must_use]
    pub const fn of(oid: u32) -> Option<Self> {
        Some(match oid {
            16 => Self::Bool,
            17 => Self::Bytea,
            20 => Self::Int8,
            21 => Self::Int2,
            23 => Self::Int4,
            19 | 25 | 1042 | 1043 | 1790 | 2278 => Self::Text,
            26 | 28 | 29 => Self::Oid,
            27 => Self::Tid,
            114 => Self::Json,
            600 => Self::Point,
            601 => Self::Lseg,
            602 => Self::Path,
            603 => Self::Box,
            604 => Self::Polygon,
            628 => Self::Line,
            650 | 869 => Self::Inet,
            700 => Self::Float4,
            701 => Self::Float8,
            718 => Self::Circle,
            774 | 829 => Self::Macaddr,
            1082 => Self::Date,
            1083 => Self::Time,
            1114 => Self::Timestamp,
            1184 => Self::Timestamptz,
            1186 => Self::Interval,
            1266 => Self::Timetz,
            1560 | 1562 => Self::Bit,
            1700 => Self::Numeric,
            2950 => Self::Uuid,
            3220 => Self::Lsn,
            3614 => Self::Tsvector,
            3802 => Self::Jsonb,
            4072 => Self::Jsonpath,
            5069 => Self::Xid8,
            _ => return None,
        })
    }
}
