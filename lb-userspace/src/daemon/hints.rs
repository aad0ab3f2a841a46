//! What to try on the lab.

/// Printed to stdout, because a person sits there.
const HINTS: &str = "\
veer serves its lab: a client, and three Members of the alias tg-net.
In another terminal, try:

  veer lab exec client -- curl -s http://tg-net/     the next Member answers, in turn
  veer lab exec client -- ping -c 1 tg-net           a Member answers for the virtual address
  veer groups                                        who got how many Connections
  veer connections                                   which Connection went where
  veer explain client tg-net                         what would happen next, and why
  veer status                                        how everything is

Ctrl-C stops the daemon; the lab stays (`veer lab down` removes it), and so does what the kernel
does (`veer uninstall` removes that).
";

/// Prints the hints, with the way to call this very program.
pub(super) fn print() {
    let program = std::env::args().next().unwrap_or_else(|| "veer".to_owned());
    let hints = HINTS.replace("\n  veer ", &format!("\n  {program} "));
    // A closed stdout is no reason to stop serving.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), hints.as_bytes());
}
