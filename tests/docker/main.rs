//! veer beside a real Engine, both inside a namespace that plays the host.

mod provider;
mod stage;
