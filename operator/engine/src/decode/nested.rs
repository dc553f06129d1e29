//! The text of types with parts: arrays, composites, ranges and multiranges. A part's text is written where it will stay,
//! and looked at there: mostly it needs no quotes.

use super::cursor::Cursor;
use super::text::write_text;
use super::{Attribute, Decoded, Malformed, Shape};

/// The most dimensions that an array can have, PostgreSQL's `MAXDIM`.
const MAX_DIMENSIONS: usize = 6;

/// An array's head, and its elements.
pub(crate) struct Array<'a> {
    /// How many dimensions it has. None: it is empty.
    dimensions: usize,
    lengths: [usize; MAX_DIMENSIONS],
    lower_bounds: [i32; MAX_DIMENSIONS],
    pub(crate) elements: Cursor<'a>,
}

impl<'a> Array<'a> {
    pub(crate) fn read(value: &'a [u8]) -> Decoded<Self> {
        let mut cursor = Cursor::new(value);
        let dimensions = cursor.count()?;
        let (_has_nulls, _element_type) = (cursor.i32()?, cursor.u32()?);
        let mut array = Self {
            dimensions,
            lengths: [0; MAX_DIMENSIONS],
            lower_bounds: [0; MAX_DIMENSIONS],
            elements: cursor,
        };
        let lengths =
            array.lengths.get_mut(..dimensions).ok_or(Malformed("an array has more than six dimensions"))?;
        for (length, lower_bound) in lengths.iter_mut().zip(&mut array.lower_bounds) {
            (*length, *lower_bound) = (cursor.count()?, cursor.i32()?);
        }
        if lengths.contains(&0) {
            array.dimensions = 0;
        }
        Ok(Self { elements: cursor, ..array })
    }

    /// Lengths of the dimensions. None: an empty array.
    pub(crate) fn lengths(&self) -> &[usize] {
        &self.lengths[..self.dimensions]
    }
}

/// Appends an array (`array_out` in `arrayfuncs.c`).
pub(super) fn array(element: &Shape, delimiter: char, value: &[u8], out: &mut Vec<u8>) -> Decoded {
    let delimiter = u8::try_from(delimiter).map_err(|_| Malformed("a delimiter has more than one byte"))?;
    let array = Array::read(value)?;
    if array.dimensions == 0 {
        out.extend_from_slice(b"{}");
        return array.elements.end();
    }
    if array.lower_bounds[..array.dimensions].iter().any(|bound| *bound != 1) {
        for (length, lower) in array.lengths().iter().zip(&array.lower_bounds) {
            let upper = i64::from(*lower) + i64::try_from(*length).unwrap_or_default() - 1;
            out.extend_from_slice(format!("[{lower}:{upper}]").as_bytes());
        }
        out.push(b'=');
    }
    let mut elements = array.elements;
    dimension(element, delimiter, array.lengths(), &mut elements, out)?;
    elements.end()
}

fn dimension(
    element: &Shape,
    delimiter: u8,
    lengths: &[usize],
    elements: &mut Cursor<'_>,
    out: &mut Vec<u8>,
) -> Decoded {
    let Some((length, inner)) = lengths.split_first() else {
        let Some(value) = elements.value()? else {
            out.extend_from_slice(b"NULL");
            return Ok(());
        };
        let start = out.len();
        write_text(element, value, out)?;
        let needs_quotes = |text: &[u8]| {
            text.is_empty()
                || text.iter().any(|byte| {
                    matches!(byte, b'"' | b'\\' | b'{' | b'}') || *byte == delimiter || is_space(*byte)
                })
                || text.eq_ignore_ascii_case(b"NULL")
        };
        if needs_quotes(&out[start..]) {
            quote(out, start, |byte| byte.is_ascii() && matches!(byte, b'"' | b'\\'), Escape::Backslash);
        }
        return Ok(());
    };
    out.push(b'{');
    for index in 0..*length {
        if index > 0 {
            out.push(delimiter);
        }
        dimension(element, delimiter, inner, elements, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// The values of a composite, of as many attributes as its type has.
pub(super) fn attributes<'a>(
    attributes: &'a [Attribute],
    value: &'a [u8],
    mut each: impl FnMut(usize, &'a Attribute, Option<&'a [u8]>) -> Decoded,
) -> Decoded {
    let mut cursor = Cursor::new(value);
    if cursor.count()? != attributes.len() {
        return Err(Malformed("a composite has another number of attributes than its type had"));
    }
    for (index, attribute) in attributes.iter().enumerate() {
        let _type = cursor.u32()?;
        each(index, attribute, cursor.value()?)?;
    }
    cursor.end()
}

/// Appends a composite (`record_out` in `rowtypes.c`).
pub(super) fn composite(attributes: &[Attribute], value: &[u8], out: &mut Vec<u8>) -> Decoded {
    out.push(b'(');
    self::attributes(attributes, value, |index, attribute, value| {
        if index > 0 {
            out.push(b',');
        }
        let Some(value) = value else { return Ok(()) };
        part(&attribute.shape, value, |byte| matches!(byte, b'"' | b'\\' | b'(' | b')' | b','), out)
    })?;
    out.push(b')');
    Ok(())
}

/// Appends a range (`range_deparse` in `rangetypes.c`).
pub(super) fn range(bound: &Shape, value: &[u8], out: &mut Vec<u8>) -> Decoded {
    const EMPTY: u8 = 0x01;
    const LOWER_INCLUSIVE: u8 = 0x02;
    const UPPER_INCLUSIVE: u8 = 0x04;
    const LOWER_INFINITE: u8 = 0x08;
    const UPPER_INFINITE: u8 = 0x10;
    let mut cursor = Cursor::new(value);
    let flags = cursor.u8()?;
    let has = |flag: u8| flags & flag != 0;
    if has(EMPTY) {
        out.extend_from_slice(b"empty");
        return cursor.end();
    }
    let needs_quotes = |byte| matches!(byte, b'"' | b'\\' | b'(' | b')' | b'[' | b']' | b',');
    let mut side = |infinite: bool, out: &mut Vec<u8>| {
        if infinite {
            return Ok(());
        }
        let value = cursor.value()?.ok_or(Malformed("a range's bound is NULL"))?;
        part(bound, value, needs_quotes, out)
    };
    out.push(if has(LOWER_INCLUSIVE) { b'[' } else { b'(' });
    side(has(LOWER_INFINITE), out)?;
    out.push(b',');
    side(has(UPPER_INFINITE), out)?;
    out.push(if has(UPPER_INCLUSIVE) { b']' } else { b')' });
    cursor.end()
}

/// Appends a multirange (`multirange_out` in `multirangetypes.c`).
pub(super) fn multirange(bound: &Shape, value: &[u8], out: &mut Vec<u8>) -> Decoded {
    let mut cursor = Cursor::new(value);
    out.push(b'{');
    for index in 0..cursor.count()? {
        if index > 0 {
            out.push(b',');
        }
        range(bound, cursor.value()?.ok_or(Malformed("a multirange's range is NULL"))?, out)?;
    }
    out.push(b'}');
    cursor.end()
}

/// Appends a composite's or a range's part: quotes and backslashes are doubled, and an empty text is quoted.
fn part(shape: &Shape, value: &[u8], needs_quotes: impl Fn(u8) -> bool, out: &mut Vec<u8>) -> Decoded {
    let start = out.len();
    write_text(shape, value, out)?;
    let text = &out[start..];
    if text.is_empty() || text.iter().any(|byte| needs_quotes(*byte) || is_space(*byte)) {
        quote(out, start, |byte| matches!(byte, b'"' | b'\\'), Escape::Double);
    }
    Ok(())
}

/// What stands before a byte that needs it.
#[derive(Clone, Copy)]
enum Escape {
    Backslash,
    /// The byte itself.
    Double,
}

/// Puts what stands in `out` from `start` on into quotes.
fn quote(out: &mut Vec<u8>, start: usize, needs_escape: impl Fn(u8) -> bool, escape: Escape) {
    let text = out.split_off(start);
    out.reserve(text.len() + 2);
    out.push(b'"');
    for byte in text {
        if needs_escape(byte) {
            out.push(match escape {
                Escape::Backslash => b'\\',
                Escape::Double => byte,
            });
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// As C's `isspace` and PostgreSQL's `array_isspace`.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | 9..=13)
}
