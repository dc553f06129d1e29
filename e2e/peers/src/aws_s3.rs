//! The stand-in for Amazon's extension `aws_s3`, and pgexport's own schema, in a test's database.

use tokio_postgres::Client;

use crate::{PeersError, S3, TestDatabase, error::during};

/// The stand-in, as psql would read it.
const STAND_IN: &str = include_str!("../../aws_s3/aws_s3.sql");

/// What the stand-in runs on the database's host.
const PROGRAM: &str = include_str!("../../aws_s3/upload.py");

/// The schema `pgexport`, as psql would read it.
const WRAPPER: &str = include_str!("../../../sql/pgexport.sql");

/// The advisory lock, in the database `postgres`, that is held while the schema is installed: its roles belong to the server,
/// and tests install at the same time.
pub const ROLES_LOCK: i64 = 0x7067_6578_726f_6c65;

impl TestDatabase {
    /// Installs the stand-in for `aws_s3`, which writes to `s3` as its root account, and admits `login`.
    ///
    /// # Errors
    /// PostgreSQL cannot be reached, or refuses.
    pub async fn install_aws_s3(&self, s3: &S3, login: &str) -> Result<(), PeersError> {
        let admin = self.admin().await?;
        let folder = scratch(&admin).await?;
        let role = serde_json::json!({
            "endpoint": s3.pod_endpoint(), "region": s3.region,
            "access_key": s3.admin.access_key, "secret_key": s3.admin.secret_key,
        });
        let (program, role_file) = (format!("{folder}/upload.py"), format!("{folder}/role.json"));
        write(&admin, &program, PROGRAM).await?;
        write(&admin, &role_file, &role.to_string()).await?;
        let stand_in = plain(STAND_IN)
            .replace(":'program'", &format!("'{program}'"))
            .replace(":'scratch'", &format!("'{folder}'"));
        run(&admin, "installing the stand-in for aws_s3", &stand_in).await?;
        let associate =
            format!("SELECT aws_s3_standin.associate_role('{role_file}'), aws_s3_standin.admit('{login}')");
        run(&admin, "associating the role of the stand-in for aws_s3", &associate).await
    }

    /// Installs the schema `pgexport`, and lets `login` use it.
    ///
    /// # Errors
    /// PostgreSQL cannot be reached, or refuses.
    pub async fn install_pgexport(&self, login: &str) -> Result<(), PeersError> {
        let admin = self.admin().await?;
        // In one database for all: locks belong to a database, and roles to the server.
        let server = self.server().await?;
        let lock = during("waiting for another test that installs the schema pgexport");
        server.execute("SELECT pg_advisory_lock($1)", &[&ROLES_LOCK]).await.map_err(lock)?;
        run(&admin, "installing the schema pgexport", &plain(WRAPPER)).await?;
        run(&admin, "granting the schema pgexport", &format!("GRANT pgexport_worker TO {login}")).await
    }
}

/// A folder of the server's user.
async fn scratch(admin: &Client) -> Result<String, PeersError> {
    let row = admin
        .query_one("SELECT current_setting('data_directory') || '/aws_s3'", &[])
        .await
        .map_err(during("asking for the server's folder"))?;
    let folder: String = row.get(0);
    let make = format!("COPY (SELECT WHERE false) TO PROGRAM 'mkdir -p -m 700 \"{folder}\"'");
    run(admin, "making a folder for the stand-in for aws_s3", &make).await?;
    Ok(folder)
}

/// Writes a file on the server's host. Others may do the same at the same time.
async fn write(admin: &Client, path: &str, text: &str) -> Result<(), PeersError> {
    let copy = format!(
        "COPY (SELECT replace(encode(convert_to($text${text}$text$, 'UTF8'), 'base64'), E'\\n', ''))
         TO PROGRAM 'base64 -d >\"{path}.$$\" && mv \"{path}.$$\" \"{path}\"'"
    );
    run(admin, &format!("writing {path}"), &copy).await
}

/// A script without psql's own commands.
fn plain(script: &str) -> String {
    script.lines().filter(|line| !line.trim_start().starts_with('\\')).flat_map(|line| [line, "\n"]).collect()
}

async fn run(admin: &Client, action: &str, sql: &str) -> Result<(), PeersError> {
    admin.batch_execute(sql).await.map_err(during(action))
}

#[cfg(test)]
mod tests {
    use super::{STAND_IN, WRAPPER, plain};

    #[test]
    fn psql_commands_are_gone() {
        for script in [STAND_IN, WRAPPER] {
            assert!(!plain(script).lines().any(|line| line.trim_start().starts_with('\\')));
        }
        assert_eq!(plain(STAND_IN).matches(":'program'").count(), 1);
        assert_eq!(plain(STAND_IN).matches(":'scratch'").count(), 1);
    }
}
