//! Real traffic between network namespaces on one bridge, with the real programs.

mod bridge;
