"""A server as a process: says where it listens, ends on SIGINT and SIGTERM."""

from __future__ import annotations

import ipaddress
import logging
import signal
import sys
import threading

from aloe_policy.remote.server import PolicyServer, PolicyService


def serve_until_signal(service: PolicyService, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; AloeError if `host`:`port` cannot be listened on. For the main thread."""
    logging.basicConfig(level=logging.INFO, format="policy-server: %(message)s", stream=sys.stderr)
    logging.getLogger("websockets.server").setLevel(logging.CRITICAL)  # port scans and the like; ours says the rest
    server = PolicyServer(service, host, port)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    thread = threading.Thread(target=server.serve_forever, name="serving")
    thread.start()
    if not ipaddress.ip_address(server.host).is_loopback:
        print(
            f"policy-server: every machine that reaches {server.host}:{server.port} can use this policy.",
            file=sys.stderr,
            flush=True,
        )
    shown = f"[{server.host}]" if ":" in server.host else server.host
    print(f"policy-server: {service.offer.version} on ws://{shown}:{server.port}", flush=True)
    ended.wait()
    server.shutdown()
    thread.join()
