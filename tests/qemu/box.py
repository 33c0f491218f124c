"""A till as whoever is on its network sees it: its local API. Emulated or real."""

import http.client
import json
import time
import uuid

API_PORT = 3031
PRODUCT_PRICE = 1500


class Failed(Exception):
    """What a scenario expected did not come true."""


def eventually(seconds, what, holds, pause=0.1):
    """Waits until `holds` gives something true, and gives it. An error counts as not yet."""
    end, reason = time.monotonic() + seconds, None
    while True:
        try:
            value = holds()
            if value:
                return value
            reason = value
        except (OSError, ValueError, KeyError, RuntimeError, http.client.HTTPException) as error:
            reason = error
        if time.monotonic() >= end:
            raise Failed(f"not within {seconds:.0f} s: {what} (last: {reason!r})")
        time.sleep(pause)


class Box:
    """A till with an address, and the token of its API."""

    def __init__(self, name, address, token):
        self.name, self.address, self.token = name, address, token
        self.started = time.monotonic()

    def running(self):
        return True

    def call(self, method, path, body=None, timeout=10):
        """A request to the local API: (status, answer)."""
        link = http.client.HTTPConnection(self.address, API_PORT, timeout=timeout)
        try:
            headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
            link.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = link.getresponse()
            text = answer.read()
        finally:
            link.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text.decode(errors="replace")

    def status(self):
        code, status = self.call("GET", "/v1/status")
        if code != 200:
            raise RuntimeError(f"status: {code}")
        return status

    def sell(self, timeout=10):
        """Sells one coffee; gives the ticket's id once the till has acknowledged it."""
        ident = str(uuid.uuid4())
        ticket = {
            "id": ident,
            "lines": [{"name": "Café", "quantity": 1, "unitPrice": PRODUCT_PRICE}],
            "payments": [{"method": "cash", "amount": PRODUCT_PRICE}],
        }
        code, answer = self.call("POST", "/v1/tickets", ticket, timeout)
        if code != 201:
            raise RuntimeError(f"not sold: {code} {answer}")
        return ident

    def has(self, ident):
        return self.call("GET", f"/v1/tickets/{ident}")[0] == 200

    def wait_selling(self, seconds):
        """Waits for the first sale; gives its id and how long the box took since it was switched on."""
        ident = eventually(seconds, f"{self.name} sells", lambda: self.running() and self.sell(3))
        return ident, time.monotonic() - self.started
