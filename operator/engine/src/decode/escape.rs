//! JSON strings as PostgreSQL's `escape_json` writes them.

use std::borrow::Cow;

use memchr::memchr2;

/// Bytes are looked at in blocks of this many, which the compiler turns into vector instructions.
const BLOCK: usize = 16;

const fn needs_escape(byte: u8) -> bool {
    (byte < b' ') || (byte == b'"') || (byte == b'\\')
}

fn any_needs_escape(bytes: &[u8]) -> bool {
    bytes.iter().fold(0_u8, |any, &byte| any | u8::from(needs_escape(byte))) != 0
}

/// Appends what stands for a text inside of a JSON string's quotes.
pub(crate) fn escape_json(text: &[u8], out: &mut Vec<u8>) {
    let (mut clean, mut start) = (0, 0);
    // Whole runs of clean blocks are copied at once.
    for block in text.chunks(BLOCK) {
        if any_needs_escape(block) {
            out.extend_from_slice(&text[clean..start]);
            for &byte in block {
                escape_byte(byte, out);
            }
            clean = start + block.len();
        }
        start += block.len();
    }
    out.extend_from_slice(&text[clean..]);
}

fn escape_byte(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        8 => b'b',
        12 => b'f',
        0..b' ' => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(b"\\u00");
            out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            return;
        }
        _ => {
            out.push(byte);
            return;
        }
    };
    out.extend([b'\\', short]);
}

/// Makes a JSON string of what stands in `out` from `start` on.
pub(crate) fn quote_json(out: &mut Vec<u8>, start: usize) {
    let text = out.split_off(start);
    out.push(b'"');
    escape_json(&text, out);
    out.push(b'"');
}

/// A JSON document on one line. Line breaks stand in it between tokens only: in strings they are escaped.
pub(crate) fn ends_lines(json: &[u8]) -> Cow<'_, [u8]> {
    if memchr2(b'\n', b'\r', json).is_none() {
        return Cow::Borrowed(json);
    }
    json.iter().map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ends_lines, escape_json, quote_json};

    fn escaped(text: &str) -> String {
        let mut out = Vec::new();
        escape_json(text.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes_are_those_of_postgresql() {
        assert_eq!(
            escaped("a\"\\/\n\r\t\u{8}\u{c}\u{1}\u{1f}\u{7f}é"),
            "a\\\"\\\\/\\n\\r\\t\\b\\f\\u0001\\u001f\u{7f}é"
        );
    }

    #[test]
    fn only_the_tail_becomes_a_string() {
        let mut out = b"\"a\n\"".to_vec();
        quote_json(&mut out, 2);
        assert_eq!(out, b"\"a\"\\n\\\"\"");
    }

    #[test]
    fn line_breaks_between_tokens_become_spaces() {
        assert_eq!(&*ends_lines(b"{\"a\":{\r\n\"b\": \"\\n\"}}"), b"{\"a\":{  \"b\": \"\\n\"}}");
    }

    proptest! {
        #[test]
        fn a_parser_reads_what_was_escaped(text in any::<String>()) {
            let parsed: String = serde_json::from_str(&format!("\"{}\"", escaped(&text))).unwrap();
            prop_assert_eq!(parsed, text);
        }
    }
}
