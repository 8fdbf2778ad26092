"""Checkpoints pushed to S3 and fetched by a running policy node: a real moto server, through `make test-s3`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

NEEDS = "s3fs and moto are not installed: run make test-s3"
s3fs = pytest.importorskip("s3fs", reason=NEEDS)
pytest.importorskip("moto", reason=NEEDS)
pytest.importorskip("flask_cors", reason=NEEDS)

from aloe_msgs.msg import ControlMode

from aloe_core.checkpoint import manifest_sha256
from aloe_core.errors import AloeError
from aloe_critic.upload import push
from aloe_policy.checkpoint_cache import PARTIAL, CheckpointCache
from aloe_policy.urls import Unreachable, remote_latest

HELPERS = Path(__file__).parents[1] / "src/aloe_policy/test"
sys.path.insert(0, str(HELPERS))
from test_policy_node import running_node
from tiny_policy import tiny_contract, write_tiny

URL = "s3://robots/checkpoints"
MODEL = "model.safetensors"
WEIGHTS = os.urandom(3_000_000)


class Moto:
    """A moto server process with one bucket; what it holds dies with it."""

    def __init__(self, port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._log = log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        while not self._answers():
            assert self._process.poll() is None, log.read_text()
        s3fs.S3FileSystem(skip_instance_cache=True).mkdir("robots")

    def _answers(self) -> bool:
        try:
            return urlopen(f"{self.url}/moto-api/", timeout=5).status == 200
        except (URLError, ConnectionError):
            return False

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()


@pytest.fixture
def moto(tmp_path, monkeypatch):
    """Start a server, again and again if asked for, on one port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()  # it remembers the endpoint of the test before
    started = []

    def start() -> Moto:
        started.append(Moto(port, tmp_path / "moto.log"))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.mark.timeout(600)
def test_a_download_goes_on_after_the_store_was_gone(tmp_path, moto):
    server = moto()
    first = write_tiny(tmp_path / "checkpoints", "v1", weights=WEIGHTS)
    assert push(first, URL) == f"{URL}/v1"
    assert remote_latest(URL) == "v1"
    cache = CheckpointCache(tmp_path / "cache", tiny_contract().hash)
    kept = lambda: next(cache.root.glob(f"{PARTIAL}*/{MODEL}")).stat().st_size  # noqa: E731
    with pytest.raises(AloeError, match="given up at 1048576 of 3000000"):
        cache.fetch(f"{URL}/v1", stopped=lambda: any(cache.root.glob(f"{PARTIAL}*/{MODEL}")))
    assert kept() == 1 << 20
    server.kill()
    with pytest.raises(Unreachable, match=r"s3://robots/checkpoints/v1/manifest\.json: cannot be reached"):
        cache.fetch(f"{URL}/v1")
    assert kept() == 1 << 20
    moto()
    push(first, URL)
    copy = cache.fetch(f"{URL}/v1", manifest_sha256(first))
    assert (copy / MODEL).read_bytes() == WEIGHTS
    with pytest.raises(AloeError, match="no such file") as missing:
        cache.fetch(f"{URL}/v9")
    assert not isinstance(missing.value, Unreachable)
    with pytest.raises(AloeError, match="no such file"):
        push(first, "s3://another-bucket/checkpoints")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_policy_node_swaps_to_what_was_pushed_to_s3(tmp_path, moto, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HELPERS), os.environ.get("PYTHONPATH", "")]))
    moto()
    write_tiny(tmp_path / "checkpoints", "v1")
    second = write_tiny(tmp_path / "trained", "v2", weights=WEIGHTS)
    with running_node(tmp_path, cache_dir=tmp_path / "cache") as (station, _):
        station.reports("policy v1")
        station.task("e1")
        station.frame()
        station.joints()
        station.mode(ControlMode.POLICY)
        chunk = station.chunk(1)
        station.announce(second, uri=push(second, URL))
        station.reports("policy v2")
        station.run(chunk)
        assert station.chunk(2).policy_version == "v2"
