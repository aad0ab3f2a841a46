//! What every test stands on: namespaces, packets, an Engine, deadlines.
pub mod object;
pub mod packets;
