"""Cards of emulated tills: copies of the image, provisioned as a technician would, read as the board's firmware would."""

import json
import os
import pathlib
import re
import struct
import subprocess
import tempfile

# A power of two: what the emulated card reader takes.
CARD_BYTES = 1 << 30
BOOT_OFFSET = 1 << 20
SECTOR = 512


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

    def spoil(self, number, length=1 << 20):
        """Overwrites the beginning of a partition: what a worn card, or a write that never ended, looks like."""
        with open(self.path, "r+b") as disk:
            disk.seek(self.partition(number)[0])
            disk.write(os.urandom(length))

    def firmware(self, folder, board=None, overlays=()):
        """What the firmware of a board loads by config.txt: paths of kernel, initrd and device tree, and the kernel's command line."""
        folder = pathlib.Path(folder)
        lines = [line.split("#")[0].strip() for line in self.get("config.txt").splitlines()]
        settings = dict(line.split("=", 1) for line in lines if "=" in line)
        prefix = settings.get("os_prefix", "")
        initrd = next(line.split()[1] for line in lines if line.startswith("initramfs "))
        kernel = self.get(prefix + settings["kernel"], folder / "kernel")
        initrd = self.get(prefix + initrd, folder / "initrd")
        command_line = self.get(f"{prefix}cmdline.txt").strip()
        if board is None:
            return kernel, initrd, None, command_line
        tree = self.get(f"{prefix}{board}.dtb", folder / "base.dtb")
        wanted = [line.split("=")[1].split(",")[0] for line in lines if line.startswith("dtoverlay=")]
        files = [self.get(f"{prefix}overlays/{name}.dtbo", folder / f"{name}.dtbo") for name in (*wanted, *overlays)]
        run("fdtoverlay", "-i", tree, "-o", folder / "tree.dtb", *files)
        return kernel, initrd, folder / "tree.dtb", command_line


def serial_settings(command_line, console):
    """The command line with another console, and all that the tests need to see."""
    words = [word for word in command_line.split() if not re.match(r"(console|panic)=", word)]
    return " ".join([f"console={console}", *words, "panic=-1", "systemd.show_status=0"])


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
