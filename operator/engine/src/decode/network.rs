//! Addresses (`network.c`, `inet_net_ntop.c` and `mac.c` of PostgreSQL).

use super::cursor::{Cursor, whole};
use super::text::{hex, integer};
use super::{Decoded, Malformed};

/// Appends an `inet` or `cidr`: the prefix is not shown where it is the whole address of an `inet`.
pub(super) fn inet(value: &[u8], out: &mut Vec<u8>) -> Decoded {
    let mut cursor = Cursor::new(value);
    let [family, bits, cidr, length] = cursor.array()?;
    let all = match (family, length) {
        (2, 4) => {
            v4(cursor.array()?, out);
            32
        }
        (3, 16) => {
            v6(cursor.array()?, out);
            128
        }
        _ => return Err(Malformed("an address is neither IPv4 nor IPv6")),
    };
    if cidr != 0 || bits != all {
        out.push(b'/');
        integer(bits, out);
    }
    cursor.end()
}

/// Appends a `macaddr` of six bytes, or a `macaddr8` of eight.
pub(super) fn macaddr(value: &[u8], out: &mut Vec<u8>) -> Decoded {
    if value.len() != 6 {
        whole::<8>(value)?;
    }
    for (index, byte) in value.iter().enumerate() {
        if index > 0 {
            out.push(b':');
        }
        hex(&[*byte], out);
    }
    Ok(())
}

fn v4(bytes: [u8; 4], out: &mut Vec<u8>) {
    for (index, byte) in bytes.into_iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        integer(byte, out);
    }
}

fn v6(bytes: [u8; 16], out: &mut Vec<u8>) {
    let (pairs, _) = bytes.as_chunks::<2>();
    let mut words = [0_u16; 8];
    for (word, pair) in words.iter_mut().zip(pairs) {
        *word = u16::from_be_bytes(*pair);
    }
    let run = longest_zeros(&words);
    let embeds_v4 = run.start == 0 && (run.end == 6 || (run.end == 5 && words[5] == 0xffff));
    for (index, word) in words.into_iter().enumerate() {
        if run.contains(&index) {
            if index == run.start {
                out.push(b':');
            }
            continue;
        }
        if index > 0 {
            out.push(b':');
        }
        if index == 6 && embeds_v4 {
            let [.., a, b, c, d] = bytes;
            return v4([a, b, c, d], out);
        }
        out.extend_from_slice(format!("{word:x}").as_bytes());
    }
    if run.end == 8 && !run.is_empty() {
        out.push(b':');
    }
}

/// The first of the longest runs of two zeros or more.
fn longest_zeros(words: &[u16; 8]) -> std::ops::Range<usize> {
    let mut longest = 8..8;
    let mut start = 0;
    for (index, word) in words.iter().enumerate() {
        if *word != 0 {
            start = index + 1;
        } else if index + 1 - start > longest.len().max(1) {
            longest = start..index + 1;
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::{inet, macaddr};

    fn text(family: u8, bits: u8, cidr: bool, address: &[u8]) -> String {
        let length = u8::try_from(address.len()).unwrap();
        let value = [&[family, bits, u8::from(cidr), length], address].concat();
        let mut out = Vec::new();
        inet(&value, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn prefixes_are_shown_where_postgresql_shows_them() {
        let address = Ipv4Addr::new(10, 1, 0, 255).octets();
        assert_eq!(text(2, 32, false, &address), "10.1.0.255");
        assert_eq!(text(2, 8, false, &address), "10.1.0.255/8");
        assert_eq!(text(2, 32, true, &address), "10.1.0.255/32");
        assert_eq!(text(3, 128, true, &Ipv6Addr::LOCALHOST.octets()), "::1/128");
    }

    #[test]
    fn the_longest_run_of_zeros_is_left_out() {
        for wanted in [
            "::",
            "::1",
            "1::",
            "1:0:2:0:3:0:4:0",
            "1::2:0:0:3",
            "1:0:0:2::3",
            "fe80::1:2:3:4",
            "::1.2.3.4",
            "::ffff:1.2.3.4",
            "::fffe:102:304",
            "1:2:3:4:5:6:7:8",
            "0:1:2:3:4:5:6:7",
            "::2:0:0:0:0:1",
        ] {
            let address: Ipv6Addr = wanted.parse().unwrap();
            let ours = text(3, 128, false, &address.octets());
            assert_eq!(ours.parse::<Ipv6Addr>().unwrap(), address, "{ours}");
            if wanted != "::2:0:0:0:0:1" {
                assert_eq!(ours, wanted);
            }
        }
    }

    #[test]
    fn hardware_addresses_have_six_or_eight_bytes() {
        let mut out = Vec::new();
        macaddr(&[8, 0, 0x2b, 1, 2, 3], &mut out).unwrap();
        assert_eq!(out, b"08:00:2b:01:02:03");
        assert!(macaddr(&[1; 8], &mut out).is_ok());
        assert!(macaddr(&[1; 7], &mut out).is_err());
    }
}
