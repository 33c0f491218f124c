"""The network of the bench: a bridge in a network namespace of its own, which this process is in."""

import os
import sys

from card import run

ADDRESS = "10.77.0.1"


def enter_namespace(script):
    """Starts the script again in a network namespace of its own, unless it is in one already."""
    if os.environ.get("TILLMESH_BENCH_INSIDE") != "1":
        environment = dict(os.environ, TILLMESH_BENCH_INSIDE="1")
        os.execvpe("unshare", ["unshare", "--net", "--mount", sys.executable, script, *sys.argv[1:]], environment)


class Lan:
    """A switch; we are on it too."""

    def __init__(self):
        run("ip", "link", "set", "lo", "up")
        # Without snooping, as in a small shop's switch: every port hears all multicast.
        run("ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        run("ip", "address", "add", f"{ADDRESS}/24", "dev", "br0")
        run("ip", "-6", "address", "add", "fd77::1/64", "dev", "br0", "nodad")
        run("ip", "link", "set", "br0", "up")
        self._ports = 0

    def port(self):
        """The name of a new port."""
        self._ports += 1
        name = f"tap{self._ports}"
        run("ip", "tuntap", "add", name, "mode", "tap")
        run("ip", "link", "set", name, "master", "br0", "up")
        return name

    def remove(self, name):
        run("ip", "link", "delete", name)
