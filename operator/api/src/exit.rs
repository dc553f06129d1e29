//! The exit codes of workers: what Kubernetes' `podFailurePolicy` can act upon. Names and numbers follow BSD's
//! `sysexits.h` where it has them.

/// Why a worker process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitCode {
    /// All was done.
    Done = 0,
    /// The worker was called wrongly, or cannot read its order (`EX_USAGE`).
    Usage = 64,
    /// The ExportJob has to change (`EX_DATAERR`).
    Permanent = 65,
    /// It may pass; the Job may replace the pod (`EX_UNAVAILABLE`).
    Transient = 69,
    /// Something around the ExportJob has to be put right (`EX_NOPERM`).
    Environment = 77,
    /// The snapshot is gone, and the attempt with it.
    SnapshotLost = 78,
    /// Stopped by SIGTERM (128 + 15).
    Terminated = 143,
}

impl ExitCode {
    /// All codes, in the order of the reference.
    pub const ALL: &'static [Self] = &[
        Self::Done,
        Self::Usage,
        Self::Permanent,
        Self::Transient,
        Self::Environment,
        Self::SnapshotLost,
        Self::Terminated,
    ];

    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What it means, for the reference.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "All was done.",
            Self::Usage => "The worker was called wrongly, or cannot read its order. The Job fails.",
            Self::Permanent => "The ExportJob has to change. The Job fails, and so does the ExportJob.",
            Self::Transient => "It may pass. The Job replaces the pod a few times.",
            Self::Environment => {
                "Something around the ExportJob has to be put right. The Job fails; the ExportJob is Stalled and tries again."
            }
            Self::SnapshotLost => "The snapshot is gone. The Job fails; a new attempt follows.",
            Self::Terminated => "Stopped by SIGTERM. The Job replaces the pod.",
        }
    }
}
