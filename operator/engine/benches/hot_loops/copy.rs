//! COPY's binary format (PostgreSQL's documentation of COPY, "Binary Format"), as a server would send it.

use pgexport_engine::decode::{Scalar, Shape};
use pgexport_engine::plan::Column;

/// Names for columns of these shapes.
pub fn columns(shapes: &[Option<Shape>]) -> Vec<Column> {
    let column = |index| Column { name: format!("column_{index}"), column_type: String::new() };
    (0..shapes.len()).map(column).collect()
}

/// One column of texts.
pub fn text_shapes() -> Vec<Option<Shape>> {
    vec![Some(Shape::Scalar(Scalar::Text))]
}

/// So many rows of one text.
pub fn texts(text: &str, rows: usize) -> Vec<u8> {
    let mut out = head();
    for _ in 0..rows {
        row(&mut out, &[Some(text.as_bytes().to_vec())]);
    }
    tail(out)
}

/// Columns such as tables have them.
pub fn mixed_shapes() -> Vec<Option<Shape>> {
    let scalar = |scalar| Some(Shape::Scalar(scalar));
    let tags = Shape::Array { element: Box::new(Shape::Scalar(Scalar::Text)), delimiter: ',' };
    vec![
        scalar(Scalar::Uuid),
        scalar(Scalar::Int8),
        scalar(Scalar::Text),
        scalar(Scalar::Text),
        scalar(Scalar::Text),
        scalar(Scalar::Int4),
        scalar(Scalar::Numeric),
        scalar(Scalar::Float8),
        scalar(Scalar::Bool),
        scalar(Scalar::Timestamptz),
        scalar(Scalar::Date),
        scalar(Scalar::Jsonb),
        Some(tags),
        scalar(Scalar::Bytea),
    ]
}

/// So many rows of [`mixed_shapes`]. Some values are NULL.
pub fn mixed(rows: usize) -> Vec<u8> {
    let mut out = head();
    for (index, number) in (0..rows).zip(0_i64..) {
        // Spread over all bits, and the same in each run.
        let spread = number.wrapping_mul(0x5851_f42d_4c95_7f2d);
        let mut uuid = spread.to_be_bytes().to_vec();
        uuid.extend(number.to_be_bytes());
        let attributes = format!(
            "\x01{{\"region\": \"eu-west-{}\", \"account\": \"{spread}\", \"open\": true}}",
            index % 3
        );
        let mut numeric = Vec::new();
        // 2 groups, weight 0, no sign, scale 4.
        for group in [2_u16, 0, 0, 4, u16::try_from(index % 10_000).unwrap(), 2500] {
            numeric.extend(group.to_be_bytes());
        }
        let value = |text: &str| Some(text.as_bytes().to_vec());
        row(
            &mut out,
            &[
                Some(uuid),
                Some(number.to_be_bytes().to_vec()),
                value(["low", "medium", "high", "critical"][index % 4]),
                value(&format!("Bucket {} allows public read access", index % 1000)),
                value(&format!(
                    "An object of account {spread} can be read by anyone,\nand nothing in its policy \"denies\" it."
                )),
                (index % 7 != 0).then(|| i32::try_from(index).unwrap().to_be_bytes().to_vec()),
                Some(numeric),
                #[allow(clippy::cast_precision_loss, reason = "any number will do")]
                Some((spread as f64 / 1e12).to_be_bytes().to_vec()),
                Some(vec![u8::from(index % 2 == 0)]),
                Some((number * 12_345_678_901 % 1_000_000_000_000_000).to_be_bytes().to_vec()),
                (index % 5 != 0).then(|| i32::try_from(index % 20_000).unwrap().to_be_bytes().to_vec()),
                value(&attributes),
                Some(array(&["prod", "team a", "pci"][..index % 4])),
                Some(spread.to_be_bytes().repeat(4)),
            ],
        );
    }
    tail(out)
}

/// An array of one dimension.
fn array(elements: &[&str]) -> Vec<u8> {
    const TEXT: u32 = 25;
    let mut out = Vec::new();
    let dimensions = i32::from(!elements.is_empty());
    out.extend(dimensions.to_be_bytes());
    out.extend(0_i32.to_be_bytes());
    out.extend(TEXT.to_be_bytes());
    if !elements.is_empty() {
        out.extend(u32::try_from(elements.len()).unwrap().to_be_bytes());
        out.extend(1_i32.to_be_bytes());
    }
    for element in elements {
        out.extend(u32::try_from(element.len()).unwrap().to_be_bytes());
        out.extend(element.bytes());
    }
    out
}

fn head() -> Vec<u8> {
    let mut out = b"PGCOPY\n\xff\r\n\0".to_vec();
    out.extend([0; 8]);
    out
}

fn row(out: &mut Vec<u8>, values: &[Option<Vec<u8>>]) {
    out.extend(i16::try_from(values.len()).unwrap().to_be_bytes());
    for value in values {
        let length = value.as_ref().map_or(-1, |value| i32::try_from(value.len()).unwrap());
        out.extend(length.to_be_bytes());
        out.extend(value.iter().flatten());
    }
}

fn tail(mut out: Vec<u8>) -> Vec<u8> {
    out.extend((-1_i16).to_be_bytes());
    out
}
