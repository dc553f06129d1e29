//! `tsvector` (`tsvector.c` of PostgreSQL).

use super::Decoded;
use super::cursor::Cursor;
use super::text::integer;

/// Appends its lexemes, each with its positions and weights.
pub(super) fn tsvector(value: &[u8], out: &mut Vec<u8>) -> Decoded {
    let mut cursor = Cursor::new(value);
    for index in 0..cursor.count()? {
        if index > 0 {
            out.push(b' ');
        }
        out.push(b'\'');
        for &byte in cursor.text()? {
            if matches!(byte, b'\'' | b'\\') {
                out.push(byte);
            }
            out.push(byte);
        }
        out.push(b'\'');
        for index in 0..cursor.u16()? {
            out.push(if index == 0 { b':' } else { b',' });
            let entry = cursor.u16()?;
            integer(entry & 0x3fff, out);
            match entry >> 14 {
                3 => out.push(b'A'),
                2 => out.push(b'B'),
                1 => out.push(b'C'),
                _ => {}
            }
        }
    }
    cursor.end()
}

#[cfg(test)]
mod tests {
    use super::tsvector;

    #[test]
    fn lexemes_are_quoted_and_weighed() {
        let value = [&[0, 0, 0, 2][..], b"a'\\b\0", &[0, 2, 0xc0, 1, 0x3f, 0xff], b"c\0", &[0, 0]].concat();
        let mut out = Vec::new();
        tsvector(&value, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), r"'a''\\b':1A,16383 'c'");
    }
}
