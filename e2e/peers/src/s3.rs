//! The S3 peer as tests use it: buckets and accounts of one's own, and what is in them.

use std::{net::SocketAddr, path::PathBuf};

use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
    error::SdkError,
};
use aws_smithy_http_client::{Builder, Connector};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::{PeersError, unique};

/// Who sends requests.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Account {
    /// The access key id, which is also the account's name.
    pub access_key: String,
    /// The secret access key.
    pub secret_key: String,
}

/// Where the S3 server is, and its root account. It speaks plain HTTP and path-style addresses.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct S3 {
    /// The address for processes of this machine.
    pub host: SocketAddr,
    /// The address for pods.
    pub pod: SocketAddr,
    /// The region that requests are signed for.
    pub region: String,
    /// The root account, which may do everything.
    pub admin: Account,
    /// The server's program, which is also its admin tool.
    pub program: PathBuf,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// Its key.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// Its `ETag`.
    pub tag: String,
    /// When it was written.
    pub written: String,
}

/// A multipart upload that was neither completed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenUpload {
    /// The key it would have become.
    pub key: String,
    /// Its id.
    pub upload_id: String,
}

/// What an account may do in a bucket that grants only writing, for [`S3::allow`].
pub const WRITE_ONLY: [&str; 2] = ["s3:PutObject", "s3:AbortMultipartUpload"];

impl S3 {
    /// The endpoint for processes of this machine.
    #[must_use]
    pub fn host_endpoint(&self) -> String {
        format!("http://{}", self.host)
    }

    /// The endpoint for pods.
    #[must_use]
    pub fn pod_endpoint(&self) -> String {
        format!("http://{}", self.pod)
    }

    /// A client with the root account.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client_as(&self.admin)
    }

    /// A client with the given account.
    #[must_use]
    pub fn client_as(&self, account: &Account) -> Client {
        let http = Builder::new().build_with_connector_fn(|settings, _| {
            let mut connector = Connector::builder();
            connector.set_connector_settings(settings.cloned());
            connector.build_http()
        });
        Client::from_conf(
            aws_sdk_s3::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .endpoint_url(self.host_endpoint())
                .force_path_style(true)
                .region(Region::new(self.region.clone()))
                .credentials_provider(Credentials::new(
                    &account.access_key,
                    &account.secret_key,
                    None,
                    None,
                    "peers",
                ))
                .http_client(http)
                .build(),
        )
    }

    /// Makes a bucket with a unique name that begins with `hint`. It belongs to the root account.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub async fn create_bucket(&self, hint: &str) -> Result<String, PeersError> {
        let bucket = unique::name(hint, '-');
        let created = self.client().create_bucket().bucket(&bucket).send().await;
        created.map_err(|error| failed(format!("creating the bucket {bucket}"), error))?;
        Ok(bucket)
    }

    /// Makes the bucket unless it exists. It belongs to the root account.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub async fn ensure_bucket(&self, bucket: &str) -> Result<(), PeersError> {
        let created = self.client().create_bucket().bucket(bucket).send().await;
        let is_there =
            created.as_ref().err().and_then(SdkError::as_service_error).is_some_and(|error| {
                error.is_bucket_already_owned_by_you() || error.is_bucket_already_exists()
            });
        if !is_there {
            created.map_err(|error| failed(format!("creating the bucket {bucket}"), error))?;
        }
        Ok(())
    }

    /// The objects whose keys begin with `prefix`, by key.
    ///
    /// # Errors
    /// There is no such bucket, or the server cannot be reached.
    pub async fn list(&self, bucket: &str, prefix: &str) -> Result<Vec<StoredObject>, PeersError> {
        let mut objects = Vec::new();
        let mut pages = self.client().list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failed(format!("listing {bucket}/{prefix}"), error))?;
            objects.extend(page.contents.unwrap_or_default().into_iter().map(|object| StoredObject {
                key: object.key.unwrap_or_default(),
                bytes: object.size.and_then(|size| size.try_into().ok()).unwrap_or_default(),
                tag: object.e_tag.unwrap_or_default(),
                written: object.last_modified.map(|time| time.to_string()).unwrap_or_default(),
            }));
        }
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    /// A whole object.
    ///
    /// # Errors
    /// There is no such object, or reading broke off.
    pub async fn get(&self, bucket: &str, key: &str) -> Result<Vec<u8>, PeersError> {
        let object = self.client().get_object().bucket(bucket).key(key).send().await;
        let object = object.map_err(|error| failed(format!("reading {bucket}/{key}"), error))?;
        let body = object.body.collect().await.map_err(|error| PeersError::Body {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            source: error.into(),
        })?;
        Ok(body.to_vec())
    }

    /// The multipart uploads that are in progress or were left behind, by key.
    ///
    /// # Errors
    /// There is no such bucket, or the server cannot be reached.
    pub async fn open_uploads(&self, bucket: &str) -> Result<Vec<OpenUpload>, PeersError> {
        let client = self.client();
        let mut uploads = Vec::new();
        let (mut key, mut id) = (None, None);
        loop {
            let page = client.list_multipart_uploads().bucket(bucket);
            let page = page.set_key_marker(key).set_upload_id_marker(id).send().await;
            let page =
                page.map_err(|error| failed(format!("listing the open uploads of {bucket}"), error))?;
            uploads.extend(page.uploads.unwrap_or_default().into_iter().map(|upload| OpenUpload {
                key: upload.key.unwrap_or_default(),
                upload_id: upload.upload_id.unwrap_or_default(),
            }));
            (key, id) = (page.next_key_marker, page.next_upload_id_marker);
            if page.is_truncated != Some(true) || key.is_none() {
                break;
            }
        }
        uploads.sort_by(|a, b| (&a.key, &a.upload_id).cmp(&(&b.key, &b.upload_id)));
        Ok(uploads)
    }

    /// Makes an account that owns no bucket and may touch only what it is given: see [`S3::give_bucket`] and
    /// [`S3::allow`].
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub async fn create_account(&self, hint: &str) -> Result<Account, PeersError> {
        let account = Account { access_key: unique::name(hint, '-'), secret_key: unique::secret() };
        let (access, secret) = (&account.access_key, &account.secret_key);
        let arguments = ["create-user", "--access", access, "--secret", secret, "--role", "user"];
        self.admin_tool(format!("creating the account {access}"), &arguments).await?;
        Ok(account)
    }

    /// Makes `account` the owner of `bucket`.
    ///
    /// # Errors
    /// There is no such bucket or account.
    pub async fn give_bucket(&self, bucket: &str, account: &Account) -> Result<(), PeersError> {
        let arguments = ["change-bucket-owner", "--bucket", bucket, "--owner", &account.access_key];
        self.admin_tool(format!("giving {bucket} to {}", account.access_key), &arguments).await
    }

    /// Lets `account` do these actions in `bucket`, and nothing else. It takes the place of what others were let do there.
    ///
    /// # Errors
    /// There is no such bucket or account, or the server cannot be reached.
    pub async fn allow(&self, bucket: &str, account: &Account, actions: &[&str]) -> Result<(), PeersError> {
        let policy = serde_json::json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow",
                "Principal": {"AWS": [account.access_key]},
                "Action": actions,
                "Resource": [format!("arn:aws:s3:::{bucket}"), format!("arn:aws:s3:::{bucket}/*")],
            }],
        });
        let put = self.client().put_bucket_policy().bucket(bucket).policy(policy.to_string()).send().await;
        put.map_err(|error| failed(format!("letting {} into {bucket}", account.access_key), error))?;
        Ok(())
    }

    async fn admin_tool(&self, action: String, arguments: &[&str]) -> Result<(), PeersError> {
        let output = Command::new(&self.program)
            .args(["admin", "--region", &self.region, "--endpoint-url", &self.host_endpoint()])
            .args(arguments)
            .env("ADMIN_ACCESS_KEY", &self.admin.access_key)
            .env("ADMIN_SECRET_KEY", &self.admin.secret_key)
            .output()
            .await
            .map_err(|source| PeersError::AdminTool { program: self.program.clone(), source })?;
        if output.status.success() {
            return Ok(());
        }
        let printed = [output.stdout, output.stderr].concat();
        Err(PeersError::Admin { action, output: String::from_utf8_lossy(&printed).trim().to_owned() })
    }
}

fn failed<E, R>(action: String, error: SdkError<E, R>) -> PeersError
where
    aws_sdk_s3::Error: From<SdkError<E, R>>,
{
    PeersError::S3 { action, source: Box::new(error.into()) }
}
