//! A database that writes to S3 by itself, by the extension `aws_s3` of Amazon Aurora and RDS, and the schema `pgexport` that
//! makes it observable.

pub mod schema;
