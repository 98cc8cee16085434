//! Verifies and parses webhook deliveries.
