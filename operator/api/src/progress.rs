//! What a worker says while it works: the answer of `GET /progress`. Counters only.

use serde::{Deserialize, Serialize};

/// The port of a worker's HTTP endpoint.
pub const PORT: u16 = 8080;
/// The path of [`WorkerProgress`].
pub const PATH: &str = "/progress";
/// No answer is longer than this.
pub const MAX_BYTES: usize = 4096;

/// One worker's counters.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WorkerProgress {
    /// Chunks of the whole run, as soon as they are planned.
    pub chunks: u32,
    /// Chunks that this worker has exported.
    pub chunks_exported: u32,
    /// Chunks that this worker has transferred.
    pub chunks_transferred: u32,
    /// Rows that this worker has exported.
    pub rows: u64,
    /// Bytes that this worker has exported.
    pub bytes: u64,
}

/// Bytes for people, as Kubernetes writes quantities: `1.2Gi`.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if bytes < 1024 {
        return bytes.to_string();
    }
    let mut unit = 0;
    let mut scaled = u128::from(bytes) * 10 / 1024;
    while scaled >= 10_240 && unit + 1 < UNITS.len() {
        scaled /= 1024;
        unit += 1;
    }
    if scaled < 100 {
        format!("{}.{}{}", scaled / 10, scaled % 10, UNITS[unit])
    } else {
        format!("{}{}", scaled / 10, UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::human_bytes;

    #[test]
    fn bytes_are_written_as_kubernetes_writes_quantities() {
        let cases = [
            (0, "0"),
            (1023, "1023"),
            (1024, "1.0Ki"),
            (1536, "1.5Ki"),
            (10 * 1024, "10Ki"),
            (1024 * 1024 - 1, "1023Ki"),
            (1024 * 1024, "1.0Mi"),
            (5 << 30, "5.0Gi"),
            (u64::MAX, "15Ei"),
        ];
        for (bytes, wanted) in cases {
            assert_eq!(human_bytes(bytes), wanted, "{bytes}");
        }
    }
}
