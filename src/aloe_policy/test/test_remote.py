"""The client against real server processes: openpi's protocol and nothing else, and this suite's own server."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from aloe_core.contract import load_contract
from aloe_core.errors import AloeError
from aloe_core.types import Observation, Plan
from aloe_policy.chunking import Chunking
from aloe_policy.remote.mapping import Mapping
from aloe_policy.remote.runtime import RemoteOptions, RemoteRuntime
from aloe_policy.runtime import load_runtime
from aloe_policy.untrained import write_untrained
from server_processes import Served, native, openpi
from tiny_policy import CONTRACT, tiny_contract

STATE = np.array([0.5, -1.0], np.float32)


def observation(prompt="sort", **changes):
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 255, (24, 32, 3), dtype=np.uint8) for name in ("front", "wrist")}
    return replace(Observation(0, images, STATE, prompt, seed=3, chunk_number=1), **changes)


class Client:
    """A runtime whose changes of connection can be waited for."""

    def __init__(self, url: str, contract=None, mapping=None, **options) -> None:
        self._changed = threading.Condition()
        self.crashes: list[Exception] = []
        self.runtime = RemoteRuntime(
            RemoteOptions(url, **{"timeout": 1.5, "warm_up": 60.0} | options),
            contract or tiny_contract(),
            mapping,
            changed=self._notify,
            crashed=self.crashes.append,
        )

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def until(self, condition, what: str, timeout: float = 60.0) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, timeout), f"{what}: {self.runtime.problem} {self.crashes}"

    def connected(self) -> RemoteRuntime:
        self.until(lambda: self.runtime.problem is None, "connected")
        return self.runtime

    def refused(self, said: str) -> None:
        self.until(lambda: self.runtime.problem and said in self.runtime.problem, said)

    def __enter__(self) -> Client:
        self.runtime.start()
        return self

    def __exit__(self, *_) -> None:
        self.runtime.close()
        assert not self.crashes


@pytest.fixture
def server(tmp_path):
    with openpi(tmp_path / "server.log") as running:
        yield running


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("native")
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(CONTRACT))
    return write_untrained(folder, load_contract(path), "v7", small=True), path


def test_an_openpi_server_drives(server):
    with Client(server.url) as client:
        inference = client.connected().infer(observation())
        np.testing.assert_allclose(inference.chunk.actions, STATE + 0.01 * np.arange(1, 9)[:, None], rtol=1e-6)
        assert (inference.value, inference.candidates, inference.chunk.execute) == (None, 1, 4)
        version = client.runtime.version
        assert version.startswith(f"127.0.0.1:{server.port}@"), "address and hash of the metadata"
        assert inference.chunk.policy_version == version and inference.chunk.chunk_id == f"{version}/3/1/0"


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("nan", "chunk is not finite"),
        ("short", "has 5 rows: expected at least 8"),
        ("wide", "expected rows of 2 numbers"),
        ("text", "expected rows of 2 numbers"),
        ("far", "far beyond"),
        ("nothing", "its answer has no 'actions'; it has state, server_timing"),
    ],
)
def test_an_answer_that_cannot_run_is_refused_and_the_next_one_is_asked_for(server, prompt, said):
    with Client(server.url) as client:
        runtime = client.connected()
        with pytest.raises(AloeError, match=said):
            runtime.infer(observation(prompt))
        assert np.isfinite(runtime.infer(observation()).chunk.actions).all()


def test_an_error_of_the_server_arrives_as_its_last_line_and_the_client_connects_again(server):
    with Client(server.url) as client:
        with pytest.raises(AloeError, match="reports an error \\(KeyError: 'observation/wrist_image'\\)"):
            client.connected().infer(observation("error"))
        client.connected().infer(observation())


def test_a_slow_answer_is_not_waited_for_nor_taken_for_that_of_the_next_request(server):
    with Client(server.url) as client:
        runtime = client.connected()
        start = time.monotonic()
        with pytest.raises(AloeError, match=r"no answer within 1\.5 s"):
            runtime.infer(observation("slow"))
        assert time.monotonic() - start < 3.5
        with pytest.raises(AloeError, match=r"no answer within 1\.5 s"):
            runtime.infer(observation())
        moved = observation(state=STATE + 0.1)
        np.testing.assert_allclose(client.connected().infer(moved).chunk.actions[0], STATE + 0.11, rtol=1e-5)


def test_a_server_killed_while_it_computes_is_told_at_once_and_its_successor_drives(server, tmp_path):
    with Client(server.url) as client:
        runtime = client.connected()
        with pytest.raises(AloeError, match="the connection was lost"):
            runtime.infer(observation("die"))
        assert server.process.wait(10) == 1
        client.refused("cannot connect")
        start = time.monotonic()
        with pytest.raises(AloeError, match="cannot connect"):
            runtime.infer(observation())
        assert time.monotonic() - start < 0.5, "no waiting for a connection"
        with openpi(tmp_path / "second.log", server.port):
            client.connected().infer(observation())


def test_an_idle_server_that_is_killed_is_noticed_without_a_request(server):
    with Client(server.url) as client:
        client.connected()
        server.end()
        client.refused("cannot connect")


def test_a_server_that_does_not_even_read_is_given_up_in_time(server):
    """Stopped, with a request larger than the buffers of the sockets."""
    camera = {"key": "observation/front", "size": [1500, 1500]}
    with Client(server.url, mapping=Mapping.model_validate({"cameras": {"front": camera}}), timeout=5.0) as client:
        runtime = client.connected()
        os.kill(server.process.pid, signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(AloeError, match="Policy server"):
            runtime.infer(observation())
        assert time.monotonic() - start < 15
        os.kill(server.process.pid, signal.SIGCONT)
        client.connected()


def test_a_client_waits_for_a_server_that_is_not_there_yet(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Client(f"ws://127.0.0.1:{port}") as client:
        client.refused("cannot connect")
        with openpi(tmp_path / "log", port):
            client.connected().infer(observation())


def test_something_else_that_listens_is_refused_in_a_sentence():
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Client(f"ws://127.0.0.1:{listener.getsockname()[1]}") as client,
    ):
        client.refused("cannot connect (timed out")


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "http://x", ""])
def test_an_address_of_another_kind_is_bad_input(url):
    with pytest.raises(AloeError, match="expected ws://host:port"):
        RemoteOptions(url)


def test_a_mode_of_chunking_that_the_server_does_not_offer_is_refused(server):
    with Client(server.url, chunking="rtc") as client:
        client.refused("chunking = 'rtc', and the server offers 'receding'")


def test_samples_of_an_openpi_server_are_as_many_requests(server):
    with Client(server.url) as client:
        assert client.connected().sample(observation(), 3).shape == (3, 8, 2)


@pytest.mark.slow
def test_a_checkpoint_behind_the_server_answers_as_it_does_in_process(checkpoint, tmp_path):
    """The same numbers: chunk, choice by the critic, value, version; seeds go along."""
    directory, path = checkpoint
    torch.set_num_threads(1)
    here = load_runtime(directory, load_contract(path), candidates=5)
    with native(directory, path, tmp_path / "log") as server, Client(server.url, candidates=5, timeout=30.0) as client:
        assert server.line.startswith("policy-server: v7 on ws://127.0.0.1:")
        runtime = client.connected()
        for number in range(3):
            obs = observation(chunk_number=number)
            expected, got = here.infer(obs), runtime.infer(obs)
            np.testing.assert_allclose(got.chunk.actions, expected.chunk.actions, atol=1e-5)
            assert got.value is not None and expected.value is not None
            assert got.value.q_min == pytest.approx(expected.value.q_min, abs=1e-5)
            assert (got.candidates, got.chunk.policy_version, got.value.critic_version) == (5, "v7", "v7")
        samples = runtime.sample(observation(), 4)
        np.testing.assert_allclose(samples, here.sample(observation(), 4), atol=1e-5)
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        client.refused("cannot connect")


@pytest.mark.slow
def test_real_time_chunking_works_through_the_server(checkpoint, tmp_path):
    directory, path = checkpoint
    torch.set_num_threads(1)
    here = load_runtime(directory, load_contract(path), candidates=1, chunking=Chunking("rtc"))
    obs = observation(plan=Plan(np.full((6, 2), 0.3, np.float32), 3))
    with (
        native(directory, path, tmp_path / "log", "--chunking", "rtc") as server,
        Client(server.url, candidates=1, chunking="rtc", timeout=30.0) as client,
    ):
        got, expected = client.connected().infer(obs), here.infer(obs)
        assert got.chunk.frozen_steps == 3 and (got.chunk.actions[:3] == np.float32(0.3)).all()
        np.testing.assert_allclose(got.chunk.actions, expected.chunk.actions, atol=1e-5)


@pytest.mark.slow
def test_a_checkpoint_for_another_contract_is_refused(checkpoint, tmp_path):
    directory, path = checkpoint
    other = tiny_contract(chunk={"horizon": 8, "execute": 2})
    with native(directory, path, tmp_path / "log") as server, Client(server.url, other) as client:
        client.refused(f"expected {other.hash}, that of tiny")


@pytest.mark.slow
def test_a_bad_observation_is_refused_by_the_server_and_others_go_on(checkpoint, tmp_path):
    from aloe_policy.remote.connection import Connection

    directory, path = checkpoint
    good = {
        "observation/front": np.zeros((24, 32, 3), np.uint8),
        "observation/wrist": np.zeros((24, 32, 3), np.uint8),
        "observation/state": STATE,
        "prompt": "sort",
    }
    cases = [
        (good | {"observation/front": np.zeros((5, 5, 3), np.uint8)}, "camera 'front' has shape"),
        (good | {"observation/front": "picture"}, "observation/front: expected an image"),
        (good | {"observation/state": np.zeros(5)}, "joint state of shape"),
        (good | {"observation/state": np.full(2, np.nan)}, "finite numbers"),
        (good | {"aloe/samples": 10**6}, "aloe/samples = 1000000: expected a whole number, 1 to 256"),
        (good | {"aloe/plan": np.zeros((3, 9))}, "plan"),
        ({}, "observation/front: expected an image"),
        ([1, 2], "a list: expected a dict"),
    ]
    with native(directory, path, tmp_path / "log", "--chunking", "rtc") as server:
        first = Connection(server.url, 60.0)
        for bad, said in cases:
            other = Connection(server.url, 60.0)
            with pytest.raises(AloeError, match=said):
                other.request(bad, 60.0)
            other.close()
        two = [first.request(good, 60.0)["actions"] for _ in range(2)]
        assert two[0].shape == (8, 2) and not np.array_equal(*two), "without a seed every answer is sampled anew"
        first.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "either --checkpoint DIR or --lerobot DIR"),
        (["--checkpoint", "nowhere"], "nowhere: no such checkpoint."),
        (["--lerobot", "nowhere"], "nowhere: expected a folder with config.json"),
    ],
)
def test_the_server_says_in_a_sentence_what_it_cannot_serve(tmp_path, arguments, said):
    import subprocess

    command = [sys.executable, "-m", "aloe_cli", "policy-server", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_port_that_is_taken_is_told(checkpoint, tmp_path):
    directory, path = checkpoint
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AssertionError, match="cannot listen on 127"):
            command = [sys.executable, "-m", "aloe_cli", "policy-server", "--port", str(port)]
            Served([*command, "--checkpoint", str(directory), "--contract", str(path)], tmp_path / "log")
