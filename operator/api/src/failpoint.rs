//! Places at which a test lets a process stop, so that what happens there is timed by the test and not by luck. Only binaries
//! that are built with the feature `failpoints` know them; those that are released are not.

/// The annotation of an ExportJob that names the failpoint at which its reconciliation, or its workers, are to stop.
pub const ANNOTATION: &str = "pgexport.dev/failpoint";
/// The variable by which a worker is told.
pub const VARIABLE: &str = "PGEXPORT_FAILPOINT";

macro_rules! failpoints {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal;)+) => {
        /// A place at which a process stops, when it is told to: it says so in its log, and then waits for ever.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Failpoint {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Failpoint {
            /// All failpoints.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its name in the annotation and in logs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

failpoints! {
    /// Controller: the finalizer is there, and no status says so.
    FinalizerAdded = "controller-finalizer-added";
    /// Controller: a decision is in the status, and nothing of it is done.
    StatusWritten = "controller-status-written";
    /// Controller: a Job is created, and its ConfigMap is not.
    JobCreated = "controller-job-created";
    /// Controller: all of a decision is done.
    Applied = "controller-applied";
    /// Controller: everything is cleaned up, and the finalizer is there.
    FinalizerLeaving = "controller-finalizer-leaving";
    /// Worker: the snapshot is taken, and there is no plan.
    SnapshotTaken = "worker-snapshot-taken";
    /// Worker: the plan is written, and no chunk is exported.
    Planned = "worker-planned";
    /// Worker: a chunk's body is stored in the staging, and has no sidecar.
    ChunkStored = "worker-chunk-stored";
    /// Worker: all chunks are exported.
    ChunksExported = "worker-chunks-exported";
    /// Worker: all files are stored, and none is visible.
    FilesStored = "worker-files-stored";
    /// Worker: some files are visible, and others are not.
    FilePublished = "worker-file-published";
    /// Worker: all files are visible, and there is no manifest.
    FilesPublished = "worker-files-published";
    /// Worker: a former delivery's `_SUCCESS` is about to be removed.
    Replacing = "worker-replacing";
    /// Worker: there is a manifest, and no `_SUCCESS`.
    ManifestWritten = "worker-manifest-written";
    /// Worker: all is delivered, and nobody was told.
    Delivered = "worker-delivered";
    /// Worker: some of what is to be removed is removed.
    CleaningUp = "worker-cleaning-up";
}

impl Failpoint {
    /// The failpoint of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|failpoint| failpoint.as_str() == name)
    }
}
