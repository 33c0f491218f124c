"""Cards of emulated tills: copies of the image, provisioned as a technician would, read as the board's firmware would."""

import json
import os
import pathlib
import re
import struct
import subprocess
import tempfile
import zlib

# A power of two: what the emulated card reader takes.
CARD_BYTES = 1 << 30
BOOT_OFFSET = 1 << 20
SECTOR = 512
# The boot state has two copies; a slot's header is behind the room for its root (see image/build).
STATE_SECTORS, HEADER_SECTOR = (2046, 2045), 0x40000
# Their partitions.
SLOTS = {"a": 2, "b": 3}


def run(*command, **options):
    """Runs a command that must succeed; gives its output. What it said is in the error."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed ({done.returncode}): {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Card:
    """A disk image with four partitions: boot, root a, root b, data."""

    def __init__(self, path):
        self.path = pathlib.Path(path)

    @classmethod
    def of(cls, image, path):
        """A card onto which the image was written."""
        run("cp", "--sparse=always", "--reflink=auto", image, path)
        os.truncate(path, CARD_BYTES)
        return cls(path)

    def copy(self, path):
        run("cp", "--sparse=always", "--reflink=auto", self.path, path)
        return Card(path)

    def partition(self, number):
        """(first byte, bytes) of a partition, by the card's own table."""
        with open(self.path, "rb") as disk:
            entry = disk.read(SECTOR)[446 + 16 * (number - 1) :][:16]
        start, length = struct.unpack("<II", entry[8:16])
        return start * SECTOR, length * SECTOR

    # The boot partition, as any PC sees it.

    def put(self, name, text):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(text)
            file.flush()
            run("mcopy", "-o", "-i", f"{self.path}@@{BOOT_OFFSET}", file.name, f"::{name}")

    def get(self, name, target=None):
        """The text of a file; with a target, the file itself is copied there. None where it is not on the card."""
        done = subprocess.run(
            ["mcopy", "-n", "-o", "-i", f"{self.path}@@{BOOT_OFFSET}", f"::{name}", str(target or "-")], capture_output=True
        )
        if done.returncode:
            return None
        return target or done.stdout.decode()

    def boot_bytes(self):
        """All sectors of the boot partition: a wiped secret must be in none."""
        start, length = self.partition(1)
        with open(self.path, "rb") as disk:
            disk.seek(start)
            return disk.read(length)

    # The data partition, while no till runs on it.

    def give_token(self, token):
        """Writes the token of the local API where the agent will find it: whoever sells from outside must know it."""
        with tempfile.TemporaryDirectory() as folder:
            script, file = pathlib.Path(folder, "script"), pathlib.Path(folder, "token")
            file.write_text(token)
            to = "lib/tillmesh/api-token"
            script.write_text(f"mkdir lib\nmkdir lib/tillmesh\nwrite {file} {to}\nsif {to} mode 0100640\n")
            run("debugfs", "-w", "-f", script, f"{self.path}?offset={self.partition(4)[0]}")

    def extract(self, name, target):
        """Copies a file of the data partition."""
        run("debugfs", "-R", f"dump {name} {target}", f"{self.path}?offset={self.partition(4)[0]}")

    def spoil(self, number, length=1 << 20, offset=0):
        """Overwrites a piece of a partition: what a worn card, or a write that never ended, looks like."""
        with open(self.path, "r+b") as disk:
            disk.seek(self.partition(number)[0] + offset)
            disk.write(os.urandom(length))

    # What U-Boot goes by: the boot state, and the slots.

    def _variables(self, sector):
        """The variables of a sector that U-Boot reads; None where its sum does not hold."""
        with open(self.path, "rb") as disk:
            disk.seek(sector * SECTOR)
            block = disk.read(SECTOR)
        if zlib.crc32(block[4:]) != struct.unpack("<I", block[:4])[0]:
            return None
        return dict(text.split("=", 1) for text in block[4:].split(b"\0\0")[0].decode().split("\0"))

    def state(self):
        """The boot state: the first copy that holds."""
        copies = [self._variables(sector) for sector in STATE_SECTORS]
        return next((copy for copy in copies if copy is not None), None)

    def set_state(self, **variables):
        text = "".join(f"{name}={value}\0" for name, value in variables.items()).encode()
        block = (text + b"\0").ljust(SECTOR - 4, b"\0")
        with open(self.path, "r+b") as disk:
            for sector in STATE_SECTORS:
                disk.seek(sector * SECTOR)
                disk.write(struct.pack("<I", zlib.crc32(block)) + block)

    def spoil_state(self, copy):
        """What a power cut leaves of a copy (0 or 1) that was being written."""
        with open(self.path, "r+b") as disk:
            disk.seek(STATE_SECTORS[copy] * SECTOR)
            disk.write(os.urandom(SECTOR))

    def header(self, slot):
        """What a slot's header says; None where it does not hold."""
        return self._variables(self.partition(SLOTS[slot])[0] // SECTOR + HEADER_SECTOR)

    def firmware(self, folder, board, overlays=()):
        """What the firmware of a Pi loads by config.txt: paths of its kernel, which is U-Boot, and of the device tree, and the command line."""
        folder = pathlib.Path(folder)
        lines = [line.split("#")[0].strip() for line in self.get("config.txt").splitlines()]
        settings = dict(line.split("=", 1) for line in lines if "=" in line)
        kernel = self.get(settings["kernel"], folder / "kernel")
        tree = self.get(f"{board}.dtb", folder / "base.dtb")
        wanted = [line.split("=")[1].split(",")[0] for line in lines if line.startswith("dtoverlay=")]
        files = [self.get(f"overlays/{name}.dtbo", folder / f"{name}.dtbo") for name in (*wanted, *overlays)]
        run("fdtoverlay", "-i", tree, "-o", folder / "tree.dtb", *files)
        return kernel, folder / "tree.dtb", self.get("cmdline.txt").strip()


def serial_settings(command_line, console, *more):
    """The command line with another console, and all that the tests need to see."""
    words = [word for word in command_line.split() if not re.match(r"(console|panic|systemd\.(mask|show_status|debug_shell|watchdog_sec))=", word)]
    return " ".join([f"console={console}", *words, "panic=-1", "systemd.show_status=0", *filter(None, more)])


def config(number, store, **more):
    """A pos-config.json of the bench: till N has the address 10.77.0.1N."""
    document = {
        "posId": f"POS-{number}",
        "posName": f"Caisse {number}",
        "store": store,
        "api": {"listen": "0.0.0.0:3031", "plaintext": True},
        "network": {"mode": "static", "address": f"10.77.0.1{number}/24", "gateway": "10.77.0.1"},
    }
    document.update(more)
    return json.dumps(document, indent=2, ensure_ascii=False)
