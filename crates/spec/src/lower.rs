//! Tree to definition.
use crate::{codes, definition::Definition, diagnostic::Sink, source::SourceFile, yaml::Node};

pub(crate) fn lower(_file: &SourceFile<'_>, root: &Node, sink: &mut Sink<'_>) -> Option<Definition> {
    sink.error(codes::SYNTAX, "", &root.head(), "pipeline files are not read yet");
    None
}
