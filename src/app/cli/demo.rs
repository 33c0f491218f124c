//! `tillmesh demo`: a whole shop on one machine. Every till is an agent of its own, a process with its own data folder, and they mesh
//! as they would on a network.
//!
//! **Invariant:** no agent outlives the demo, however that ends: a clean end stops them, and the system ends them with a demo that
//! is killed ([`die_with`](super::die_with)).

mod goods;
mod shop;

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rustix::process::{Pid, Signal, getpid, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::SignalKind;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::shop::{Shop, Till};
use super::client::{Agent, AgentError};
use super::run::StopSignals;
use super::{Progress, print};

/// The most tills of a demo: as many as a large shop has, and as a small computer bears.
pub const TILLS_MAX: u16 = 32;

/// How often the tills are asked how far they are.
const POLL_EVERY: Duration = Duration::from_millis(100);
/// How long the tills have until all see all: more than the slowest machine needs for the largest shop.
const OPEN_TIME_MAX: Duration = Duration::from_secs(180);
/// How long an agent has to end cleanly: more than it takes to close its database.
const STOP_TIME_MAX: Duration = Duration::from_secs(15);
/// How much of the log of an agent that ended is shown.
const LOG_LINES_SHOWN: usize = 10;

/// What a demo is started with.
#[derive(Debug)]
pub struct DemoOptions {
    /// 1 to [`TILLS_MAX`].
    pub tills: u16,
    /// Where the tills keep their folders; else a temporary folder, removed at the end.
    pub data_dir: Option<PathBuf>,
}

/// Opens a shop and keeps it open until a signal.
///
/// # Errors
/// Where the folders cannot be made, or an agent does not start.
pub async fn demo(options: DemoOptions) -> anyhow::Result<()> {
    let mut stopping = StopSignals::listen(&[SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()])?;
    let shop = Shop::prepare(options.tills, options.data_dir)?;
    let mut staff = Staff::default();
    let result = tokio::select! {
        result = keep_open(&shop, &mut staff) => result,
        () = stopping.next() => Ok(()),
    };
    staff.go_home().await;
    result
}

/// Starts the tills, waits until all see all, and then for ever.
async fn keep_open(shop: &Shop, staff: &mut Staff) -> anyhow::Result<()> {
    for till in &shop.tills {
        staff.start(till)?;
    }
    tokio::select! {
        opened = timeout(OPEN_TIME_MAX, open(shop)) => opened.map_err(|_| never_opened(shop))??,
        ended = staff.next() => {
            let Ended { till, how } = ended?;
            bail!("{} ended ({how}); its log ends with:\n{}", till.pos_id, till.log_tail(LOG_LINES_SHOWN));
        }
    }
    loop {
        let Ended { till, how } = staff.next().await?;
        let folder = till.folder.path().display();
        print(&format!("{} ended ({how}). Start it again with: tillmesh run --data-dir {folder}\n", till.pos_id))?;
    }
}

fn never_opened(shop: &Shop) -> anyhow::Error {
    let logs = shop.tills.iter().map(|till| format!("\n{}:\n{}", till.pos_id, till.log_tail(LOG_LINES_SHOWN)));
    anyhow!(
        "the tills did not all find one another in {} s; their logs end with:{}",
        OPEN_TIME_MAX.as_secs(),
        logs.collect::<String>()
    )
}

/// Brings the shop to where the first customer can come in.
async fn open(shop: &Shop) -> anyhow::Result<()> {
    let mut progress = Progress::new();
    let mut agents = Vec::new();
    for (at, till) in shop.tills.iter().enumerate() {
        progress.show(&format!("starting till {} of {}", at + 1, shop.tills.len()));
        agents.push(answering(till).await?);
    }
    let first = agents.first().context("a shop has a till")?;
    progress.show("loading the sample products into till 1");
    goods::load(first).await?;
    let products = first.get_json("/v1/status").await?["counts"]["products"].as_u64().unwrap_or_default();
    for (at, agent) in agents.iter().enumerate() {
        linked(agent, products, agents.len() - 1, |seen| {
            progress.show(&format!("till {} of {} sees {seen} of {} others", at + 1, agents.len(), agents.len() - 1));
        })
        .await?;
    }
    drop(progress);
    let env = shop.write_env(&agents)?;
    print(&welcome(shop, &agents, &env)?)?;
    Ok(())
}

/// Waits until a till's agent answers.
async fn answering(till: &Till) -> anyhow::Result<Agent> {
    loop {
        // Anew each time: the token is made by the agent.
        match Agent::of(&till.folder) {
            Ok(agent) if agent.token().is_ok() => match agent.get_json("/v1/status").await {
                Ok(_) => return Ok(agent),
                Err(error) if error.is_absence() => {}
                Err(error) => return Err(error.into()),
            },
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        sleep(POLL_EVERY).await;
    }
}

/// Waits until a till is linked with all others and has all products.
async fn linked(agent: &Agent, products: u64, others: usize, mut seen: impl FnMut(u64)) -> Result<(), AgentError> {
    loop {
        let status = agent.get_json("/v1/status").await?;
        let connected = status["connectedPeers"].as_u64().unwrap_or_default();
        seen(connected);
        let all_there = status["counts"]["products"].as_u64() >= Some(products);
        if all_there && usize::try_from(connected).unwrap_or(usize::MAX) >= others {
            return Ok(());
        }
        sleep(POLL_EVERY).await;
    }
}

/// What whoever started the demo reads.
fn welcome(shop: &Shop, agents: &[Agent], env: &str) -> anyhow::Result<String> {
    let tills = agents.len();
    let mut text =
        format!("The shop \"{}\" is open: {tills} till{}.\n\n", shop.name, if tills == 1 { "" } else { "s" });
    for (till, agent) in shop.tills.iter().zip(agents) {
        text += &format!("{}  {}\n", till.pos_id, agent.page()?);
    }
    text += &format!(
        "\nIn another terminal (the file holds the addresses and tokens as $TILL1, $TOKEN1, ...):\n\n\
         . {env}\n\
         curl -fsS $TILL1/v1/tickets -H \"Authorization: Bearer $TOKEN1\" --json '{}'\n\
         curl -fsS $TILL{tills}/v1/tickets\n\n\
         Ctrl-C closes the shop.\n",
        goods::sale("'$(cat /proc/sys/kernel/random/uuid)'")
    );
    Ok(text)
}

/// The agents at work.
struct Staff {
    stop: watch::Sender<bool>,
    tasks: JoinSet<anyhow::Result<Ended>>,
}

/// An agent that ended.
struct Ended {
    till: Till,
    how: ExitStatus,
}

impl Default for Staff {
    fn default() -> Self {
        Self { stop: watch::channel(false).0, tasks: JoinSet::new() }
    }
}

impl Staff {
    fn start(&mut self, till: &Till) -> anyhow::Result<()> {
        let program = std::env::current_exe().context("cannot find this program's file")?;
        let log = till.open_log()?;
        let mut command = Command::new(program);
        command.arg("run").arg("--data-dir").arg(till.folder.path());
        command.arg("--die-with").arg(getpid().as_raw_pid().to_string());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C reaches the demo alone, which then ends them one and all.
        command.process_group(0).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("cannot start {}", till.pos_id))?;
        self.tasks.spawn(tend(till.clone(), child, self.stop.subscribe()));
        Ok(())
    }

    /// The next agent that ends; never, where none is left.
    async fn next(&mut self) -> anyhow::Result<Ended> {
        match self.tasks.join_next().await {
            Some(ended) => ended?,
            None => std::future::pending().await,
        }
    }

    /// Stops the agents and waits for their end.
    async fn go_home(mut self) {
        let mut progress = Progress::new();
        progress.show("closing the shop");
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Waits for the end of an agent, and brings it about when the shop closes.
async fn tend(till: Till, mut child: Child, mut stop: watch::Receiver<bool>) -> anyhow::Result<Ended> {
    let how = tokio::select! {
        how = child.wait() => how?,
        _ = async { stop.wait_for(|stop| *stop).await.is_ok() } => {
            // Without an id it has ended already.
            if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
                kill_process(pid, Signal::TERM)?;
            }
            match timeout(STOP_TIME_MAX, child.wait()).await {
                Ok(how) => how?,
                Err(_) => {
                    child.kill().await?;
                    child.wait().await?
                }
            }
        }
    };
    Ok(Ended { till, how })
}
