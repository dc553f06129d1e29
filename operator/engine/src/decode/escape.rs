//! JSON strings as PostgreSQL's `escape_json` writes them.

use std::borrow::Cow;

use memchr::memchr2;

/// Bytes are looked at in blocks of this many, which the compiler turns into vector instructions.
const BLOCK: usize = 16;
const HALF: usize = BLOCK / 2;
const QUARTER: usize = BLOCK / 4;
/// A text that needs escapes is gone through in parts of this many bytes.
const PART: usize = 64;

#[allow(clippy::needless_bitwise_bool, reason = "without branches, a loop over it is done by vectors")]
const fn needs_escape(byte: u8) -> bool {
    (byte < b' ') | (byte == b'"') | (byte == b'\\')
}

/// Whether there is a byte of a kind, which is best told without branches.
#[inline]
pub(crate) fn contains(bytes: &[u8], is_wanted: impl Fn(u8) -> bool) -> bool {
    let any = |block: &[u8]| block.iter().fold(0_u8, |any, &byte| any | u8::from(is_wanted(byte))) != 0;
    // What is left behind whole blocks is looked at together with some bytes before it.
    if let Some(last) = bytes.last_chunk::<BLOCK>() {
        let (blocks, _) = bytes.as_chunks::<BLOCK>();
        return blocks.iter().any(|block| any(block)) || any(last);
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<HALF>(), bytes.last_chunk::<HALF>()) {
        return any(first) || any(last);
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<QUARTER>(), bytes.last_chunk::<QUARTER>()) {
        return any(first) || any(last);
    }
    bytes.iter().any(|byte| is_wanted(*byte))
}

/// Appends what stands for a text inside of a JSON string's quotes.
pub(crate) fn escape_json(text: &[u8], out: &mut Vec<u8>) {
    if !contains(text, needs_escape) {
        return out.extend_from_slice(text);
    }
    for part in text.chunks(PART) {
        if !contains(part, needs_escape) {
            out.extend_from_slice(part);
            continue;
        }
        // Each word is written as it is, and the next one over what was too much. An escape has six bytes at the most.
        let mut end = out.len();
        out.resize(end + 6 * part.len() + 2 * WORD, 0);
        let (words, rest) = part.as_chunks::<WORD>();
        for word in words {
            end = escape_word(u64::from_le_bytes(*word), WORD, out, end);
        }
        let mut word = [0; WORD];
        word[..rest.len()].copy_from_slice(rest);
        end = escape_word(u64::from_le_bytes(word), rest.len(), out, end);
        out.truncate(end);
    }
}

/// Writes the first bytes of a word at a place, and returns where they end.
#[inline]
fn escape_word(mut word: u64, mut left: usize, out: &mut [u8], mut end: usize) -> usize {
    let mut found = equal(word, b'"') | equal(word, b'\\') | equal(word & CONTROL, 0);
    loop {
        if let Some(place) = out.get_mut(end..end + WORD) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let before = (found.trailing_zeros() / 8) as usize;
        if before >= left {
            return end + left;
        }
        end += before;
        let byte = word.to_le_bytes()[before];
        if matches!(byte, b'"' | b'\\') {
            if let Some(place) = out.get_mut(end..end + 2) {
                place.copy_from_slice(&[b'\\', byte]);
            }
            end += 2;
        } else {
            let (escape, length) = control(byte);
            if let Some(place) = out.get_mut(end..end + WORD) {
                place.copy_from_slice(&escape);
            }
            end += length;
        }
        let taken = before + 1;
        left -= taken;
        if left == 0 {
            return end;
        }
        word >>= 8 * taken;
        found >>= 8 * taken;
    }
}

/// What stands for a control character, and how long that is.
fn control(byte: u8) -> ([u8; WORD], usize) {
    let short = match byte {
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        8 => b'b',
        12 => b'f',
        _ => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
            return ([b'\\', b'u', b'0', b'0', high, low, 0, 0], 6);
        }
    };
    ([b'\\', short, 0, 0, 0, 0, 0, 0], 2)
}

/// The bytes of a machine word.
pub(crate) const WORD: usize = size_of::<u64>();
/// The bits of which control characters have none.
const CONTROL: u64 = u64::from_le_bytes([0xe0; WORD]);

/// The highest bit of each byte of a word that equals `byte`; no other bit.
#[inline]
pub(crate) const fn equal(word: u64, byte: u8) -> u64 {
    const LOW: u64 = u64::from_le_bytes([0x7f; WORD]);
    let other = word ^ u64::from_le_bytes([byte; WORD]);
    // The lower seven bits carry into the highest one unless they are zero; nothing carries from byte to byte.
    !(((other & LOW) + LOW) | other | LOW)
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
