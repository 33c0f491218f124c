"""What emulated tills must do. Each function is a scenario; its first line says what it shows."""

import pathlib
import sqlite3
import subprocess
import time

import scan
from box import Failed, eventually
from card import config, run

# The level of the header's pins 0 to 31 (BCM2835 peripherals, GPLEV0), and those of the status LED.
PI_LEVELS, PI_RED, PI_GREEN = 0x3F200034, 1 << 17, 1 << 27

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "config" / "dnsmasq.conf"

# REAL are those that need no more of a till than its address and token.
ALL, SHORT, REAL = {}, [], []


def scenario(short=False, real=False):
    def register(function):
        ALL[function.__name__] = function
        if short:
            SHORT.append(function.__name__)
        if real:
            REAL.append(function.__name__)
        return function

    return register


def chosen(words, full, real):
    if words:
        return [name for name in (REAL if real else ALL) if any(word in name for word in words)]
    return REAL if real else list(ALL) if full else SHORT


def expect(condition, what):
    if not condition:
        raise Failed(what)


# ------------------------------------------------------------------------------------------------------------ one till


@scenario(short=True)
def cold_boot(bench):
    """A new card boots to selling; what it was given is taken over, what must not change cannot be changed."""
    till = bench.till(1)
    till.power_on()
    _, seconds = till.wait_selling(240)
    bench.measured("cold boot of virt to its first sale", seconds)
    expect(till.status()["posId"] == "POS-1", "the till is who its file says")
    expect(till.shell("hostname") == "pos-1", "the box has its name")
    expect("Read-only" in till.shell("touch /etc/x 2>&1 || true"), "the root can be written")
    expect(not till.shell("systemctl --failed --no-legend --plain"), "a unit has failed: " + till.shell("systemctl --failed --no-legend"))
    # Of a card of 1 GiB, all but 385 MiB is data.
    eventually(60, "the data partition has grown", lambda: int(till.shell("df -m --output=size /var | tail -1")) > 500, 1)
    for name in ("dpkg", "apt-get", "perl", "gcc", "cc", "python3"):
        expect(not till.shell(f"command -v {name} || true"), f"{name} is on the till")
    expect(not till.shell("cut -d: -f2 /etc/shadow | grep -v '^[!*]' || true"), "an account has a password, or needs none")
    expect(not till.shell("ss -Hlnt | grep ':22 ' || true"), "ssh listens although no key was given")
    expect(till.shell("stat -c %U /proc/$(systemctl show -p MainPID --value tillmesh)") == "tillmesh", "the agent runs as another user")
    expect("i6300" in till.shell("journalctl -b --no-pager | grep -i 'watchdog' || true"), "no hardware watchdog is fed")
    till.power_cut()
    expect(bench.store["key"].encode() not in till.card.boot_bytes(), "the store key is still on the boot partition")
    expect("POS-1" in till.card.get("pos-config.applied.json"), "what was taken over is not shown")
    expect(till.card.get("pos-config.json") is None, "the file that was taken over is still there")


@scenario(short=True, real=True)
def ports(bench):
    """From outside, the mesh and what the config opens can be reached, and nothing else."""
    till = bench.selling(1)
    expect(few_ports(till.address) == OPEN, f"reached at {till.address}: {few_ports(till.address)}")
    reached = scan.tcp(till.address, answer=1.0)
    expect(set(reached) <= set(OPEN), f"reached: {reached}")
    till.sell()


@scenario(short=True)
def ports_ipv6(bench):
    """The same by IPv6; and the firewall counts what it drops."""
    till = bench.selling(1)
    address = till.shell("ip -6 -brief address show scope link dev eth0").split()[2].split("/")[0] + "%br0"
    # The config opens the API at an address of IPv4.
    wanted = OPEN | {3031: "closed"}
    expect(few_ports(address) == wanted, f"reached at {address}: {few_ports(address)}")
    counters = till.shell("nft list counters table inet tillmesh")
    expect("counter dropped" in counters, counters)


OPEN = {3030: "open", 3031: "open"}


def few_ports(address):
    """Some ports, slower than a flood, so that the answer is the rules' and not the limit's."""
    reached = {}
    for port in (1, 22, 53, 80, 111, 3029, 3030, 3031, 3032, 5353, 5355, 8080, 65535):
        reached.update(scan.tcp(address, [port], 1.5))
    return reached


@scenario()
def provisioning(bench):
    """A wrong file is told beside it and shown; the corrected one is taken over; later a wrong one leaves the till as it was."""
    wrong = config(1, bench.store).replace("TND", "dinar").replace("10.77.0.11/24", "10.77.0.11")
    card = bench.card(1, wrong)
    till = bench.till(1, card)
    till.power_on()
    eventually(240, "the box has come up", lambda: till.shell("systemctl is-active tillmesh-fault", 20) == "active", 1)
    expect(till.shell("systemctl is-active tillmesh || true") != "active", "a till without a config sells")
    till.power_cut()
    told = card.get("pos-config.problems.txt")
    expect("store.currency" in told and "network.address" in told, f"told: {told}")
    card.put("pos-config.json", config(1, bench.store))
    till.power_on()
    till.wait_selling(240)
    expect(card.get("pos-config.problems.txt") is None, "problems that were corrected are still told")
    till.power_cut()
    card.put("pos-config.json", "{}")
    till.power_on()
    till.wait_selling(240)
    status = till.status()
    expect(status["posId"] == "POS-1" and status["led"] == "fault", f"{status['posId']} {status['led']}")
    expect(any(alert["code"] == "boxSetup" for alert in status["alerts"]), f"no alert: {status['alerts']}")


@scenario()
def spoiled_data(bench):
    """A data partition that cannot be used: the box comes up, says so, and does not sell into memory."""
    till = bench.till(1)
    till.card.spoil(4, 40 << 20)
    till.power_on()
    eventually(240, "the box has come up", lambda: till.shell("systemctl is-active tillmesh-fault", 20) == "active", 1)
    expect(till.shell("systemctl is-active tillmesh || true") != "active", "it sells into memory")


@scenario(short=True)
def power_cuts(bench):
    """The power is cut while the till sells: every acknowledged sale is there afterwards, and the database is sound."""
    till = bench.selling(1)
    sold = []
    rounds = 50 if bench.full else 3
    for turn in range(rounds):
        # Cut at another moment each time, some in the middle of a sale.
        end = time.monotonic() + 0.4 + 0.07 * (turn % 13)
        while time.monotonic() < end:
            sold.append(till.sell())
        till.power_cut()
        till.power_on()
        ident, _ = till.wait_selling(240)
        sold.append(ident)
    lost = [ident for ident in sold if not till.has(ident)]
    expect(not lost, f"{len(lost)} of {len(sold)} acknowledged sales are lost")
    bench.figures.append(f"{rounds} power cuts, {len(sold)} sales acknowledged, none lost")
    till.shell("sync")
    till.power_cut()
    database = till.folder / "till.db"
    for suffix in ("", "-wal"):
        till.card.extract(f"lib/tillmesh/till.db{suffix}", f"{database}{suffix}")
    verdict = sqlite3.connect(database).execute("PRAGMA integrity_check").fetchone()[0]
    expect(verdict == "ok", f"the database: {verdict}")


@scenario()
def full_disk(bench):
    """With the data partition full, the till says so, answers, and sells again once there is room."""
    till = bench.selling(1)
    before = till.sell()
    till.shell("dd if=/dev/zero of=/var/fill bs=1M 2>/dev/null || true; sync", 300)
    expect(till.has(before), "what was sold cannot be read")
    eventually(120, "an alert about the disk", lambda: any("disk" in alert["code"].lower() for alert in till.status()["alerts"]), 1)
    till.shell("rm /var/fill; sync")
    eventually(60, "it sells again", till.sell, 1)


@scenario()
def clock_of_1970(bench):
    """Without time server and battery clock a till sells, and says that its clock is not to be trusted."""
    till = bench.selling(1)
    till.shell("systemctl stop tillmesh; date -s '1970-01-02 03:04:05'; systemctl start tillmesh")
    ident = eventually(60, "it sells", lambda: till.sell(3), 0.5)
    _, ticket = till.call("GET", f"/v1/tickets/{ident}")
    expect(ticket["clock"] == "untrusted", f"the clock: {ticket['clock']}")
    expect(ticket["createdAt"] > "2020", f"dated {ticket['createdAt']}")


# ---------------------------------------------------------------------------------------------------------- more tills


@scenario(real=True)
def three_tills(bench):
    """What is sold on one till is on all of the others."""
    tills = bench.group(3)
    for till in tills:
        others = len(tills) - 1
        eventually(120, f"{till.name} is linked with the others", lambda till=till: till.status()["connectedPeers"] >= others, 0.5)
    for seller in tills:
        ident = seller.sell()
        for till in tills:
            eventually(30, f"the sale of {seller.name} is on {till.name}", lambda till=till: till.has(ident))


@scenario()
def cloned_card(bench):
    """A card copied into a second box: both sell on, nothing is lost, nothing is counted twice."""
    till = bench.till(1)
    till.power_on()
    first, _ = till.wait_selling(240)
    till.power_cut()
    copy = till.card.copy(till.folder / "copy.img")
    # The copy's own address, as a technician would give it; all else is the first till's.
    copy.put("pos-config.json", config(1, bench.store, network={"mode": "static", "address": "10.77.0.12/24"}))
    clone = bench.till(1, copy, address="10.77.0.12", name="clone")
    till.power_on()
    clone.power_on()
    sold = [first, till.wait_selling(300)[0], clone.wait_selling(300)[0]]
    for box in (till, clone):
        for ident in sold:
            eventually(180, f"sale {ident} is on {box.name}", lambda box=box, ident=ident: box.has(ident), 0.5)


@scenario()
def reserved_address(bench):
    """A router with the reservation gives the till the same address, also after its card was written anew."""
    till = bench.till(1, bench.card(1, config(1, bench.store, network={"mode": "dhcp"})), address="10.77.0.71")
    lease, settings = till.folder / "leases", till.folder / "dnsmasq.conf"
    # The example that is shipped, in the network of the bench.
    text = EXAMPLE.read_text().replace("192.168.1.", "10.77.0.").replace("interface=eth0", "interface=br0")
    settings.write_text(text.replace("b8:27:eb:00:00:01,10.77.0.21", f"{till.mac},10.77.0.71"))
    log = open(till.folder / "dnsmasq.log", "w")
    command = ["dnsmasq", "--no-daemon", "--port=0", f"--dhcp-leasefile={lease}", f"--conf-file={settings}"]
    router = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        till.power_on()
        till.wait_selling(240)
        entry = lease.read_text().split()
        expect(entry[2:5] == ["10.77.0.71", "pos-1", f"01:{till.mac}"], f"lease: {entry}")
        till.power_cut()
        till.card = bench.card(1, config(1, bench.store, network={"mode": "dhcp"}))
        till.power_on()
        till.wait_selling(240)
    finally:
        router.terminate()
        router.wait()


@scenario()
def taken_address(bench):
    """A static address that another box has is given up, and the journal says whose it is."""
    run("ip", "address", "add", "10.77.0.11/24", "dev", "br0")
    try:
        till = bench.till(1)
        till.power_on()
        found = lambda: till.shell("journalctl -b -u systemd-networkd --no-pager | grep -i conflict", 20)  # noqa: E731
        eventually(240, "the conflict is told", found, 1)
        expect("10.77.0.11" not in till.shell("ip -4 -brief address show dev eth0"), "the address is used all the same")
    finally:
        run("ip", "address", "delete", "10.77.0.11/24", "dev", "br0")


# ----------------------------------------------------------------------------------------------------------------- LED


def colours(till, seconds):
    """The colours that the LED has within some seconds: a set of "off", "red", "green", "yellow"."""
    seen, end = set(), time.monotonic() + seconds
    while time.monotonic() < end:
        level = till.word(PI_LEVELS)
        seen.add({(False, False): "off", (True, False): "red", (False, True): "green", (True, True): "yellow"}[
            bool(level & PI_RED), bool(level & PI_GREEN)])  # fmt: skip
        time.sleep(0.05)
    return seen


def shows(till, seconds, *wanted):
    """Waits until the LED has these colours within some seconds, and no other."""

    def holds():
        seen = colours(till, seconds)
        if seen != set(wanted):
            raise RuntimeError(f"seen: {sorted(seen)}")
        return True

    eventually(30, f"the LED shows {' and '.join(wanted)}", holds)


@scenario(short=True)
def led(bench):
    """The pins of an emulated Pi: yellow blinking alone, green with a second till, red when the agent has failed, off when it was stopped."""
    pi = bench.till(2, machine="raspi3b")
    pi.power_on()
    other = bench.selling(1)
    other.shell("systemctl stop tillmesh")
    _, seconds = pi.wait_selling(400)
    bench.measured("cold boot of raspi3b to its first sale", seconds)
    led_is = lambda name: lambda: pi.status()["led"] == name  # noqa: E731
    if pi.status()["led"] == "solo":
        other.shell("systemctl start tillmesh")
        eventually(120, "the tills have met", led_is("connected"), 0.5)
        other.shell("systemctl stop tillmesh")
    eventually(90, "the till is alone", led_is("alone"), 0.5)
    shows(pi, 4, "yellow", "off")
    other.shell("systemctl start tillmesh")
    eventually(120, "the tills are linked", led_is("connected"), 0.5)
    shows(pi, 3, "green")
    pi.shell("systemctl stop tillmesh", 120)
    shows(pi, 3, "off")
