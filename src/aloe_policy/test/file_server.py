"""An HTTP server over a folder, as a process: honours Range, and goes wrong as it is told.

    python file_server.py FOLDER [--port P] [--cut NAME=BYTES] [--die NAME=BYTES] [--no-range] [--status CODE]

Prints its port, then a line for every request: path, first byte asked for, status.
"""

from __future__ import annotations

import argparse
import os
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_BLOCK = 1 << 14


class Handler(BaseHTTPRequestHandler):
    options: argparse.Namespace

    def do_GET(self) -> None:
        given = self.options
        path = Path(given.folder) / self.path.lstrip("/")
        match = None if given.no_range else re.match(r"bytes=(\d+)-$", self.headers.get("Range", ""))
        start = int(match[1]) if match else 0
        status = given.status or (404 if not path.is_file() else 206 if match else 200)
        print(self.path, start, status, flush=True)
        if status >= 400:
            self.send_error(status)
            return
        content = path.read_bytes()[start:]
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        for kind in ("cut", "die"):
            name, _, count = getattr(given, kind).partition("=")
            if name and path.name == name:
                self.wfile.write(content[: int(count)])
                self.wfile.flush()
                if kind == "die":
                    os._exit(0)
                setattr(given, kind, "")  # the next transfer goes through
                self.connection.close()
                return
        for first in range(0, len(content), _BLOCK):
            self.wfile.write(content[first : first + _BLOCK])

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--cut", default="")
    parser.add_argument("--die", default="")
    parser.add_argument("--no-range", action="store_true")
    parser.add_argument("--status", type=int, default=0)
    Handler.options = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", Handler.options.port), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
