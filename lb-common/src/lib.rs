//! lb-common
#![no_std]
