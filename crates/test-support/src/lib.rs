//! Fakes with real protocols, the simulator, test servers.
