//! Columns whose values hardly repeat. A dictionary is not worth its look-ups there.

use std::collections::HashSet;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;

/// How many rows are looked at.
const ROWS: usize = 2048;
/// Fewer tell nothing.
const LEAST_ROWS: usize = 256;

/// The names of a batch's columns of which nine values in ten differ. Among so many rows, those of a column that a
/// dictionary would hold repeat more often.
pub(super) fn columns(rows: &RecordBatch) -> Vec<String> {
    let schema = rows.schema_ref();
    let varied = |(index, column): (usize, &dyn Array)| {
        let (different, all) = different(column)?;
        (all >= LEAST_ROWS && different * 10 >= all * 9).then(|| schema.field(index).name().clone())
    };
    rows.columns().iter().map(AsRef::as_ref).enumerate().filter_map(varied).collect()
}

/// How many different values there are among the first ones, and how many values; none of types where it does not matter.
fn different(column: &dyn Array) -> Option<(usize, usize)> {
    let rows = column.len().min(ROWS);
    let present = (0..rows).filter(|row| column.is_valid(*row));
    match column.data_type() {
        DataType::Utf8 => {
            let values = column.as_string::<i32>();
            Some(counted(present.map(|row| values.value(row).as_bytes())))
        }
        DataType::Binary => {
            let values = column.as_binary::<i32>();
            Some(counted(present.map(|row| values.value(row))))
        }
        DataType::FixedSizeBinary(_) => {
            let values = column.as_fixed_size_binary();
            Some(counted(present.map(|row| values.value(row))))
        }
        data_type => {
            let width = data_type.primitive_width()?;
            let data = column.to_data();
            let values = data.buffers().first()?.as_slice();
            Some(counted(present.filter_map(|row| values.get(row * width..(row + 1) * width))))
        }
    }
}

fn counted<'a>(values: impl Iterator<Item = &'a [u8]>) -> (usize, usize) {
    let (mut different, mut all) = (HashSet::new(), 0);
    for value in values {
        different.insert(value);
        all += 1;
    }
    (different.len(), all)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};

    use super::columns;

    #[test]
    fn columns_are_told_by_how_often_their_first_values_repeat() {
        let numbers =
            |each: fn(i64) -> Option<i64>| Arc::new((0..2000).map(each).collect::<Int64Array>()) as ArrayRef;
        let texts = |each: fn(u32) -> u32| {
            Arc::new((0..2000).map(|row| Some(format!("text {}", each(row)))).collect::<StringArray>())
                as ArrayRef
        };
        let rows = RecordBatch::try_from_iter_with_nullable([
            ("each another", numbers(Some), true),
            ("one", numbers(|_| Some(7)), true),
            ("hardly any", numbers(|row| (row < 100).then_some(row)), true),
            ("text", texts(|row| row), true),
            ("text of a thousand", texts(|row| row % 1000), true),
        ])
        .unwrap();
        assert_eq!(columns(&rows), ["each another", "text"]);
    }
}
