//! Formats and their options.

use super::Refusal;
use crate::job::{Compression, ExportJobSpec, FormatType};
use crate::reason::Reason;

/// What the CRD's rules say of the format too.
pub(super) fn check_format(job: &ExportJobSpec) -> Result<(), Refusal> {
    let invalid = |message: &str| Err(Refusal::new(Reason::InvalidSpec, message));
    let format = &job.format;
    if format.csv.is_some() && format.format_type != FormatType::Csv {
        return invalid("format.csv goes with type CSV only");
    }
    if format.parquet.is_some() && format.format_type != FormatType::Parquet {
        return invalid("format.parquet goes with type Parquet only");
    }
    if format.format_type == FormatType::Parquet && job.compression != Compression::None {
        return invalid(
            "compression: leave it out with Parquet, whose pages are compressed: see format.parquet.compression",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::refuses;
    use super::*;

    #[test]
    fn options_go_with_their_format() {
        refuses([
            (json!({"format": {"csv": {}}}), None, Reason::InvalidSpec, "format.csv goes with"),
            (json!({"format": {"parquet": {}}}), None, Reason::InvalidSpec, "format.parquet goes with"),
            (
                json!({"format": {"type": "Parquet"}, "compression": "Gzip"}),
                None,
                Reason::InvalidSpec,
                "format.parquet.compression",
            ),
        ]);
    }
}
