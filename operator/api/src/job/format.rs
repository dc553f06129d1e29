//! The files' format, compression, layout and names.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::size::{ByteSize, at_most, size};

/// The files' format.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.csv) || self.type == 'CSV'").message("format.csv goes with type CSV only"),
    validation = Rule::new("!has(self.parquet) || self.type == 'Parquet'").message("format.parquet goes with type Parquet only"),
)]
pub struct Format {
    /// JSON: each file is one array of objects. NDJSON: an object a line. CSV: as PostgreSQL's COPY writes it. Parquet: a
    /// column a column of the result.
    #[serde(rename = "type")]
    pub format_type: FormatType,
    /// For type CSV.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<Csv>,
    /// For type Parquet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parquet: Option<Parquet>,
}

/// See [`Format::format_type`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "described where they are used; doc comments here would turn the schema's enum into oneOf"
)]
#[serde(rename_all = "UPPERCASE")]
pub enum FormatType {
    Json,
    Ndjson,
    Csv,
    #[serde(rename = "Parquet")]
    Parquet,
}

impl FormatType {
    /// The file name's extension, without a dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }

    /// The media type that objects get.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

/// How files are compressed, each as a whole.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "described where they are used; doc comments here would turn the schema's enum into oneOf"
)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// What a file's name ends in, after the format's extension, without a dot.
    #[must_use]
    pub const fn extension(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gz"),
            Self::Zstd => Some("zst"),
        }
    }

    /// The media type of compressed files (RFC 6713, RFC 8878). They get no Content-Encoding: some clients would decompress
    /// them unasked, and they would not be what the manifest says.
    #[must_use]
    pub const fn media_type(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("application/gzip"),
            Self::Zstd => Some("application/zstd"),
        }
    }
}

/// The options of PostgreSQL's `COPY … (FORMAT csv)`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.delimiter) || !has(self.quote) || self.delimiter != self.quote").message("csv: delimiter and quote must differ"),
)]
pub struct Csv {
    /// Whether each file begins with the columns' names.
    #[serde(default = "yes")]
    pub header: bool,
    /// What stands between fields: one single-byte character. Default: a comma.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1), regex(pattern = r"^[\x09\x20-\x7E]$"))]
    pub delimiter: Option<String>,
    /// What stands around fields that need it: one single-byte character. Default: a double quote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1), regex(pattern = r"^[\x20-\x7E]$"))]
    pub quote: Option<String>,
    /// What stands before a quote inside of a field: one single-byte character. Default: the quote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1), regex(pattern = r"^[\x20-\x7E]$"))]
    pub escape: Option<String>,
    /// What stands for NULL. Default: nothing, without quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[^\r\n]*$"))]
    pub null: Option<String>,
    /// Columns whose values are always quoted; `["*"]` for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1600), inner(length(min = 1, max = 63)))]
    pub force_quote: Vec<String>,
}

impl Default for Csv {
    fn default() -> Self {
        Self { header: true, delimiter: None, quote: None, escape: None, null: None, force_quote: Vec::new() }
    }
}

fn yes() -> bool {
    true
}

/// The options of Parquet files.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Parquet {
    /// How pages are compressed.
    #[serde(default)]
    pub compression: ParquetCompression,
    /// About how many bytes a row group has, compressed. An exporting pod needs memory for `chunking.parallelism` of them.
    #[serde(default = "default_row_group_bytes")]
    #[schemars(schema_with = "size", extend("x-kubernetes-validations" = [at_most("format.parquet.rowGroupBytes", ByteSize::mebibytes(1024))]))]
    pub row_group_bytes: ByteSize,
}

impl Default for Parquet {
    fn default() -> Self {
        Self { compression: ParquetCompression::default(), row_group_bytes: default_row_group_bytes() }
    }
}

fn default_row_group_bytes() -> ByteSize {
    ByteSize::mebibytes(8)
}

/// See [`Parquet::compression`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "described where they are used; doc comments here would turn the schema's enum into oneOf"
)]
pub enum ParquetCompression {
    Snappy,
    #[default]
    Zstd,
}

/// How rows are laid out in files, and the files' names.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.name) || self.layout != 'PerChunk' || self.name.contains('{part}')").message("files.name: name {part}, or the files of a data set would overwrite one another"),
    validation = Rule::new("!has(self.name) || self.layout != 'Single' || !self.name.contains('{value}')").message("files.name: {value} is a chunk's, and goes with layout PerChunk"),
)]
pub struct Files {
    /// PerChunk: a file a chunk. Single: a data set as one file.
    #[serde(default)]
    pub layout: Layout,
    /// The files' names, without extension. Placeholders: `{dataset}`, `{part}` (the chunk's number in its data set, from
    /// 00000) and `{token}` (unique to this attempt of this ExportJob); with chunking strategy Values also `{value}`, as in
    /// `day={value}/{dataset}-{part}-{token}`: the value as PostgreSQL writes it, with the escapes of Hive, Spark and DuckDB.
    /// Default: `{dataset}-{part}-{token}`, and for layout Single `{dataset}-{token}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[A-Za-z0-9._={}-]+(/[A-Za-z0-9._={}-]+)*$"))]
    #[x_kube(
        validation = Rule::new("self.contains('{token}')").message("files.name: name {token}, so that no attempt overwrites another one's files"),
        validation = Rule::new("!self.contains('{token}') || self.matches('(^|[^0-9A-Za-z}])[{]token[}]($|[^0-9A-Za-z{])')").message("files.name: set {token} off from what is beside it by '-', '_', '.', '=' or '/', so that a cleanup knows the files of its own run"),
        validation = Rule::new("self.contains('{dataset}')").message("files.name: name {dataset}, or the files of data sets would overwrite one another"),
        validation = Rule::new("!('..' in self.split('/')) && !('.' in self.split('/'))").message("files.name: without '.' and '..'")
    )]
    pub name: Option<String>,
}

impl Files {
    /// Whether files are named by the values of their chunks.
    #[must_use]
    pub fn names_value(&self) -> bool {
        self.name_template().contains("{value}")
    }

    /// The files' name template, the default included.
    #[must_use]
    pub fn name_template(&self) -> &str {
        match (&self.name, self.layout) {
            (Some(name), _) => name,
            (None, Layout::PerChunk) => "{dataset}-{part}-{token}",
            (None, Layout::Single) => "{dataset}-{token}",
        }
    }
}

/// See [`Files::layout`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "described where they are used; doc comments here would turn the schema's enum into oneOf"
)]
pub enum Layout {
    #[default]
    PerChunk,
    Single,
}
