//! What every test stands on: namespaces, packets, an Engine, deadlines.
