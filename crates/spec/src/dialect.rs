//! What is read, where the words for it differ: a pipeline, or documents.

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// One pipeline.
    Pipeline,
    /// Documents, one after the other.
    Documents,
}

impl Dialect {
    pub(crate) fn how_to_split(self) -> &'static str {
        match self {
            Self::Pipeline => "split the pipeline into several files; each file of the folder is a pipeline",
            Self::Documents => "move some of the documents into another file",
        }
    }

    pub(crate) fn how_to_begin(self) -> &'static str {
        match self {
            Self::Pipeline => {
                "write at least `actions:` with a list of entries; `pipe init` writes a first file"
            }
            Self::Documents => {
                "write a document: `kind:`, `name:` and the keys that `pipe explain KIND` shows"
            }
        }
    }

    pub(crate) fn how_to_do_without_merge_keys(self) -> &'static str {
        match self {
            Self::Pipeline => {
                "repeat the keys, move them to the group or pipeline around, or use an anchor for one whole value"
            }
            Self::Documents => "repeat the keys, or use an anchor for one whole value",
        }
    }

    pub(crate) fn refuses_tags(self) -> &'static str {
        match self {
            Self::Pipeline => "tags have no meaning in a pipeline file",
            Self::Documents => "tags have no meaning in a document",
        }
    }

    pub(crate) fn where_expressions_stand(self) -> &'static str {
        match self {
            Self::Pipeline => {
                "expressions stand in `if`, and as `${{ }}` in `env`, `with`, `args`, `images`, `image` and the like"
            }
            Self::Documents => {
                "documents hold no expressions; `${{ project }}` and the like stand where `pipe explain KIND` says so"
            }
        }
    }
}
