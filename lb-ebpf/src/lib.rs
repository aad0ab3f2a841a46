//! lb-ebpf
#![no_std]
