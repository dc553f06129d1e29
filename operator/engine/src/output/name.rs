//! File names and media types.

use pgexport_api::job::{Compression, Files, FormatType};

/// The name of a file below the delivery's path, extensions included: [`Files::name_template`] with its placeholders
/// filled in. With layout Single, `part` is 0.
#[must_use]
pub fn file_name(
    files: &Files,
    format: FormatType,
    compression: Compression,
    dataset: &str,
    part: u32,
    token: &str,
) -> String {
    let name = files
        .name_template()
        .replace("{dataset}", dataset)
        .replace("{part}", &format!("{part:05}"))
        .replace("{token}", token);
    with_extensions(&name, format.extension(), compression)
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

    use super::{file_name, media_type};

    fn files(layout: Layout, name: Option<&str>) -> Files {
        Files { layout, name: name.map(str::to_owned) }
    }

    #[test]
    fn default_names_tell_data_set_part_attempt_and_what_is_in_them() {
        let (many, single) = (files(Layout::PerChunk, None), files(Layout::Single, None));
        let names = [
            file_name(&many, FormatType::Ndjson, Compression::Zstd, "findings", 7, "0b0c1d2e-1"),
            file_name(&many, FormatType::Csv, Compression::Gzip, "findings", 8, "0b0c1d2e-1"),
            file_name(&single, FormatType::Json, Compression::None, "findings", 0, "0b0c1d2e-1"),
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
        let name = file_name(&files, FormatType::Csv, Compression::None, "a_b", 123_456, "t-2");
        assert_eq!(name, "table=a_b/a_b.123456.t-2.csv");
    }

    #[test]
    fn the_outermost_layer_names_the_media_type() {
        assert_eq!(media_type(FormatType::Csv, Compression::None), "text/csv");
        assert_eq!(media_type(FormatType::Csv, Compression::Gzip), "application/gzip");
    }
}
