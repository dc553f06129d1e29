//! Geometric types (`geo_ops.c` of PostgreSQL). Their coordinates are floats.

use super::Decoded;
use super::cursor::Cursor;
use super::float::float8;

/// Appends `(x,y)`.
pub(super) fn point(value: &[u8], out: &mut Vec<u8>) -> Decoded {
    let mut cursor = Cursor::new(value);
    points(&mut cursor, 1, out)?;
    cursor.end()
}

/// Appends `[(x1,y1),(x2,y2)]`.
pub(super) fn lseg(value: &[u8], out: &mut Vec<u8>) -> Decoded {
    let mut cursor = Cursor::new(value);
    out.push(b'[');
    points(&mut cursor, 2, out)?;
    out.push(b']');
    cursor.end()
}

/// Appends a `box`: `(x1,y1),(x2,y2)`.
pub(super) fn rectangle(value: &[u8], out: &mut Vec<u8>) -> Decoded {
    let mut cursor = Cursor::new(value);
    points(&mut cursor, 2, out)?;
    cursor.end()
}

/// Appends a `path`: in parentheses if it is closed, else in brackets.
pub(super) fn path(value: &[u8], out: &mut Vec<u8>) -> Decoded {
    let mut cursor = Cursor::new(value);
    let closed = cursor.u8()? != 0;
    let count = cursor.count()?;
    out.push(if closed { b'(' } else { b'[' });
    points(&mut cursor, count, out)?;
    out.push(if closed { b')' } else { b']' });
    cursor.end()
}

/// Appends `((x1,y1),…)`.
pub(super) fn polygon(value: &[u8], out: &mut Vec<u8>) -> Decoded {
    let mut cursor = Cursor::new(value);
    let count = cursor.count()?;
    out.push(b'(');
    points(&mut cursor, count, out)?;
    out.push(b')');
    cursor.end()
}

/// Appends `{a,b,c}`.
pub(super) fn line(value: &[u8], out: &mut Vec<u8>) -> Decoded {
    let mut cursor = Cursor::new(value);
    for before in [b'{', b',', b','] {
        out.push(before);
        float8(cursor.f64()?, out);
    }
    out.push(b'}');
    cursor.end()
}

/// Appends `<(x,y),radius>`.
pub(super) fn circle(value: &[u8], out: &mut Vec<u8>) -> Decoded {
    let mut cursor = Cursor::new(value);
    out.push(b'<');
    points(&mut cursor, 1, out)?;
    out.push(b',');
    float8(cursor.f64()?, out);
    out.push(b'>');
    cursor.end()
}

fn points(cursor: &mut Cursor<'_>, count: usize, out: &mut Vec<u8>) -> Decoded {
    for index in 0..count {
        if index > 0 {
            out.push(b',');
        }
        out.push(b'(');
        float8(cursor.f64()?, out);
        out.push(b',');
        float8(cursor.f64()?, out);
        out.push(b')');
    }
    Ok(())
}
