//! Git mirrors, trees, archives and working-tree snapshots.
