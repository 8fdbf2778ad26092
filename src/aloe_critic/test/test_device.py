"""Training on a GPU: everything is where it must be, and what is learned comes back."""

from __future__ import annotations

import pytest
import torch

from aloe_core.errors import AloeError
from aloe_critic.hyper import make_hyper
from aloe_critic.learners import METHODS, OWN, method
from aloe_critic.precision import autocast, device_of
from aloe_policy.runtime import load_models
from pretend_gpu import DEVICE, Gpu, OnGpu
from test_learners_all import CONTRACT, clone, episodes, job_of

SWITCHES = {
    "aloe_takeover": {"long_chunk": 10, "prior_scale": 0.3, "target_samples": 3, "feature_noise": 0.1},
    "aloe_select": {"advantage_steps": 10, "human_share": 0.5, "refit_from": "warm_start", "image_shift": 2},
    "td1": {"takeover": "never", "continuation": "segment", "prefix": False},
}


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A folder with the checkpoint of a clone."""
    return clone(tmp_path_factory.mktemp("checkpoints"))


def learn(name, warm, device):
    job = job_of(episodes(), device=device, **(OWN.get(name, {}) | SWITCHES.get(name, {})))
    job.start_from(load_models(warm / "v0001-bc", CONTRACT))
    if name == "bc":
        job.policy = None
    return method(name)(job)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns_on_a_gpu_what_it_learns_on_the_cpu(name, warm, monkeypatch):
    expected = learn(name, warm, "cpu")
    monkeypatch.setattr("aloe_critic.job.device_of", lambda _hyper: DEVICE)
    with Gpu():
        learned = learn(name, warm, "cpu")
        networks = [network for network in (learned.policy, learned.critic) if network is not None]
        assert all(isinstance(p, OnGpu) for network in networks for p in network.parameters()), "it was there"
        learned.cpu()
    for ours, theirs in ((learned.policy, expected.policy), (learned.critic, expected.critic)):
        if theirs is not None:
            found = ours.state_dict()
            assert not any(isinstance(tensor, OnGpu) for tensor in found.values())
            for key, tensor in theirs.state_dict().items():
                torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=1e-5, msg=f"{name}: {key}")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns_on_the_gpu_that_is_there(name, warm):
    learned = learn(name, warm, "cuda")
    assert next(learned.policy.parameters()).is_cuda
    assert all(tensor.isfinite().all() for tensor in learned.cpu().policy.state_dict().values())


def test_tensors_on_and_off_the_gpu_do_not_mix():
    with Gpu():
        there = torch.ones(2, device=DEVICE)
        with pytest.raises(RuntimeError, match="on the GPU and on the CPU"):
            there + torch.ones(2)
        assert torch.equal((there + 1).cpu(), torch.full((2,), 2.0))


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("banana", "expected cpu, cuda or cuda:N"),
        ("meta", "expected cpu, cuda"),
        ("cuda:7", "PyTorch finds 1 GPUs here"),
    ],
)
def test_a_device_that_is_not_there_is_one_sentence(device, words, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(AloeError, match=words):
        device_of(make_hyper({"device": device}))


@pytest.mark.parametrize(
    ("asked", "tiles", "bfloat16"),
    [("auto", True, True), ("auto", False, False), ("bfloat16", False, True), ("float32", True, False)],
)
def test_bfloat16_is_used_on_a_cpu_with_amx_alone_unless_it_is_asked_for(asked, tiles, bfloat16, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    with autocast(make_hyper({"precision": asked})):
        assert torch.is_autocast_enabled("cpu") == bfloat16
