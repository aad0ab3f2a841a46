//! `veer`: the daemon, and the verbs that ask it.

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::Parser;
use lb_userspace::cli::{Cli, Exit};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = run(cli);
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            let exit = Exit::of(&error);
            if exit != Exit::Ok {
                eprintln!("veer: {error:#}");
            }
            exit.into()
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<Exit> {
    cli.prepare();
    // One for what is heard, beside this one for what is done about it: a piece of news that several threads
    // hand to each other waits for a processor each time.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut out = stdout().lock();
    let exit = runtime.block_on(cli.run(&mut out))?;
    out.flush()?;
    Ok(exit)
}
