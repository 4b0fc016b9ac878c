//! `remora-server`: the Linux body of Remora. Sockets, clock and devices; knows no command.
//!
//! Refuses to start with anything it does not understand: one line on standard error, and exit code 1.
#![forbid(unsafe_code)]

mod admin;
mod body;
mod clock;
mod connection;
mod driver;
mod listen;
mod options;
mod process;
mod watch;

use options::Wanted;
use std::process::ExitCode;

fn main() -> ExitCode {
    farmem_link::malloc::give_arrays_their_own_mappings();
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let result = match options::parse(&words, &mut std::io::stdin()) {
        Ok(Wanted::Text(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Ok(Wanted::Server(config)) => start(*config).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("remora-server: {why}");
            ExitCode::FAILURE
        }
    }
}

fn start(config: engine::Config) -> Result<(), body::StartError> {
    process::start_log(&config.loglevel, &config.logfile)
        .map_err(|error| body::StartError(format!("cannot log to '{}': {error}", config.logfile)))?;
    body::run(config)
}
