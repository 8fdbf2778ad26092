"""policy_node as a process: checkpoints over HTTP from a server process that goes away, lies and comes back."""

from __future__ import annotations

import os

import pytest
from aloe_msgs.msg import ControlMode
from aloe_msgs.srv import LoadCheckpoint

from serving import Server, serving
from test_policy_node import running_node
from tiny_policy import write_tiny

MODEL = "model.safetensors"

pytestmark = pytest.mark.usefixtures("helpers_on_path")


def begin(station):
    """Let the policy drive; return its first chunk."""
    station.reports("policy v1")
    station.task("e1")
    station.frame()
    station.joints()
    station.mode(ControlMode.POLICY)
    return station.chunk(1)


def test_a_server_that_dies_in_a_transfer_is_waited_for_while_the_old_policy_drives(tmp_path):
    store, cache = tmp_path / "store", tmp_path / "cache"
    write_tiny(tmp_path / "checkpoints", "v1")
    second = write_tiny(store, "v2", weights=os.urandom(2_000_000))
    server = Server(store, "--die", f"{MODEL}=1200000")
    with running_node(tmp_path, cache_dir=cache) as (station, _):
        chunk = begin(station)
        station.announce(second, uri=f"{server.url}/v2")
        station.reports("Tried again in")
        server.stop()
        station.run(chunk)
        chunk = station.chunk(2)
        assert chunk.policy_version == "v1"
        with serving(store, "--port", server.port) as back:
            station.reports("policy v2")
            assert (f"/v2/{MODEL}", 1_200_000, 206) in back.stop()
        station.run(chunk)
        assert station.chunk(3).policy_version == "v2"
    assert [p.name[:2] for p in cache.iterdir() if p.is_dir()] == ["v2"]


REFUSED = {
    "v2": ({"slope": "nan"}, None, "not finite"),
    "v3": ({"slope": 5.0}, None, "far beyond"),
    "v4": ({"contract_hash": "ffff"}, None, "contract_hash"),
    "v5": ({}, lambda d: (d / MODEL).write_bytes(b"tinX"), "not what its manifest.json promises"),
    "v6": ({}, lambda d: (d / "config.json").unlink(), "HTTP 404"),
}


def test_what_a_server_offers_and_cannot_drive_is_refused(tmp_path):
    """By service and by announcement; the old policy drives on after each."""
    store = tmp_path / "store"
    write_tiny(tmp_path / "checkpoints", "v1")
    with running_node(tmp_path, cache_dir=tmp_path / "cache") as (station, _), serving(store) as server:
        chunk = begin(station)
        for number, (version, (changes, spoil, says)) in enumerate(REFUSED.items(), 2):
            bad = write_tiny(store, version, **changes)
            if spoil:
                spoil(bad)
            url = f"{server.url}/{version}"
            answer = station.spinner.call(station.load, LoadCheckpoint.Request(uri=url))
            assert not answer.success and says in answer.message
            station.announce(bad, uri=url, sha256="")
            station.reports(says)
            station.run(chunk)
            chunk = station.chunk(number)
            assert chunk.policy_version == "v1"


def test_latest_of_a_url_is_loaded_at_the_start_and_looked_at_again(tmp_path):
    store = tmp_path / "store"
    write_tiny(store, "v1")
    given = {"checkpoint_poll": 0.3, "cache_dir": tmp_path / "cache"}
    with (
        serving(store) as server,
        running_node(tmp_path, checkpoint_dir=server.url, **given) as (station, _),
    ):
        station.reports("policy v1")
        write_tiny(store, "v2")
        station.reports("policy v2")
        write_tiny(store, "v3", slope="nan")
        station.reports("not finite")
        write_tiny(store, "v4")
        station.reports("policy v4")
        asked = [path for path, _, _ in server.stop()]
    assert asked.count("/v3/manifest.json") == 1, "what was refused is not tried at every look"
