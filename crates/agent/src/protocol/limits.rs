//! How much one attempt may leave behind. A supervisor keeps to it; a controller does not believe that.

use serde::{Deserialize, Serialize};

/// Test reports that are kept.
pub const MAX_REPORTS: usize = 1000;
/// Bytes of one test report.
pub const MAX_REPORT_BYTES: u64 = 32 << 20;
/// Bytes of all test reports.
pub const MAX_ALL_REPORTS: u64 = 128 << 20;
/// Outputs, however large.
pub const MAX_OUTPUTS: usize = 256;
/// Bytes of all outputs.
pub const MAX_OUTPUT_BYTES: u64 = 64 << 20;

/// What the owner of the place sets where files are kept; nothing by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLimits {
    /// Bytes of the archive of one artifact.
    pub artifact: u64,
    /// Bytes of the archive of one cache.
    pub cache: u64,
}

impl Default for FileLimits {
    fn default() -> Self {
        Self {
            artifact: u64::MAX,
            cache: u64::MAX,
        }
    }
}
