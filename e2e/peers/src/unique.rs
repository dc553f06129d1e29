//! Names and secrets that nobody else has.

/// `hint` in the characters that bucket and database names share, followed by 40 random bits: at most 50 characters.
pub(crate) fn name(hint: &str, separator: char) -> String {
    let mut name = String::new();
    for character in hint.chars().take(38) {
        let character = character.to_ascii_lowercase();
        if character.is_ascii_alphanumeric() {
            name.push(character);
        } else if !name.is_empty() && !name.ends_with(separator) {
            name.push(separator);
        }
    }
    let stem = name.trim_end_matches(separator);
    let stem = if stem.starts_with(|c: char| c.is_ascii_lowercase()) { stem } else { "test" };
    format!("{stem}{separator}{:010x}", rand::random::<u64>() & 0xff_ffff_ffff)
}

/// A password or secret key of 128 random bits.
pub(crate) fn secret() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn keeps_the_hint_readable_and_the_name_legal() {
        let bucket = name("Delivers Once (acme)", '-');
        assert!(bucket.starts_with("delivers-once-acme-"), "{bucket}");
        assert!(name(&"x".repeat(100), '_').len() <= 50);
        assert!(name("漢字", '_').starts_with("test_"));
        assert!(name("1st", '_').starts_with("test_"));
    }

    #[test]
    fn never_gives_a_name_twice() {
        assert_ne!(name("same", '-'), name("same", '-'));
    }
}
