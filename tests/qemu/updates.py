"""What emulated tills must do with their two slots: which one is booted, and how an update gets into the other."""

import contextlib
import json
import pathlib
import shutil
import subprocess
import time

from box import Failed, eventually
from card import HEADER_SECTOR, SECTOR, run
from scenarios import expect, scenario
from till import TOKEN

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "image" / "update"
NEWER, OLDER = "99.0.0", "0.0.1"
# A kernel of a slot lies a little behind its header.
KERNEL_OFFSET = (HEADER_SECTOR + 8) * SECTOR
# Keeps a till from judging itself.
NEVER_CONFIRMS = "systemd.mask=tillmesh-confirm.service"


class Maker:
    """Makes updates of all kinds from the parts of the image."""

    def __init__(self, parts, key, folder):
        self._parts, self._key, self._folder = parts, key, folder
        self._number = 0

    def make(self, version=NEWER, change=None, key=None):
        """An update of the image's own parts; `change` is called with the folder of their copies before it is signed."""
        if not self._parts or not self._key:
            raise Failed("give --parts and --key: an image of image/build --parts --update-keys KEY.pub")
        self._number += 1
        folder = self._folder / str(self._number)
        folder.mkdir(parents=True)
        for name in ("kernel.uimg", "initrd.uimg", "root.squashfs", "parts.json"):
            shutil.copy(self._parts / name, folder)
        told = json.loads((folder / "parts.json").read_text())
        (folder / "parts.json").write_text(json.dumps({**told, "version": version}))
        if change:
            change(folder)
        file = folder / "update"
        run(SCRIPT, "--key", key or self._key, "--image-dir", folder, "--out", file)
        return file

    def stranger(self):
        """A key that no till knows."""
        self._folder.mkdir(exist_ok=True)
        key = self._folder / "stranger"
        if not key.exists():
            run(SCRIPT, "--new-key", key)
        return key


def sending(bench, till, update, *words):
    """The command that hands the update to the till's agent, and waits until it is written."""
    token = till.folder / "token"
    token.write_text(TOKEN)
    return [bench.agent, "update", update, *words, "--address", f"{till.address}:3031", "--token-file", token]


def send(bench, till, update, *words):
    """Hands it over; it must be taken, and written."""
    run(*sending(bench, till, update, *words))


@contextlib.contextmanager
def meanwhile(command):
    """The command runs, and whatever it says, since the till that it talks to ends in the middle."""
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def refused(bench, till, update, *words):
    """Hands it over; the agent must refuse it, and nothing may have changed on the card. Gives what was said."""
    before = till.card.header("b")
    try:
        send(bench, till, update, *words)
    except RuntimeError as error:
        time.sleep(5)
        expect(till.card.header("b") == before and till.card.state() == {"good": "a"}, "a refused update was written")
        till.sell()
        return str(error)
    raise Failed("the update was taken")


def slot(till):
    return till.shell("cat /run/tillmesh-box/slot")


def boot(till, expected, seconds=300):
    """Switches on; the slot must be the expected one. Gives the first sale."""
    till.power_on()
    ident, _ = till.wait_selling(seconds)
    expect(slot(till) == expected, f"slot {slot(till)} runs, not {expected}")
    return ident


def try_update(bench, update):
    """A till that has taken the update and wants to start the slot that it is in. Gives the till and a sale of before."""
    till = bench.selling(1)
    sold = till.sell()
    with meanwhile(sending(bench, till, update, "--restart")):
        till.wait_for_end(600)
    expect(till.card.state() == {"good": "a", "try": "b", "tries": "1"}, f"the boot state: {till.card.state()}")
    expect(till.card.header("b")["version"] == NEWER, f"the header: {till.card.header('b')}")
    return till, sold


def falls_back(till, sold, seconds):
    """Starts the try, which must end by itself; then the good slot sells, and its agent says that the try failed."""
    till.power_on()
    till.wait_for_end(seconds)
    boot(till, "a")
    expect(till.has(sold), "the sale is gone")
    eventually(120, "the state is cleared", lambda: till.card.state() == {"good": "a"}, 1)


# ---------------------------------------------------------------------------------------------------------- slots alone


@scenario()
def counted_try(bench):
    """A slot on trial is booted once: if it never proves itself, the next start is of the good one."""
    till = bench.till(1)
    till.words = NEVER_CONFIRMS
    till.card.set_state(good="a", **{"try": "b"}, tries="1")
    ident = boot(till, "b")
    expect(till.card.state() == {"good": "a", "try": "b", "tries": "0"}, f"the boot state: {till.card.state()}")
    till.power_cut()
    boot(till, "a")
    expect(till.has(ident), "the sale is gone")


@scenario()
def spoiled_kernel(bench):
    """A kernel that cannot be read is no end: the other slot is booted whole, with all that was sold; and one without a header is not booted."""
    till = bench.till(1)
    ident = boot(till, "a")
    till.power_cut()
    till.card.spoil(2, offset=KERNEL_OFFSET + (1 << 20))
    boot(till, "b")
    expect(till.has(ident), "the sale is gone")
    till.power_cut()
    till.card.spoil(2, SECTOR, HEADER_SECTOR * SECTOR)
    boot(till, "b")


@scenario()
def spoiled_root(bench):
    """A root that cannot be read: the box starts again with the other slot, its kernel and its root, with all that was sold."""
    till = bench.till(1)
    ident = boot(till, "a")
    till.power_cut()
    till.card.spoil(2)
    till.power_on()
    till.wait_for_end(300)
    expect(till.card.state() == {"good": "b"}, f"the boot state: {till.card.state()}")
    boot(till, "b")
    expect(till.has(ident), "the sale is gone")


@scenario()
def spoiled_state(bench):
    """A boot state of which one copy was cut off while it was written: the other counts; without any, slot a is booted."""
    till = bench.till(1)
    till.card.set_state(good="b")
    till.card.spoil_state(0)
    boot(till, "b")
    till.power_cut()
    till.card.spoil_state(1)
    boot(till, "a")


# -------------------------------------------------------------------------------------------------------------- updates


@scenario()
def update_good(bench):
    """A signed update is written while the till sells, tried, and kept."""
    till, sold = try_update(bench, bench.updates.make())
    before = time.monotonic()
    boot(till, "b")
    expect(till.has(sold), "the sale is gone")
    eventually(240, "the slot is kept", lambda: till.card.state() == {"good": "b"}, 1)
    bench.measured("an update's first start until it is kept (virt)", time.monotonic() - before)
    till.power_cut()
    boot(till, "b")


@scenario()
def update_bad_signature(bench):
    """A signature that does not hold, a byte that was changed, a key that the till does not know: refused."""
    till = bench.selling(1)
    update = bench.updates.make()
    data = bytearray(update.read_bytes())
    for place in (44 + 10, 108 + 20, len(data) - 100):
        changed = bytearray(data)
        changed[place] ^= 1
        update.with_name("changed").write_bytes(changed)
        refused(bench, till, update.with_name("changed"))
    update.with_name("short").write_bytes(data[: len(data) // 2])
    refused(bench, till, update.with_name("short"))
    refused(bench, till, bench.updates.make(key=bench.updates.stranger()))


@scenario()
def update_older(bench):
    """An older version is refused, unless it is wanted."""
    till = bench.selling(1)
    update = bench.updates.make(OLDER)
    refused(bench, till, update)
    send(bench, till, update, "--older")
    eventually(300, "it is written", lambda: (till.card.header("b") or {}).get("version") == OLDER, 1)


@scenario()
def update_unbootable(bench):
    """A kernel that does not come up: the box starts again by itself, with the slot that it had."""

    def no_init(folder):
        (folder / "nothing").write_bytes(bytes(512))
        run("mkimage", "-A", "arm64", "-O", "linux", "-T", "ramdisk", "-C", "none", "-d", folder / "nothing", folder / "initrd.uimg")

    falls_back(*try_update(bench, bench.updates.make(change=no_init)), 300)


def change_root(change):
    """A change of what is in the root."""

    def changed(folder):
        run("unsquashfs", "-q", "-n", "-d", folder / "root", folder / "root.squashfs")
        change(folder / "root")
        (folder / "root.squashfs").unlink()
        run("mksquashfs", folder / "root", folder / "root.squashfs", "-quiet", "-no-progress", "-comp", "zstd", "-Xcompression-level", "3", "-no-xattrs")
        shutil.rmtree(folder / "root")

    return changed


@scenario()
def update_unhealthy(bench):
    """The box comes up and its agent does not: the new slot judges so itself, and the old one comes back."""

    def never_starts(root):
        folder = root / "etc/systemd/system/tillmesh.service.d"
        (folder / "never.conf").write_text("[Service]\nExecStartPre=/bin/false\n")

    falls_back(*try_update(bench, bench.updates.make(change=change_root(never_starts))), 600)


@scenario()
def update_broken(bench):
    """An agent that cannot even say that it is not healthy: the old slot comes back all the same."""

    def broken(root):
        (root / "usr/bin/tillmesh").write_text("#!/bin/sh\nexit 1\n")

    falls_back(*try_update(bench, bench.updates.make(change=change_root(broken))), 600)


@scenario()
def update_power_cut(bench):
    """The power is cut while the spare slot is written: the till sells from the slot that it had, and the update is written after all."""
    till = bench.selling(1)
    sold = till.sell()
    update, before = bench.updates.make(), till.card.header("b")
    with meanwhile(sending(bench, till, update)):
        # The header goes first and comes last.
        eventually(120, "writing has begun", lambda: till.card.header("b") != before, 0.02)
        till.power_cut()
    expect("try" not in till.card.state(), "a slot that is half written is tried")
    boot(till, "a")
    expect(till.has(sold), "the sale is gone")
    eventually(300, "the update is written", lambda: till.card.state() == {"good": "a", "try": "b", "tries": "1"}, 1)
    till.power_cut()
    boot(till, "b")
    eventually(240, "the slot is kept", lambda: till.card.state() == {"good": "b"}, 1)
