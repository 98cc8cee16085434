//! What can go wrong with an object store. No text holds a URL's query.

use thiserror::Error;

/// An object store cannot be used, or not now.
#[derive(Debug, Error)]
pub enum ObjectError {
    /// It never can.
    #[error("use `{url}` as the address of an object store with the bucket `{bucket}`: {reason}")]
    Address {
        /// The address.
        url: String,
        /// The bucket.
        bucket: String,
        /// What is wrong.
        reason: String,
    },
    /// The certificates to trust are none.
    #[error("read the certificates to trust: {reason}")]
    Certificates {
        /// What is wrong.
        reason: String,
    },
    /// It did not answer.
    #[error("reach the object store `{store}`: {reason}")]
    Unreachable {
        /// Which.
        store: String,
        /// What was in the way.
        reason: String,
    },
    /// It said no.
    #[error("use the object store `{store}`: it answered {status}{code}")]
    Refused {
        /// Which.
        store: String,
        /// The status.
        status: u16,
        /// Its own word for it in brackets, if it gave one.
        code: String,
    },
    /// It said what nobody understands.
    #[error("understand the object store `{store}`: {reason}")]
    Answer {
        /// Which.
        store: String,
        /// What is odd.
        reason: String,
    },
}
