"""A policy server that speaks openpi's protocol and nothing else, run as a process: openpi_server.py PORT.

Written from openpi's websocket_policy_server.py: asyncio, metadata first, a traceback as text and the end on an error,
and it computes in its event loop, so that it answers no ping meanwhile. It ramps by 0.01 a step from
observation/state, over 10 rows of 2 columns. The prompt says how it misbehaves.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
import traceback

import numpy as np
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from aloe_policy.remote import wire

METADATA = {"reset_pose": [0, 1.5]}


def infer(obs: dict) -> dict:
    prompt = obs["prompt"]
    actions = obs["observation/state"] + 0.01 * np.arange(1, 11, dtype=np.float64)[:, None]
    if prompt == "nan":
        actions[3, 1] = np.nan
    elif prompt == "short":
        actions = actions[:5]
    elif prompt == "wide":
        actions = np.repeat(actions, 2, axis=1)
    elif prompt == "far":
        actions += 100
    elif prompt == "nothing":
        return {"state": obs["observation/state"]}
    elif prompt == "error":
        raise KeyError("observation/wrist_image")
    elif prompt == "slow":
        time.sleep(4.0)
    elif prompt == "die":
        os._exit(1)
    elif prompt == "text":
        actions = np.full((10, 2), "x")
    return {"actions": actions, "policy_timing": {"infer_ms": 0.1}}


async def handle(websocket) -> None:
    await websocket.send(wire.pack(METADATA))
    while True:
        try:
            answer = infer(wire.unpack(await websocket.recv()))
            await websocket.send(wire.pack({**answer, "server_timing": {"infer_ms": 0.1}}))
        except ConnectionClosed:
            return
        except Exception:
            await websocket.send(traceback.format_exc())
            await websocket.close(1011, "Internal server error. Traceback included in previous frame.")
            raise


async def main(port: int) -> None:
    async with serve(handle, "127.0.0.1", port, compression=None, max_size=None) as server:
        print(f"openpi on ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
