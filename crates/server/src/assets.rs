//! Style sheet, icons and scripts, built into the program; a page names them with their digest, so they may be kept.

use std::sync::LazyLock;

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use pipekeeper_model::Digest;

use crate::{error::ApiError, extract::ApiPath};

const FILES: [(&str, &str, &str); 5] = [
    (
        "pipe.css",
        "text/css; charset=utf-8",
        include_str!("../assets/pipe.css"),
    ),
    (
        "live.js",
        "text/javascript; charset=utf-8",
        include_str!("../assets/live.js"),
    ),
    (
        "log.js",
        "text/javascript; charset=utf-8",
        include_str!("../assets/log.js"),
    ),
    ("icon.svg", "image/svg+xml", include_str!("../assets/icon.svg")),
    ("marks.svg", "image/svg+xml", include_str!("../assets/marks.svg")),
];

/// Changes with any of the files.
pub(crate) static VERSION: LazyLock<String> = LazyLock::new(|| {
    let all: String = FILES.iter().map(|(_, _, text)| *text).collect();
    Digest::of(all.as_bytes()).to_short()
});

/// `GET /assets/{file}`
pub(crate) async fn serve(ApiPath(name): ApiPath<String>) -> Result<Response, ApiError> {
    let (_, kind, text) = FILES
        .iter()
        .find(|(known, _, _)| *known == name)
        .ok_or_else(|| ApiError::not_found("there is no such file"))?;
    let headers = [
        (header::CONTENT_TYPE, *kind),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    Ok((headers, *text).into_response())
}
