//! The stable codes and their pages. A code is never given another meaning; a retired one is not used again.

use crate::diagnostic::Code;

macro_rules! codes {
    ($($name:ident = $code:literal;)*) => {
        $(pub(crate) const $name: Code = Code($code);)*
        const PAGES: &[(&str, &str)] = &[$(($code, include_str!(concat!("../codes/", $code, ".md")))),*];
    };
}

codes! {
    SYNTAX = "PK0001";
    LIMIT = "PK0002";
    DUPLICATE_KEY = "PK0003";
    MERGE_KEY = "PK0004";
    TAG = "PK0005";
    DOCUMENTS = "PK0006";
    NUL = "PK0007";
    UNKNOWN_KEY = "PK0010";
    WRONG_TYPE = "PK0011";
    MISSING_KEY = "PK0012";
    MISSING_VALUE = "PK0013";
    UNKNOWN_WORD = "PK0014";
    OUT_OF_RANGE = "PK0015";
    BAD_NAME = "PK0020";
    BAD_DURATION = "PK0021";
    BAD_GLOB = "PK0022";
    BAD_TIME = "PK0023";
    BAD_TIMEZONE = "PK0024";
    BAD_CRON = "PK0025";
    BAD_QUANTITY = "PK0026";
    BAD_PATH = "PK0027";
    BAD_VARIABLE = "PK0028";
    BAD_CREDENTIAL = "PK0029";
    NO_KIND = "PK0030";
    SEVERAL_KINDS = "PK0031";
    MISPLACED_KEY = "PK0032";
    DUPLICATE_NAME = "PK0033";
    UNKNOWN_NEED = "PK0034";
    CYCLE = "PK0035";
    UNKNOWN_CACHE = "PK0036";
    UNKNOWN_ARTIFACT = "PK0037";
    FINALLY = "PK0038";
    KEYS_TOGETHER = "PK0039";
    MATRIX = "PK0040";
    TOO_MANY_NODES = "PK0041";
    TOO_DEEP = "PK0042";
    NOTHING_BUILT = "PK0043";
    REUSE = "PK0044";
    LOCK_CYCLE = "PK0046";
    TEMPLATE_IN_SCRIPT = "PK0050";
    TEMPLATE_NOT_ALLOWED = "PK0051";
    BAD_EXPRESSION = "PK0052";
    EXPRESSION_TYPE = "PK0053";
    PLAN_TIME = "PK0054";
    NOT_BEFORE = "PK0055";
    UNKNOWN_ACTION = "PK0056";
    ONE_VALUE = "PK0057";
    NOT_A_CONDITION = "PK0058";
    BAD_DEFAULT = "PK0060";
    UNKNOWN_KIND = "PK0070";
    SAME_DOCUMENT = "PK0071";
    UNKNOWN_DOCUMENT = "PK0072";
    DOCUMENT_CYCLE = "PK0073";
    BAD_APPROVER = "PK0074";
    BAD_WINDOW = "PK0075";
    BAD_ADDRESS = "PK0076";
    BAD_PLACEHOLDER = "PK0077";
    NOT_SETTABLE = "PK0078";
    NOBODY = "PK0079";
    UNUSED_CACHE = "PK0101";
    IDLE_TRIGGER = "PK0102";
}

/// The page of a code: what happened, an example and what to do.
pub fn explain(code: &str) -> Option<&'static str> {
    let wanted = code.trim().to_ascii_uppercase();
    let digits = wanted.strip_prefix("PK").unwrap_or(&wanted);
    let wanted = format!("PK{digits:0>4}");
    PAGES
        .iter()
        .find_map(|(known, page)| (*known == wanted).then_some(*page))
}

/// Every code, in order.
pub fn codes() -> impl Iterator<Item = &'static str> {
    PAGES.iter().map(|(code, _)| *code)
}
