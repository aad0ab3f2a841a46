//! veer control plane.
