//! `tillmesh`: arguments, logging, and the call of what does the work.

#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tillmesh::api::LogRing;
use tillmesh::app::cli::{
    self, BackupOptions, DemoOptions, LedAction, LogOptions, ReservationFormat, SetupOptions, ShopOptions,
    StoreNewOptions, Target, TillOptions, UpdateAction,
};
use tillmesh::app::{RunOptions, logging};
use tillmesh::config::{DEFAULT_CURRENCY, DEFAULT_STORE_NAME, DEFAULT_TIME_ZONE, DataDir, FolderError, TokenScope};

/// Names the folder where the image leaves what it could not set up.
const BOX_PROBLEMS: &str = "TILLMESH_BOX_PROBLEMS";

const AFTER_HELP: &str = "\
Exit codes: 0 done; 1 failed, standard error says why; 2 wrong arguments, or a config that must be corrected;
3 no agent answers; 4 `doctor` found something to do.
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
        /// All tills of the store, as this one has heard
        #[arg(long, conflicts_with = "json")]
        shop: bool,
    },
    /// Find out what is wrong with this till, and what to do; as root it sees more
    Doctor {
        #[command(flatten)]
        target: TargetArguments,
        /// All that was found and seen, as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the newest log lines of the running agent
    Log(LogArguments),
    /// Put all that the vendor needs to help into one file, without secrets
    Support {
        /// The file to make (tar)
        file: PathBuf,
        #[command(flatten)]
        folder: FolderArguments,
    },
    /// The tokens of the local API
    #[command(subcommand)]
    Token(TokenCommand),
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
    /// Write pos-config.json for the boot partition of a till's card, or of all cards of a list
    Provision(Box<ProvisionArguments>),
    /// Print what the shop's router should reserve, for all tills that the running agent knows
    Reservations {
        /// What reads it
        #[arg(long, value_name = "FORMAT", default_value = "csv", value_parser = reservation_format)]
        format: ReservationFormat,
        #[command(flatten)]
        target: TargetArguments,
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
    /// Put a new version on this box (made from the image): it is installed while selling goes on, and tried at the next start
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Update(UpdateArguments),
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

#[derive(Args)]
struct UpdateArguments {
    #[command(subcommand)]
    command: Option<UpdateCommand>,
    /// The update file that the vendor gave
    #[arg(required = true)]
    file: Option<PathBuf>,
    /// Start the box again as soon as it is installed
    #[arg(long)]
    restart: bool,
    /// Take it although it is of an earlier version
    #[arg(long)]
    older: bool,
    #[command(flatten)]
    target: TargetArguments,
}

#[derive(Subcommand)]
enum UpdateCommand {
    /// How updates stand on the running agent's box
    Status {
        #[command(flatten)]
        target: TargetArguments,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Whether a file is signed and whole, by the keys of $TILLMESH_UPDATE_KEYS [/etc/tillmesh/update.keys]
    Check {
        /// The update file
        file: PathBuf,
    },
    /// Print the number of this version's form of the database
    #[command(hide = true)]
    Database,
    /// Install what the agent has left (root; the image's unit does so)
    #[command(hide = true)]
    Install(FolderArguments),
    /// Wait for a version on trial to prove healthy (root; the image's unit does so)
    #[command(hide = true)]
    Confirm(FolderArguments),
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
enum TokenCommand {
    /// Replace a token and print the new one; the former one opens nothing any more
    Rotate {
        /// `read`: may read, for monitoring; `admin`: may do everything
        #[arg(value_parser = token_scope)]
        scope: TokenScope,
        #[command(flatten)]
        target: TargetArguments,
    },
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
struct ProvisionArguments {
    /// What the till is called in the shop's papers, such as POS-1
    #[arg(
        long = "posId",
        alias = "pos-id",
        value_name = "ID",
        required_unless_present = "csv",
        conflicts_with = "csv"
    )]
    pos_id: Option<String>,
    /// What it is called on screens [default: the same]
    #[arg(long = "posName", alias = "pos-name", value_name = "NAME", conflicts_with = "csv")]
    pos_name: Option<String>,
    /// 192.168.1.21/24 is a static address; without this one the router gives the address
    #[arg(long, value_name = "ADDRESS/PREFIX", conflicts_with = "csv")]
    address: Option<String>,
    /// Many tills: columns posId, posName, address (with a prefix static, without it reserved at the router), mac
    #[arg(long, value_name = "FILE", requires = "out")]
    csv: Option<PathBuf>,
    /// Where the files of a list go
    #[arg(long, value_name = "DIR", requires = "csv")]
    out: Option<PathBuf>,
    /// The store: what `store new --json` printed, or a till's pos-config.json [default: that of the data folder]
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// The router, for static addresses
    #[arg(long, value_name = "ADDRESS")]
    gateway: Option<String>,
    /// A name server, for static addresses
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// Where the local API listens, if not on the till alone (0.0.0.0:3031)
    #[arg(long, value_name = "IP:PORT")]
    api: Option<String>,
    /// It may listen there although it is not encrypted: nobody else can listen in on that network
    #[arg(long, requires = "api")]
    api_plaintext: bool,
    /// A public key that may log in by ssh
    #[arg(long, value_name = "KEY")]
    ssh_key: Vec<String>,
    /// By which the box's journal is dated (IANA) [default: the store's]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// The country whose rules the Wi-Fi keeps (TN)
    #[arg(long, value_name = "CC")]
    country: Option<String>,
    /// The Wi-Fi to join
    #[arg(long, value_name = "NAME", requires = "country")]
    wifi_ssid: Option<String>,
    /// Its passphrase
    #[arg(long, value_name = "WORDS", requires = "wifi_ssid")]
    wifi_passphrase: Option<String>,
    #[command(flatten)]
    folder: FolderArguments,
}

#[derive(Args)]
struct LogArguments {
    /// This level and graver ones: error, warn, info, debug or trace
    #[arg(long)]
    level: Option<String>,
    /// About this till: a part of its id or name
    #[arg(long)]
    peer: Option<String>,
    /// About this ticket, product, customer or op: a part of its id
    #[arg(long)]
    entity: Option<String>,
    /// With this text in them
    #[arg(long)]
    text: Option<String>,
    /// From this time on: 2026-11-22T09:30:00Z, or how long ago: 90s, 10m, 2h, 1d
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=500))]
    lines: u16,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArguments,
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
        Command::Status { target, json, shop } => block_on(cli::status(&target.resolve()?, json, shop)),
        Command::Doctor { target, json } => block_on(cli::doctor(&target.resolve()?, json)),
        Command::Log(arguments) => log(arguments),
        Command::Support { file, folder } => block_on(cli::support(&folder.resolve()?, &file)),
        Command::Token(TokenCommand::Rotate { scope, target }) => {
            block_on(cli::rotate_token(&target.resolve()?, scope))
        }
        Command::Open { target } => block_on(cli::open(&target.resolve()?)),
        Command::Led(command) => led(&command),
        Command::Store(StoreCommand::New { name, currency, time_zone, json }) => {
            cli::store_new(&StoreNewOptions { name, currency, time_zone, json })
        }
        Command::Backup { file, force, folder } => {
            block_on(cli::backup(BackupOptions { folder: folder.resolve()?, file, force }))
        }
        Command::Restore { file, folder } => cli::restore(&folder.resolve()?, &file),
        Command::Provision(arguments) => provision(*arguments),
        Command::Reservations { format, target } => block_on(cli::reservations(&target.resolve()?, format)),
        Command::Setup { boot, folder } => {
            cli::setup(&SetupOptions { folder: folder.resolve()?, boot, root: PathBuf::from("/") })
        }
        Command::Update(arguments) => update(arguments),
        Command::Demo { tills, data_dir } => block_on(cli::demo(DemoOptions { tills, data_dir })),
    }
}

fn update(arguments: UpdateArguments) -> anyhow::Result<()> {
    let UpdateArguments { command, file, restart, older, target } = arguments;
    let action = match (command, file) {
        (None, file) => {
            let file = file.expect("required where there is no command");
            return block_on(cli::send_update(&target.resolve()?, &file, restart, older));
        }
        (Some(UpdateCommand::Status { target, json }), _) => UpdateAction::Status { target: target.resolve()?, json },
        (Some(UpdateCommand::Check { file }), _) => UpdateAction::Check(file),
        (Some(UpdateCommand::Database), _) => UpdateAction::Database,
        (Some(UpdateCommand::Install(folder)), _) => UpdateAction::Install(folder.resolve()?),
        (Some(UpdateCommand::Confirm(folder)), _) => UpdateAction::Confirm(folder.resolve()?),
    };
    block_on(cli::update(action))
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

fn log(arguments: LogArguments) -> anyhow::Result<()> {
    let LogArguments { level, peer, entity, text, since, until, lines, json, target } = arguments;
    block_on(cli::log(&target.resolve()?, &LogOptions { level, peer, entity, text, since, until, lines, json }))
}

fn token_scope(text: &str) -> Result<TokenScope, String> {
    TokenScope::named(text).ok_or_else(|| "read or admin".to_owned())
}

fn reservation_format(text: &str) -> Result<ReservationFormat, String> {
    match text {
        "dnsmasq" => Ok(ReservationFormat::Dnsmasq),
        "kea" => Ok(ReservationFormat::Kea),
        "csv" => Ok(ReservationFormat::Csv),
        _ => Err("dnsmasq, kea or csv".to_owned()),
    }
}

fn provision(arguments: ProvisionArguments) -> anyhow::Result<()> {
    let folder = arguments.folder.resolve()?;
    let shop = ShopOptions {
        store: arguments.store,
        gateway: arguments.gateway,
        dns: arguments.dns,
        api: arguments.api,
        api_plaintext: arguments.api_plaintext,
        ssh_keys: arguments.ssh_key,
        time_zone: arguments.time_zone,
        country: arguments.country,
        wifi_ssid: arguments.wifi_ssid,
        wifi_passphrase: arguments.wifi_passphrase,
    };
    if let (Some(csv), Some(out)) = (&arguments.csv, &arguments.out) {
        return cli::provision_list(&folder, &shop, csv, out);
    }
    let pos_id = arguments.pos_id.unwrap_or_default();
    cli::provision(
        &folder,
        &shop,
        &TillOptions { pos_id, pos_name: arguments.pos_name, address: arguments.address, mac: None },
    )
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
