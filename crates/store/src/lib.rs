//! The Store trait and its databases.
