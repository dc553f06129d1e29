//! File names.

use pgexport_api::job::{Files, FormatType};

/// The name of a file below the delivery's path, extension included: [`Files::name_template`] with its placeholders
/// filled in. With layout Single, `part` is 0.
#[must_use]
pub fn file_name(files: &Files, format: FormatType, dataset: &str, part: u32, token: &str) -> String {
    let name = files
        .name_template()
        .replace("{dataset}", dataset)
        .replace("{part}", &format!("{part:05}"))
        .replace("{token}", token);
    format!("{name}.{}", format.extension())
}

#[cfg(test)]
mod tests {
    use pgexport_api::job::{Files, FormatType, Layout};

    use super::file_name;

    fn files(layout: Layout, name: Option<&str>) -> Files {
        Files { layout, name: name.map(str::to_owned) }
    }

    #[test]
    fn default_names_tell_data_set_part_and_attempt() {
        let names = [
            file_name(&files(Layout::PerChunk, None), FormatType::Ndjson, "findings", 7, "0b0c1d2e-1"),
            file_name(&files(Layout::Single, None), FormatType::Json, "findings", 0, "0b0c1d2e-1"),
        ];
        assert_eq!(names, ["findings-00007-0b0c1d2e-1.ndjson", "findings-0b0c1d2e-1.json"]);
    }

    #[test]
    fn templates_may_have_folders_and_repeat_placeholders() {
        let files = files(Layout::PerChunk, Some("table={dataset}/{dataset}.{part}.{token}"));
        let name = file_name(&files, FormatType::Csv, "a_b", 123_456, "t-2");
        assert_eq!(name, "table=a_b/a_b.123456.t-2.csv");
    }
}
