//! The Backend trait, its contract suite, and the local and scripted backends.
