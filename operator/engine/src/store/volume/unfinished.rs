//! The hidden names of files that are not finished: `.pgexport-{name}-{random}.tmp`, where `name` is what the file will be
//! called. So whoever finds one that was left behind knows whose it is.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

/// The dot hides them from `ls`, Spark and Athena.
const PREFIX: &str = ".pgexport-";

const SUFFIX: &str = ".tmp";

/// How many random letters and digits a name has.
const RANDOM: usize = 12;

/// The longest name of a file, in bytes: Linux's `NAME_MAX`.
const NAME_MAX: usize = 255;

/// How many bytes of a file's own name fit.
const ROOM: usize = NAME_MAX - PREFIX.len() - 1 - RANDOM - SUFFIX.len();

/// Finished files may be read by all, as far as the umask allows.
const MODE: u32 = 0o664;

/// Makes a hidden file for what will be called `name`. Of a name that is too long it tells the end, where the token
/// mostly is.
pub(super) fn create(folder: &Path, name: &str) -> io::Result<NamedTempFile> {
    let end = &name[name.ceil_char_boundary(name.len().saturating_sub(ROOM))..];
    tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{end}-"))
        .suffix(SUFFIX)
        .rand_bytes(RANDOM)
        .permissions(Permissions::from_mode(MODE))
        .tempfile_in(folder)
}

/// Whether a file's name is that of an unfinished one.
pub(super) fn is_hidden(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// What an unfinished file will be called; `None` for any other file.
pub(super) fn name_of(hidden: &str) -> Option<&str> {
    let (name, random) = hidden.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.rsplit_once('-')?;
    (random.len() == RANDOM && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_name_tells_what_the_file_will_be_called() {
        let folder = tempfile::tempdir().unwrap();
        let long = format!("{}-0b0c1d2e-1.json", "x".repeat(NAME_MAX - 16));
        for (name, told) in [
            ("a-b-0b0c1d2e-1.json", "a-b-0b0c1d2e-1.json"),
            ("grün", "grün"),
            (&long, &long[long.len() - ROOM..]),
        ] {
            let file = create(folder.path(), name).unwrap();
            let hidden = file.path().file_name().unwrap().to_str().unwrap();
            assert!(is_hidden(hidden) && hidden.len() <= NAME_MAX);
            assert_eq!(name_of(hidden), Some(told));
        }
        for other in
            ["a.json", ".pgexport-abcdefghijkl.tmp", ".pgexport-a-abc.tmp", ".pgexport--abcdefghijkl.tmp"]
        {
            assert_eq!(name_of(other), None, "{other}");
        }
    }
}
