//! What the binary values of a result's columns look like, from the catalog.

use std::collections::HashMap;

use pgexport_api::job::FormatType;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::decode::{Attribute, Scalar, Shape};
use crate::error::Result;
use crate::source::Session;
use crate::source::error::Stage;

/// The types, and all those that they are made of. A type has an explicit cast to json where `row_to_json` would call it.
const TYPES: &str = "
WITH RECURSIVE part(oid) AS (
  SELECT u.oid FROM pg_catalog.unnest($1) AS u(oid)
  UNION
  SELECT next.oid
  FROM part JOIN pg_catalog.pg_type t ON t.oid = part.oid
  CROSS JOIN LATERAL (
    SELECT t.typbasetype WHERE t.typtype = 'd'
    UNION ALL SELECT t.typelem WHERE t.typsend = 'pg_catalog.array_send'::pg_catalog.regproc
    UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
      WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
  ) AS next(oid)
)
SELECT t.oid, t.typtype::pg_catalog.text, t.typdelim::pg_catalog.text,
  CASE WHEN t.typtype = 'd' THEN t.typbasetype
       WHEN t.typsend = 'pg_catalog.array_send'::pg_catalog.regproc THEN t.typelem
       ELSE (SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)) END,
  t.typsend = 'pg_catalog.array_send'::pg_catalog.regproc,
  ARRAY(SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute a
    WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
  ARRAY(SELECT a.atttypid FROM pg_catalog.pg_attribute a
    WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
  EXISTS (SELECT FROM pg_catalog.pg_cast c
    WHERE c.castsource = t.oid AND c.casttarget = 'pg_catalog.json'::pg_catalog.regtype AND c.castmethod = 'f'),
  t.typtypmod
FROM part JOIN pg_catalog.pg_type t ON t.oid = part.oid";

/// A column whose type has more parts than this is asked from the server as text.
const MAX_PARTS: usize = 1000;

/// A type as the catalog has it.
#[derive(Clone, Debug)]
struct Entry {
    kind: Kind,
    /// What stands between elements of arrays of it.
    delimiter: char,
    /// Whether a function makes json of it.
    cast_to_json: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    Base,
    Enum,
    /// Of this type, with this modifier.
    Domain(u32, i32),
    Array(u32),
    Composite(Vec<(String, u32)>),
    Range(u32),
    Multirange(u32),
}

type Catalog = HashMap<u32, Entry>;

/// The shapes of columns of these types; none where a column's text or JSON is asked from the server.
pub(super) async fn shapes(
    session: &Session,
    doing: &str,
    types: &[u32],
    modifiers: &[i32],
    format: FormatType,
) -> Result<Vec<Option<Shape>>> {
    let rows = session.query(Stage::Plan, doing, TYPES, &[(&types, Type::OID_ARRAY)]).await?;
    let catalog: Catalog = rows
        .iter()
        .map(entry)
        .collect::<Result<_, _>>()
        .map_err(|error| session.error(error, Stage::Plan, doing))?;
    let types = types.iter().zip(modifiers);
    Ok(types.map(|(oid, modifier)| shape(*oid, *modifier, &catalog, format)).collect())
}

fn entry(row: &Row) -> Result<(u32, Entry), tokio_postgres::Error> {
    let (kind, delimiter): (&str, &str) = (row.try_get(1)?, row.try_get(2)?);
    let part = row.try_get::<_, Option<u32>>(3)?.unwrap_or_default();
    let (names, types): (Vec<String>, Vec<u32>) = (row.try_get(5)?, row.try_get(6)?);
    let kind = match kind {
        "d" => Kind::Domain(part, row.try_get(8)?),
        "e" => Kind::Enum,
        "c" => Kind::Composite(names.into_iter().zip(types).collect()),
        "r" => Kind::Range(part),
        "m" => Kind::Multirange(part),
        _ if row.try_get(4)? => Kind::Array(part),
        _ => Kind::Base,
    };
    let delimiter = delimiter.chars().next().unwrap_or(',');
    Ok((row.try_get(0)?, Entry { kind, delimiter, cast_to_json: row.try_get(7)? }))
}

fn shape(oid: u32, modifier: i32, catalog: &Catalog, format: FormatType) -> Option<Shape> {
    let casts = matches!(format, FormatType::Json | FormatType::Ndjson);
    let decimals = format == FormatType::Parquet;
    Walk { catalog, casts, decimals, left: MAX_PARTS }.shape(oid, modifier)
}

/// The modifier of a type that has none.
const NO_MODIFIER: i32 = -1;

/// The shape of a `numeric` with this modifier (`make_numeric_typmod` in PostgreSQL's `numeric.c`), where it has at most 38
/// digits. Of a scale that is negative, or greater than the precision, as 15 and later have, it is one of more digits.
fn decimal(modifier: i32) -> Option<Shape> {
    const HEADER: i32 = 4;
    const DIGITS: i32 = 38;
    let modifier = modifier.checked_sub(HEADER).filter(|modifier| *modifier >= 0)?;
    let (precision, scale) = (modifier >> 16 & 0xffff, ((modifier & 0x7ff) ^ 1024) - 1024);
    let (precision, scale) = (precision.max(scale) - scale.min(0), scale.max(0));
    if precision > DIGITS {
        return None;
    }
    Some(Shape::Decimal { precision: precision.try_into().ok()?, scale: scale.try_into().ok()? })
}

/// A walk through a type's parts. Where one of them is not decoded, nothing that it is a part of is.
struct Walk<'a> {
    catalog: &'a Catalog,
    /// Whether casts to json count.
    casts: bool,
    /// Whether numerics with a precision are told from those without.
    decimals: bool,
    left: usize,
}

impl Walk<'_> {
    fn shape(&mut self, oid: u32, modifier: i32) -> Option<Shape> {
        self.left = self.left.checked_sub(1)?;
        let entry = self.catalog.get(&oid)?;
        if self.casts && entry.cast_to_json {
            return None;
        }
        Some(match &entry.kind {
            Kind::Base => match Scalar::of(oid)? {
                Scalar::Numeric if self.decimals => {
                    decimal(modifier).unwrap_or(Shape::Scalar(Scalar::Numeric))
                }
                scalar => Shape::Scalar(scalar),
            },
            Kind::Enum => Shape::Scalar(Scalar::Text),
            Kind::Domain(base, modifier) => self.shape(*base, *modifier)?,
            Kind::Array(element) => {
                let delimiter = self.catalog.get(element)?.delimiter;
                Shape::Array { element: Box::new(self.shape(*element, modifier)?), delimiter }
            }
            Kind::Composite(attributes) => {
                let attributes = attributes
                    .iter()
                    .map(|(name, oid)| {
                        Some(Attribute { name: name.clone(), shape: self.shape(*oid, NO_MODIFIER)? })
                    })
                    .collect::<Option<_>>()?;
                Shape::Composite(attributes)
            }
            Kind::Range(bound) => Shape::Range(Box::new(self.shape(*bound, NO_MODIFIER)?)),
            Kind::Multirange(bound) => Shape::Multirange(Box::new(self.shape(*bound, NO_MODIFIER)?)),
        })
    }
}

#[cfg(test)]
mod tests {
    use pgexport_api::job::FormatType;

    use super::{Catalog, Entry, Kind, NO_MODIFIER};
    use crate::decode::{Attribute, Scalar, Shape};

    const INT4: u32 = 23;
    const MONEY: u32 = 790;
    const MOOD: u32 = 20_000;
    const NUMERIC: u32 = 1700;

    fn shape(oid: u32, catalog: &Catalog, format: FormatType) -> Option<Shape> {
        super::shape(oid, NO_MODIFIER, catalog, format)
    }

    fn entry(kind: Kind) -> Entry {
        Entry { kind, delimiter: ',', cast_to_json: false }
    }

    fn catalog(more: impl IntoIterator<Item = (u32, Entry)>) -> Catalog {
        [
            (INT4, entry(Kind::Base)),
            (MONEY, entry(Kind::Base)),
            (NUMERIC, entry(Kind::Base)),
            (MOOD, Entry { cast_to_json: true, ..entry(Kind::Enum) }),
            (603, Entry { delimiter: ';', ..entry(Kind::Base) }),
        ]
        .into_iter()
        .chain(more)
        .collect()
    }

    #[test]
    fn types_are_followed_to_their_last_part() {
        let attributes = vec![("a".to_owned(), 30_001), ("b".to_owned(), INT4)];
        let catalog = catalog([
            (30_000, entry(Kind::Composite(attributes))),
            (30_001, entry(Kind::Array(30_002))),
            (30_002, Entry { delimiter: ';', ..entry(Kind::Domain(603, NO_MODIFIER)) }),
        ]);
        let boxes = Shape::Array { element: Box::new(Shape::Scalar(Scalar::Box)), delimiter: ';' };
        let wanted = Shape::Composite(vec![
            Attribute { name: "a".to_owned(), shape: boxes },
            Attribute { name: "b".to_owned(), shape: Shape::Scalar(Scalar::Int4) },
        ]);
        assert_eq!(shape(30_000, &catalog, FormatType::Csv), Some(wanted));
    }

    #[test]
    fn one_part_that_is_not_decoded_is_enough() {
        let catalog = catalog([
            (30_000, entry(Kind::Composite(vec![("a".to_owned(), INT4), ("b".to_owned(), 30_001)]))),
            (30_001, entry(Kind::Array(MONEY))),
            (30_002, entry(Kind::Array(99_999))),
        ]);
        for oid in [30_000, 30_001, 30_002, MONEY] {
            assert_eq!(shape(oid, &catalog, FormatType::Csv), None, "{oid}");
        }
    }

    #[test]
    fn casts_to_json_count_for_json_only() {
        let catalog = catalog([(30_000, entry(Kind::Array(MOOD)))]);
        assert_eq!(shape(30_000, &catalog, FormatType::Ndjson), None);
        assert!(shape(30_000, &catalog, FormatType::Csv).is_some());
    }

    /// As `make_numeric_typmod` makes it.
    fn modifier(precision: i32, scale: i32) -> i32 {
        (precision << 16 | scale & 0x7ff) + 4
    }

    #[test]
    fn numerics_are_decimals_for_parquet_where_their_digits_suffice() {
        let money = Kind::Domain(NUMERIC, modifier(12, 2));
        let catalog = catalog([
            (30_000, entry(Kind::Array(NUMERIC))),
            (30_001, entry(money)),
            (30_002, entry(Kind::Array(30_001))),
        ]);
        let numeric = Some(Shape::Scalar(Scalar::Numeric));
        let decimal = |precision, scale| Some(Shape::Decimal { precision, scale });
        let element = |shape: Option<Shape>| match shape {
            Some(Shape::Array { element, .. }) => Some(*element),
            _ => None,
        };
        let parquet = |oid, modifier| super::shape(oid, modifier, &catalog, FormatType::Parquet);
        for (precision, scale, wanted) in [
            (12, 4, decimal(12, 4)),
            (38, 38, decimal(38, 38)),
            (39, 0, numeric.clone()),
            (3, -2, decimal(5, 0)),
            (37, -2, numeric.clone()),
            (2, 5, decimal(5, 5)),
            (1000, 1000, numeric.clone()),
            (1000, -1000, numeric.clone()),
        ] {
            assert_eq!(parquet(NUMERIC, modifier(precision, scale)), wanted, "numeric({precision}, {scale})");
            let text = super::shape(NUMERIC, modifier(precision, scale), &catalog, FormatType::Csv);
            assert_eq!(text, numeric, "CSV has no types");
        }
        assert_eq!(parquet(NUMERIC, NO_MODIFIER), numeric);
        assert_eq!(element(parquet(30_000, modifier(12, 4))), decimal(12, 4));
        assert_eq!(parquet(30_001, NO_MODIFIER), decimal(12, 2));
        assert_eq!(element(parquet(30_002, NO_MODIFIER)), decimal(12, 2));
    }

    #[test]
    fn types_of_very_many_parts_are_asked_for() {
        let twice = |oid| Kind::Composite(vec![("a".to_owned(), oid), ("b".to_owned(), oid)]);
        let mut entries: Vec<_> = (30_001..30_030).map(|oid| (oid, entry(twice(oid - 1)))).collect();
        entries.push((30_000, entry(twice(INT4))));
        let catalog = catalog(entries);
        assert!(shape(30_005, &catalog, FormatType::Csv).is_some());
        assert_eq!(shape(30_029, &catalog, FormatType::Csv), None);
    }
}
