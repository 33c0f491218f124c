//! `tillmesh`: arguments, logging, and the call of what does the work.

#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tillmesh::api::LogRing;
use tillmesh::app::cli::{self, BackupOptions, DemoOptions, LedAction, SetupOptions, StoreNewOptions, Target};
use tillmesh::app::{RunOptions, logging};
use tillmesh::config::{DEFAULT_CURRENCY, DEFAULT_STORE_NAME, DEFAULT_TIME_ZONE, DataDir, FolderError};

/// Names the folder where the image leaves what it could not set up.
const BOX_PROBLEMS: &str = "TILLMESH_BOX_PROBLEMS";

const AFTER_HELP: &str = "\
Exit codes: 0 done; 1 failed, standard error says why; 2 wrong arguments, or a config that must be corrected;
3 no agent answers.
Environment: TILLMESH_LOG=error|warn|info|debug|trace sets how much is logged (info). Without --data-dir a till's
folder is $STATE_DIRECTORY, else $XDG_STATE_HOME/tillmesh, else ~/.local/state/tillmesh.";

/// The agent of a point-of-sale till: every sale on one till of the shop is on every till. Without a command it runs.
#[derive(Parser)]
#[command(version, after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArguments,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent until SIGTERM or Ctrl-C (what happens without a command)
    Run(RunArguments),
    /// Show how the running agent is: its mesh, its sales, its alerts
    Status {
        #[command(flatten)]
        target: TargetArguments,
        /// The whole status as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the address of the status page, with the token that its buttons need
    Open {
        #[command(flatten)]
        target: TargetArguments,
    },
    /// The status LED, while no agent runs
    #[command(subcommand)]
    Led(LedCommand),
    /// Make a store, which its tills then share
    #[command(subcommand)]
    Store(StoreCommand),
    /// Copy the till's database into one file, also while it sells
    Backup {
        /// The file to make
        file: PathBuf,
        /// Replace the file if it is there
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        folder: FolderArguments,
    },
    /// Go on from a backup; what was there is moved aside
    Restore {
        /// The backup
        file: PathBuf,
        #[command(flatten)]
        folder: FolderArguments,
    },
    /// Set the box up by its config and by the one on the boot partition (the image does so at every boot)
    #[command(hide = true)]
    Setup {
        /// The boot partition, mounted
        #[arg(long, value_name = "DIR")]
        boot: PathBuf,
        #[command(flatten)]
        folder: FolderArguments,
    },
    /// Open a whole shop on this machine, to try things out; Ctrl-C closes it
    Demo {
        /// How many tills
        #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=i64::from(cli::TILLS_MAX)))]
        tills: u16,
        /// Where the tills keep their folders [default: a temporary folder, removed at the end]
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum LedCommand {
    /// Play all states, naming each
    Test {
        /// How long each is shown, in seconds
        #[arg(long, value_name = "S", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
        seconds: u64,
        #[command(flatten)]
        folder: FolderArguments,
    },
    /// Put it out
    Off(FolderArguments),
    /// Leave it in Fault
    Fault(FolderArguments),
    /// Out after a clean end of the service, else Fault: for ExecStopPost of the unit
    Stopped(FolderArguments),
}

#[derive(Subcommand)]
enum StoreCommand {
    /// Print a new `store` object, for pos-config.json of every till of the store
    New {
        /// What the store is called
        #[arg(long, default_value = DEFAULT_STORE_NAME)]
        name: String,
        /// What it counts in, for good (ISO 4217)
        #[arg(long, default_value = DEFAULT_CURRENCY)]
        currency: String,
        /// By which its days are counted (IANA)
        #[arg(long, default_value = DEFAULT_TIME_ZONE)]
        time_zone: String,
        /// The object alone
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct FolderArguments {
    /// The till's data folder
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Args)]
struct RunArguments {
    #[command(flatten)]
    folder: FolderArguments,
    /// Check pos-config.json, say all that is wrong with it, and end
    #[arg(long)]
    check_config: bool,
    /// End when the process with this id, the parent, ends (for `demo`)
    #[arg(long, value_name = "PID", hide = true)]
    die_with: Option<i32>,
}

#[derive(Args)]
struct TargetArguments {
    #[command(flatten)]
    folder: FolderArguments,
    /// The agent at this address, instead of the one of a data folder
    #[arg(long, value_name = "IP:PORT", conflicts_with = "data_dir")]
    address: Option<SocketAddr>,
    /// A copy of that agent's api-token, which it wants from other machines
    #[arg(long, value_name = "FILE", requires = "address")]
    token_file: Option<PathBuf>,
}

impl FolderArguments {
    fn resolve(&self) -> Result<DataDir, FolderError> {
        DataDir::resolve(self.data_dir.as_deref(), |name| std::env::var_os(name))
    }
}

impl TargetArguments {
    fn resolve(self) -> Result<Target, FolderError> {
        match self.address {
            Some(address) => Ok(Target::Address(address, self.token_file)),
            None => Ok(Target::Folder(self.folder.resolve()?)),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match execute(arguments.command.unwrap_or(Command::Run(arguments.run))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if cli::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Where standard error is gone too, the exit code has to do.
            let _ = writeln!(io::stderr().lock(), "tillmesh: {error:#}");
            ExitCode::from(cli::exit_code(&error))
        }
    }
}

fn execute(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(arguments) => run(&arguments),
        Command::Status { target, json } => block_on(cli::status(&target.resolve()?, json)),
        Command::Open { target } => block_on(cli::open(&target.resolve()?)),
        Command::Led(command) => led(&command),
        Command::Store(StoreCommand::New { name, currency, time_zone, json }) => {
            cli::store_new(&StoreNewOptions { name, currency, time_zone, json })
        }
        Command::Backup { file, force, folder } => {
            block_on(cli::backup(BackupOptions { folder: folder.resolve()?, file, force }))
        }
        Command::Restore { file, folder } => cli::restore(&folder.resolve()?, &file),
        Command::Setup { boot, folder } => {
            cli::setup(&SetupOptions { folder: folder.resolve()?, boot, root: PathBuf::from("/") })
        }
        Command::Demo { tills, data_dir } => block_on(cli::demo(DemoOptions { tills, data_dir })),
    }
}

fn led(command: &LedCommand) -> anyhow::Result<()> {
    let (folder, action) = match command {
        LedCommand::Test { seconds, folder } => (folder, LedAction::Test(Duration::from_secs(*seconds))),
        LedCommand::Off(folder) => (folder, LedAction::Off),
        LedCommand::Fault(folder) => (folder, LedAction::Fault),
        LedCommand::Stopped(folder) => (folder, LedAction::Stopped),
    };
    block_on(cli::led(&folder.resolve()?, action))
}

fn run(arguments: &RunArguments) -> anyhow::Result<()> {
    let folder = arguments.folder.resolve()?;
    if arguments.check_config {
        return cli::check_config(&folder);
    }
    if let Some(parent) = arguments.die_with {
        cli::die_with(parent)?;
    }
    let log = LogRing::default();
    logging::init(log.clone())?;
    block_on(cli::run(RunOptions { folder, log, box_problems: std::env::var_os(BOX_PROBLEMS).map(PathBuf::from) }))
}

/// One thread drives the sockets, timers and signals.
fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(work);
    // A thread that waits for a disk that does not answer holds up no end.
    runtime.shutdown_background();
    outcome
}
