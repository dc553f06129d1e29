//! File names and media types.

use std::fmt::Write as _;

use pgexport_api::job::{Compression, Files, FormatType};

/// The name of a file below the delivery's path, extensions included: [`Files::name_template`] with its placeholders
/// filled in. With layout Single, `part` is 0. `value` is that of the chunk, where it has one.
#[must_use]
pub fn file_name(
    files: &Files,
    format: FormatType,
    compression: Compression,
    dataset: &str,
    part: u32,
    value: Option<&str>,
    token: &str,
) -> String {
    // The value last: what looks like a placeholder in it is none.
    let name = files
        .name_template()
        .replace("{dataset}", dataset)
        .replace("{part}", &format!("{part:05}"))
        .replace("{token}", token)
        .replace("{value}", &partition_value(value));
    with_extensions(&name, format.extension(), compression)
}

/// What stands for NULL and for the empty text.
const DEFAULT_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// A value in a path, as Hive and Spark write it and DuckDB and Arrow read it: what means something in paths, and what is not
/// printed, becomes `%` and two digits. (`FileUtils.escapePathName` in Hive, `ExternalCatalogUtils.escapePathName` in Spark.)
fn partition_value(value: Option<&str>) -> String {
    let value = match value {
        None | Some("") => return DEFAULT_PARTITION.to_owned(),
        // A folder of such a name would be another one.
        Some("." | "..") => return value.unwrap_or_default().replace('.', "%2E"),
        Some(value) => value,
    };
    let mut escaped = String::with_capacity(value.len());
    for char in value.chars() {
        if char.is_ascii_control() || "\"#%'*/:=?\\{[]^".contains(char) {
            // Writing to a text cannot fail.
            let _ = write!(escaped, "%{:02X}", u32::from(char));
        } else {
            escaped.push(char);
        }
    }
    escaped
}

/// A name with the extensions of a format and of a compression.
#[must_use]
pub fn with_extensions(name: &str, format: &str, compression: Compression) -> String {
    match compression.extension() {
        None => format!("{name}.{format}"),
        Some(compression) => format!("{name}.{format}.{compression}"),
    }
}

/// The media type that files get.
#[must_use]
pub fn media_type(format: FormatType, compression: Compression) -> &'static str {
    compression.media_type().unwrap_or_else(|| format.media_type())
}

#[cfg(test)]
mod tests {
    use pgexport_api::job::{Compression, Files, FormatType, Layout};

    use proptest::prelude::*;

    use super::{file_name, media_type, partition_value};

    fn files(layout: Layout, name: Option<&str>) -> Files {
        Files { layout, name: name.map(str::to_owned) }
    }

    #[test]
    fn default_names_tell_data_set_part_attempt_and_what_is_in_them() {
        let (many, single) = (files(Layout::PerChunk, None), files(Layout::Single, None));
        let names = [
            file_name(&many, FormatType::Ndjson, Compression::Zstd, "findings", 7, None, "0b0c1d2e-1"),
            file_name(&many, FormatType::Csv, Compression::Gzip, "findings", 8, None, "0b0c1d2e-1"),
            file_name(&single, FormatType::Json, Compression::None, "findings", 0, None, "0b0c1d2e-1"),
        ];
        assert_eq!(
            names,
            [
                "findings-00007-0b0c1d2e-1.ndjson.zst",
                "findings-00008-0b0c1d2e-1.csv.gz",
                "findings-0b0c1d2e-1.json"
            ]
        );
    }

    #[test]
    fn templates_may_have_folders_and_repeat_placeholders() {
        let files = files(Layout::PerChunk, Some("table={dataset}/{dataset}.{part}.{token}"));
        let name = file_name(&files, FormatType::Csv, Compression::None, "a_b", 123_456, None, "t-2");
        assert_eq!(name, "table=a_b/a_b.123456.t-2.csv");
    }

    #[test]
    fn values_are_escaped_as_hive_does() {
        for (value, escaped) in [
            (Some("2026-11-25"), "2026-11-25"),
            (Some("2026-11-25 10:00:00+00"), "2026-11-25 10%3A00%3A00+00"),
            (Some("a/b=c%d"), "a%2Fb%3Dc%25d"),
            (Some("\"#'*?\\{[]^}"), "%22%23%27%2A%3F%5C%7B%5B%5D%5E}"),
            (Some("größe\n\u{7f}"), "größe%0A%7F"),
            (Some(".."), "%2E%2E"),
            (Some("."), "%2E"),
            (Some("..."), "..."),
            (Some(""), "__HIVE_DEFAULT_PARTITION__"),
            (None, "__HIVE_DEFAULT_PARTITION__"),
        ] {
            assert_eq!(partition_value(value), escaped, "{value:?}");
        }
        let files = files(Layout::PerChunk, Some("day={value}/{dataset}-{part}-{token}"));
        let name = file_name(&files, FormatType::Csv, Compression::None, "d", 3, Some("{token}/.."), "t-1");
        assert_eq!(name, "day=%7Btoken}%2F../d-00003-t-1.csv");
    }

    proptest! {
        #[test]
        fn a_value_is_one_name_that_tells_it(value in "\\PC{1,20}|[./%=: \n]{1,6}") {
            let escaped = partition_value(Some(&value));
            prop_assert!(!escaped.contains('/') && escaped != "." && escaped != "..");
            let mut read = Vec::new();
            let mut rest = escaped.as_bytes();
            while let Some((byte, after)) = rest.split_first() {
                let digits = after.get(..2).filter(|_| *byte == b'%');
                let digits = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
                read.push(digits.unwrap_or(*byte));
                rest = if digits.is_some() { &after[2..] } else { after };
            }
            prop_assert_eq!(String::from_utf8(read).unwrap(), value);
        }
    }

    #[test]
    fn the_outermost_layer_names_the_media_type() {
        assert_eq!(media_type(FormatType::Csv, Compression::None), "text/csv");
        assert_eq!(media_type(FormatType::Csv, Compression::Gzip), "application/gzip");
    }
}
