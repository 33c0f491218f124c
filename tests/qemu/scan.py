"""Scans all ports of a host: which of them its firewall lets a stranger reach, whether or not somebody listens there."""

import errno
import resource
import select
import socket
import time

ALL_PORTS = range(1, 65536)
# Sockets open at a time.
BATCH = 4000


def tcp(address, ports=ALL_PORTS, answer=0.4):
    """{port: "open" | "closed"}: those that answer within so many seconds. A port behind a firewall that drops is in neither."""
    reached = {}
    ports = list(ports)
    _allow_sockets()
    for first in range(0, len(ports), BATCH):
        _tcp_batch(address, ports[first : first + BATCH], answer, reached)
    return reached


def _allow_sockets():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, BATCH + 200) if hard > 0 else BATCH + 200, hard))


def _tcp_batch(address, ports, answer, reached):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    target = socket.getaddrinfo(address, 0, family, socket.SOCK_STREAM)[0][4]
    poll, links = select.poll(), {}
    for port in ports:
        link = socket.socket(family, socket.SOCK_STREAM)
        link.setblocking(False)
        code = link.connect_ex((target[0], port, *target[2:]))
        if code == errno.EINPROGRESS:
            links[link.fileno()] = (port, link)
            poll.register(link, select.POLLOUT)
            continue
        reached.update({port: "open"} if code == 0 else {port: "closed"} if code == errno.ECONNREFUSED else {})
        link.close()
    end = time.monotonic() + answer
    while links and (left := end - time.monotonic()) > 0:
        for handle, _ in poll.poll(left * 1000):
            port, link = links.pop(handle)
            code = link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code in (0, errno.ECONNREFUSED):
                reached[port] = "closed" if code else "open"
            poll.unregister(handle)
            link.close()
    for _, link in links.values():
        link.close()


def udp(address, ports=ALL_PORTS, answer=0.2):
    """The ports that a datagram gets through to: those whose host answers that nobody listens there.

    The host must not limit the rate of such answers (net.ipv4.icmp_ratelimit=0), and nobody may listen on the ports of interest.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    target = socket.getaddrinfo(address, 0, family, socket.SOCK_DGRAM)[0][4]
    reached, ports = set(), list(ports)
    _allow_sockets()
    for first in range(0, len(ports), BATCH):
        links = []
        for port in ports[first : first + BATCH]:
            link = socket.socket(family, socket.SOCK_DGRAM)
            link.setblocking(False)
            link.connect((target[0], port, *target[2:]))
            link.send(b"?")
            links.append((port, link))
        time.sleep(answer)
        for port, link in links:
            if link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED:
                reached.add(port)
            link.close()
    return reached
