"""One emulated till: QEMU, its monitor, its serial line."""

import json
import pathlib
import re
import signal
import socket
import subprocess
import time
import uuid

from box import Box, Failed, eventually
from card import run, serial_settings

TOKEN = "5e" * 32
VIRT = "virt,gic-version=2"


class Till(Box):
    """A box. `machine` is virt or raspi3b; `words` are added to its kernel's command line."""

    def __init__(self, name, card, folder, lan, machine="virt", address=None):
        super().__init__(name, address, TOKEN)
        self.card, self.lan, self.machine, self.words = card, lan, machine, ""
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "serial.log"
        self._process = self._port = self._monitor = None
        # A board keeps its address for life.
        self.mac = "52:54:00:77:{:02x}:{:02x}".format(*uuid.uuid5(uuid.NAMESPACE_OID, name).bytes[:2])

    # ------------------------------------------------------------------------------------------------------------ power

    def power_on(self, state=None):
        """Starts it: cold, or from a saved state. The serial log goes on where it was."""
        self._port = self.lan.port()
        for name in ("monitor", "shell"):
            (self.folder / name).unlink(missing_ok=True)
        command = self._virt(state) if self.machine == "virt" else self._raspi3b()
        command += ["-display", "none", "-no-reboot", "-chardev", f"socket,id=qmp,path={self.folder}/monitor,server=on,wait=off"]
        command += ["-mon", "chardev=qmp,mode=control"]
        if state:
            command += ["-incoming", f"exec:cat {state}"]
        with open(self.folder / "qemu.log", "ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.started = time.monotonic()
        eventually(20, "the emulator's monitor", lambda: self.running() and (self.folder / "monitor").exists(), 0.02)
        if state:
            eventually(60, "the saved state is loaded", lambda: self.monitor("query-status")["status"] == "paused", 0.05)
            self.monitor("cont")

    def _emulator(self, machine, *more):
        # As fast as it goes with all guests together in memory: the default cache of translated code is a gigabyte each.
        return ["nice", "-n", "5", "qemu-system-aarch64", "-M", machine, "-accel", "tcg,thread=multi,tb-size=128", *map(str, more)]

    def _virt(self, state):
        # The memory of a saved state has the boot partition as it was.
        if not state:
            words = serial_settings(self.card.get("cmdline.txt"), "ttyAMA0", "systemd.debug_shell=hvc0", self.words)
            self.card.put("cmdline.txt", words)
        command = self._emulator(
            VIRT, "-bios", self.card.get("u-boot-virt.bin", self.folder / "u-boot.bin"),
            "-cpu", "cortex-a53", "-smp", "2", "-m", "256", "-nodefaults",
            "-drive", f"if=none,id=card,file={self.card.path},format=raw", "-device", "virtio-blk-device,drive=card",
            "-device", "virtio-rng-device", "-device", "i6300esb", "-chardev", f"file,id=serial,path={self.log},append=on",
            "-serial", "chardev:serial", "-device", "virtio-serial-device",
            "-chardev", f"socket,id=shell,path={self.folder}/shell,server=on,wait=off", "-device", "virtconsole,chardev=shell",
            "-netdev", f"tap,id=net,ifname={self._port},script=no,downscript=no", "-device", f"virtio-net-device,netdev=net,mac={self.mac}",
        )  # fmt: skip
        # A board has a serial number for life, by which an agent knows that its card is in another box.
        tree = self.folder / "board.dtb"
        run(*[f"{VIRT},dumpdtb={tree}" if word == VIRT else word for word in command])
        run("fdtput", "-t", "s", tree, "/", "serial-number", self.mac.replace(":", ""))
        return [*command, "-dtb", str(tree)]

    def _raspi3b(self):
        kernel, tree, command_line = self.card.firmware(self.folder, "bcm2837-rpi-3-b", ["tillmesh-qemu-raspi3b"])
        # The first serial line is the radio's on this board; the second is the console, and here a shell as well.
        # Where a Pi's watchdog is armed, this emulator resets at once.
        words = serial_settings(command_line, "ttyS1,115200", "systemd.debug_shell=ttyS1 systemd.watchdog_sec=0", self.words)
        return self._emulator(
            "raspi3b", "-kernel", kernel, "-dtb", tree, "-append", words, "-drive", f"if=sd,file={self.card.path},format=raw",
            "-serial", "null", "-chardev", f"socket,id=shell,path={self.folder}/shell,server=on,wait=off,logfile={self.log},logappend=on",
            "-serial", "chardev:shell", "-netdev", f"tap,id=net,ifname={self._port},script=no,downscript=no",
            "-device", f"usb-net,netdev=net,mac={self.mac}",
        )  # fmt: skip

    def running(self):
        if self._process.poll() is not None:
            raise Failed(f"the emulator of {self.name} has ended ({self._process.returncode}): {self.folder}/qemu.log")
        return True

    def power_cut(self):
        """Kills the emulator, at whatever point it is."""
        if self._process:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
            self.lan.remove(self._port)
        if self._monitor:
            self._monitor.close()
            self._monitor = None

    def wait_for_end(self, seconds):
        """Waits until the box has switched itself off or started itself again (which ends the emulator)."""
        self._process.wait(timeout=seconds)
        self.power_cut()

    # ---------------------------------------------------------------------------------------------------------- monitor

    def monitor(self, command, **arguments):
        """Asks the emulator, by QMP."""
        if not self._monitor:
            link = socket.socket(socket.AF_UNIX)
            link.settimeout(120)
            link.connect(str(self.folder / "monitor"))
            self._monitor = link.makefile("rw")
            json.loads(self._monitor.readline())
            self.monitor("qmp_capabilities")
        self._monitor.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._monitor.flush()
        while True:
            answer = json.loads(self._monitor.readline())
            if "error" in answer:
                raise RuntimeError(answer["error"]["desc"])
            if "return" in answer:
                return answer["return"]

    def save(self, path):
        """Writes the state of the machine to a file, and ends it. Its card belongs to the state."""
        self.monitor("stop")
        self.monitor("migrate", uri=f"exec:cat > {path}")
        done = lambda: self.monitor("query-migrate").get("status") == "completed"  # noqa: E731
        eventually(120, "the state is saved", done, 0.05)
        self.power_cut()

    def word(self, address):
        """32 bits of the machine's physical memory."""
        text = self.monitor("human-monitor-command", **{"command-line": f"xp /1wx {address:#x}"})
        return int(text.split(":")[1], 16)

    # ------------------------------------------------------------------------------------------------------------ shell

    def shell(self, command, seconds=60):
        """Runs a command in the box, as root; gives its output. It must succeed."""
        tag = uuid.uuid4().hex[:8]
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(self.folder / "shell"))
            link.settimeout(1)
            # The quotes keep the echo of the command from looking like its end.
            line = f"\nstty -echo cols 500; echo BEG''IN{tag}; {{ {command}\n}}; echo E''ND{tag} $?\n".encode()
            link.sendall(line)
            text, end, again = "", time.monotonic() + seconds, time.monotonic() + 5
            while not (found := re.search(rf"BEGIN{tag}\r?\n(.*?)END{tag} (\d+)", text, re.DOTALL)):
                # What comes while a shell starts, it throws away.
                if f"BEGIN{tag}" not in text and time.monotonic() > again:
                    link.sendall(line)
                    again = time.monotonic() + 5
                if time.monotonic() > end:
                    raise Failed(f"{self.name} does not answer on its serial line: {command}: {text[-300:]!r}")
                try:
                    text += link.recv(65536).decode(errors="replace")
                except TimeoutError:
                    self.running()
        output = re.sub(r"\x1b[\[\]P][?0-9;!]*[a-zA-Z]?", "", found[1]).replace("\r", "")
        if found[2] != "0":
            raise RuntimeError(f"{command}: exit {found[2]}: {output.strip()}")
        return output.strip()
