"""Network cameras for tests, as a process: MJPEG over HTTP, or RTSP with MJPEG in RTP over the same TCP connection.

    python stream_server.py http|rtsp PORT JPEG

Sends the same 4:2:0 JPEG 20 times a second; prints its port when it listens.
"""

from __future__ import annotations

import re
import socket
import struct
import sys
import threading
from contextlib import suppress
from pathlib import Path

PERIOD = 0.05  # s
PACKET = 1400  # bytes of scan data in an RTP packet


def http(connection: socket.socket, jpeg: bytes) -> None:
    connection.recv(4096)
    connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
    pause = threading.Event()
    while True:
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        connection.sendall(head.encode() + jpeg + b"\r\n")
        pause.wait(PERIOD)


def rtsp(connection: socket.socket, jpeg: bytes) -> None:
    """The few requests that a player needs (RFC 2326), then frames."""
    requests = connection.makefile("rb")
    while True:
        method = requests.readline().decode().split(" ")[0]
        headers = dict(
            re.findall(r"(\S+): (.*)", "".join(iter(lambda: requests.readline().decode().strip() + "\n", "\n")))
        )
        if not method:
            return
        answer = [f"CSeq: {headers.get('CSeq', 0)}"]
        body = ""
        if method == "OPTIONS":
            answer += ["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"]
        elif method == "DESCRIBE":
            body = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:track\r\n"
            answer += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        elif method == "SETUP":
            answer += ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1"]
        else:
            answer += ["Session: 1"]
        connection.sendall(("RTSP/1.0 200 OK\r\n" + "\r\n".join(answer) + "\r\n\r\n" + body).encode())
        if method == "PLAY":
            play(connection, jpeg)
            return


def play(connection: socket.socket, jpeg: bytes) -> None:
    """Send frames as RTP payload 26 (RFC 2435), interleaved."""
    height, width = struct.unpack(">HH", jpeg[jpeg.index(b"\xff\xc0") + 5 :][:4])
    tables = b"".join(t[1:] for t in re.findall(rb"\xff\xdb\x00\x43(.{65})", jpeg, re.DOTALL))
    scan = jpeg[jpeg.index(b"\xff\xda") :]
    scan = scan[2 + struct.unpack(">H", scan[2:4])[0] : -2]
    sequence = clock = 0
    pause = threading.Event()
    while True:
        for offset in range(0, len(scan), PACKET):
            part = scan[offset : offset + PACKET]
            last = offset + PACKET >= len(scan)
            head = struct.pack(">BBHII", 0x80, 26 | 0x80 * last, sequence & 0xFFFF, clock, 1)
            head += struct.pack(">IBBBB", offset, 1, 255, width // 8, height // 8)  # type 1: 4:2:0, tables follow
            if offset == 0:
                head += struct.pack(">BBH", 0, 0, len(tables)) + tables
            connection.sendall(struct.pack(">cBH", b"$", 0, len(head + part)) + head + part)
            sequence += 1
        clock += round(90_000 * PERIOD)
        pause.wait(PERIOD)


def serve(connection: socket.socket, kind: str, jpeg: bytes) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # the viewer left
        {"http": http, "rtsp": rtsp}[kind](connection, jpeg)


def main() -> None:
    kind, port, jpeg = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).read_bytes()
    with socket.create_server(("127.0.0.1", port)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            connection, _ = server.accept()
            threading.Thread(target=serve, args=(connection, kind, jpeg), daemon=True).start()


if __name__ == "__main__":
    main()
