//! The provider against answers that are written down, and against an Engine that is made up.

mod fake;
mod following;
mod glimpses;
mod samples;
mod stories;
