"""What the security files allow is what the running nodes need; nothing listens outside; nothing is unpickled."""

import ast
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import security_policy as security

COMMAND = "/command/joint_trajectory"
POLICY = security.read_policy((security.OUT / security.POLICY).read_text())
PICKLES = ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal")
UDP_PORTS = 250  # a domain


@pytest.fixture(scope="module")
def running():
    """Every node as a process, once all have what the policy says or nothing changes: (endpoints, sockets, maps)."""
    with security.Nodes() as nodes:
        found = security.allowed(nodes.settled(), "/")
        pids = nodes.processes.items()
        maps = {name: Path(f"/proc/{pid}/maps").read_text() for name, pid in pids}
        return found, {name: list(sockets(pid)) for name, pid in pids}, maps


def sockets(pid: int):
    """Yield (protocol, local address, port, state) of a process's Internet sockets; addresses of IPv6 stay in hex."""
    links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    for protocol in ("udp", "udp6", "tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{protocol}").read_text().splitlines()[1:]:
            words = line.split()
            if words[9] in inodes:
                address, port = words[1].split(":")
                if len(address) == 8:
                    address = socket.inet_ntoa(struct.pack("<I", int(address, 16)))
                yield protocol, address, int(port, 16), words[3]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_policy_allows_each_node_what_it_has_and_nothing_else(running):
    found, *_ = running
    assert set(found) == set(POLICY)
    for name, has in found.items():
        assert has == POLICY[name], f"{name}: run scripts/security_policy.py"


@pytest.mark.slow
def test_dds_listens_on_this_host_only(running):
    """Ports that DDS announces lie in the range of the domain; other UDP sockets only send, nobody reads them."""
    _, all_sockets, _ = running
    first = 7400 + UDP_PORTS * int(os.environ["ROS_DOMAIN_ID"])
    for name, found in all_sockets.items():
        announced = [s for s in found if s[0].startswith("udp") and first <= s[2] < first + UDP_PORTS]
        assert announced and {address for _, address, _, _ in announced} == {"127.0.0.1"}, (name, found)
        assert [s for s in found if s[0].startswith("tcp") and s[3] == "0A"] == [], name


@pytest.mark.slow
def test_dds_shares_no_memory(running):
    """After a SIGKILL what is left of it can keep a node that is started again from hearing the others (ADR 22)."""
    *_, maps = running
    assert {name for name, mapped in maps.items() if "/dev/shm/fastrtps" in mapped} == set()
    assert all("libfastrtps" in mapped for mapped in maps.values())


def test_only_the_arbiter_may_write_the_robots_command():
    assert [name for name, has in POLICY.items() if COMMAND in has.publish] == ["arbiter_node"]
    writers = [
        file.stem
        for file in sorted((security.OUT / "permissions").glob("*.xml"))
        if f"<topic>rt{COMMAND}</topic>" in file.read_text().split("<subscribe>")[0]
    ]
    assert writers == ["arbiter_node"]


def test_permissions_say_what_the_policy_says():
    for name, has in POLICY.items():
        assert (security.OUT / "permissions" / f"{name}.xml").read_text() == security.permissions_xml(name, has, 0)
    assert {file.stem for file in (security.OUT / "permissions").glob("*.xml")} == set(POLICY)


def test_every_node_of_the_launch_files_runs_in_the_enclave_that_is_named_after_it():
    lines = [line for file in (ROOT / "launch").glob("*.xml") for line in file.read_text().splitlines()]
    ours = [line for line in lines if '<node pkg="aloe_' in line]
    assert len(ours) > 10
    for line in ours:
        name = line.split('name="')[1].split('"')[0]
        assert name in POLICY and f'ros_args="--enclave {security.ENCLAVES}/{name}"' in line, line


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")
def test_openssl_signs_the_files_as_the_page_says(tmp_path):
    """The commands of docs/security.md, run as they stand there."""
    page = (ROOT / "docs/security.md").read_text()
    commands = page.split("```bash\n# keystore by hand\n")[1].split("```")[0]
    done = subprocess.run(
        ["bash", "-euc", commands], cwd=ROOT, env={**os.environ, "KEYS": str(tmp_path)}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    ca = tmp_path / "public/ca.cert.pem"
    for name in POLICY:
        enclave = tmp_path / f"enclaves/aloe/{name}"
        assert {p.name for p in enclave.iterdir()} >= {"cert.pem", "key.pem", "governance.p7s", "permissions.p7s"}
        for signed in ("governance.p7s", "permissions.p7s"):
            verify = ["openssl", "smime", "-verify", "-in", str(enclave / signed), "-CAfile", str(ca)]
            assert subprocess.run(verify, capture_output=True).returncode == 0, (name, signed)
        subject = ["openssl", "x509", "-noout", "-subject", "-nameopt", "RFC2253", "-in", str(enclave / "cert.pem")]
        assert subprocess.run(subject, capture_output=True, text=True).stdout.strip() == f"subject=CN=/aloe/{name}"


def python_files():
    return [f for part in ("src", "scripts") for f in (ROOT / part).rglob("*.py") if "build" not in f.parts]


def test_nothing_is_unpickled():
    """Neither by a module that does it nor by torch.load or numpy.load told to."""
    found = []
    for file in python_files():
        text = file.read_text()
        if not any(word in text for word in (*PICKLES, "torch.load", "allow_pickle")):
            continue  # parsing every file is slow
        for node in ast.walk(ast.parse(text)):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            found += [f"{file}: imports {name}" for name in names if name.split(".")[0] in PICKLES]
            if isinstance(node, ast.Call):
                called, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
                if called == "torch.load" and given.get("weights_only") != "True":
                    found.append(f"{file}:{node.lineno}: torch.load without weights_only")
                if given.get("allow_pickle") == "True":
                    found.append(f"{file}:{node.lineno}: allow_pickle")
    assert found == []
