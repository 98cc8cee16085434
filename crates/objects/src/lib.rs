//! An S3-compatible object store: URLs that let others fetch or keep one object, and the few calls that keep it tidy.
//!
//! What a store is used for is not known here. Entry type: [`ObjectStore`].

mod error;
mod http;
mod options;
mod presigned;
mod store;

pub use error::ObjectError;
pub use options::{SecretKey, StoreOptions, UrlStyle};
pub use presigned::PresignedUrl;
pub use store::{LONGEST_LIFETIME, ObjectStore, StoredObject};
