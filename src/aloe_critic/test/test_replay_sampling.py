"""Proportions of what is drawn, and the budget of the frame cache."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from aloe_core.episode.data import Outcome, Source
from aloe_core.errors import AloeError
from aloe_critic.hyper import make_hyper
from aloe_critic.replay import Replay, Sampler, window_weights
from aloe_critic.replay.drawing import drawing
from aloe_critic.replay.frames import FrameCache, decode
from aloe_critic.replay.sampling import human_or_not
from synthetic import reach_episode, small_contract

CONTRACT = small_contract()


def mixed_replay():
    """Two demonstrations, then six rollouts of which three fail; the last two of another task."""
    replay = Replay(CONTRACT, 5, 64)
    for seed in range(8):
        ep = reach_episode(
            CONTRACT,
            seed,
            source=Source.HUMAN if seed < 2 else Source.POLICY,
            outcome=Outcome.FAILURE if seed in (3, 5, 7) else Outcome.SUCCESS,
        )
        replay.add(replace(ep, task="sort") if seed >= 6 else ep)
    return replay, replay.windows(gamma=0.9, max_length=40, failure_cost=40)


def shares(values, drawn):
    return torch.bincount(values[drawn], minlength=int(values.max()) + 1).double() / len(drawn)


def test_every_batch_is_half_human_whatever_the_sizes():
    _, w = mixed_replay()
    sampler = Sampler(torch.ones(len(w)), groups=human_or_not(w), seed=1)
    human = w.source == int(Source.HUMAN)
    assert float(human.double().mean()) == 0.25
    for _ in range(20):
        assert int(human[sampler.draw(64)].sum()) == 32
    odd = torch.stack([human[sampler.draw(5)].sum() for _ in range(2000)]).double()
    assert set(odd.tolist()) == {2.0, 3.0} and abs(float(odd.mean()) - 2.5) < 0.05
    drawn = torch.cat([sampler.draw(64) for _ in range(400)])
    counts = torch.bincount(drawn[human[drawn]], minlength=len(w))[human].double()
    assert float(counts.std() / counts.mean()) < 0.06  # uniform within the group


def test_the_share_of_an_empty_group_goes_to_the_others():
    _, w = mixed_replay()
    rollouts = (w.source != int(Source.HUMAN)).double()
    drawn = Sampler(rollouts, groups=human_or_not(w)).draw(100)
    assert len(drawn) == 100 and bool((w.source[drawn] == int(Source.POLICY)).all())
    with pytest.raises(AloeError, match=r"none of .* windows"):
        Sampler(torch.zeros(len(w)))
    with pytest.raises(AloeError, match="finite and not negative"):
        Sampler(torch.full((3,), -1.0))


def test_weights_by_source_outcome_task_and_recency_multiply():
    replay, w = mixed_replay()
    n = 200_000
    weight = window_weights(replay, w, source={Source.HUMAN: 3.0, Source.POLICY: 1.0})
    drawn = Sampler(weight, seed=2).draw(n)
    assert abs(float((w.source[drawn] == int(Source.HUMAN)).double().mean()) - 0.5) < 0.005  # 3 * 2 of 3 * 2 + 6
    only = window_weights(replay, w, outcome={Outcome.SUCCESS: 1.0}, task={"sort": 1.0})
    assert set(w.episode[Sampler(only).draw(1000)].tolist()) == {6}
    recent = window_weights(replay, w, half_life=2.0)
    share = shares(w.episode, Sampler(recent, seed=3).draw(n))
    expected = 0.5 ** (torch.arange(7, -1, -1).double() / 2)
    torch.testing.assert_close(share, expected / expected.sum(), atol=0.005, rtol=0)
    assert window_weights(replay, w).tolist() == [1.0] * len(w)


def test_draws_repeat_from_a_seed_and_continue_from_a_state():
    a, b = (Sampler(torch.ones(50), seed=7) for _ in range(2))
    assert torch.equal(a.draw(100), b.draw(100))
    state = a.state()
    first = a.draw(100)
    b.set_state(state)
    assert torch.equal(b.draw(100), first)
    assert not torch.equal(b.draw(100), first)


def test_a_weight_of_zero_is_never_drawn_and_large_sets_can_be():
    weight = torch.zeros(2**24 + 10)
    weight[[5, 2**24 + 3]] = torch.tensor([1.0, 3.0])
    drawn = Sampler(weight).draw(4000)
    assert set(drawn.tolist()) == {5, 2**24 + 3}
    assert abs(float((drawn == 5).double().mean()) - 0.25) < 0.04


def numbered(number: int) -> np.ndarray:
    return np.full((2, 4, 3), number % 251, np.uint8)


def test_the_cache_stays_within_its_budget_and_returns_the_right_frames():
    loads = []

    def load(number, out):
        loads.append(number)
        out[:] = numbered(number)

    cache = FrameCache((2, 4), 10 * 24 + 5, load)
    rng = np.random.default_rng(0)
    for _ in range(300):
        wanted = rng.integers(0, 40, rng.integers(1, 60))
        got = cache.get(wanted)
        np.testing.assert_array_equal(got.numpy(), np.stack([numbered(n) for n in wanted]))
        assert cache.bytes <= 10 * 24
    assert cache.kept == 10
    few = np.array([1, 2, 3, 2])
    cache.get(few)
    loads.clear()
    cache.get(few)
    assert loads == []
    np.testing.assert_array_equal(cache.get(np.array([49, 1])).numpy(), np.stack([numbered(49), numbered(1)]))


def jpeg_of(seed: int, *, gray: bool = False, exif: bytes = b"") -> bytes:
    """A JPEG of 24x40, with an EXIF block after its first marker if asked for."""
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.integers(0, 256, (24, 40, 3), np.uint8), (5, 5), 0)
    ok, data = cv2.imencode(".jpg", image[..., 0] if gray else image)
    assert ok
    return bytes(data[:2]) + exif + bytes(data[2:])


# APP1 "Exif", little-endian TIFF, one entry: orientation 3, half a turn.
TURNED = bytes.fromhex("ffe1 0022 457869660000 49492a00 08000000 0100 1201 0300 01000000 03000000 00000000")

COMMENT = b"\xff\xfe\x01\x00" + bytes(254)


def test_frames_are_the_pixels_that_opencv_sees():
    whole = [jpeg_of(0), jpeg_of(1), jpeg_of(2, gray=True), jpeg_of(3, exif=TURNED), jpeg_of(3, exif=COMMENT + TURNED)]
    whole.append(bytes(cv2.imencode(".png", np.full((24, 40, 3), 7, np.uint8))[1]))
    turned = cv2.imdecode(np.frombuffer(whole[3], np.uint8), cv2.IMREAD_COLOR)
    plain = cv2.imdecode(np.frombuffer(jpeg_of(3), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(turned, plain[::-1, ::-1])
    np.testing.assert_array_equal(turned, cv2.imdecode(np.frombuffer(whole[4], np.uint8), cv2.IMREAD_COLOR))
    for data in whole:
        seen = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        np.testing.assert_array_equal(decode(data, "", (24, 40)), seen)
        out = np.zeros((24, 40, 3), np.uint8)
        assert decode(data, "", (24, 40), out) is out
        np.testing.assert_array_equal(out, seen)


@pytest.mark.parametrize("size", [(24, 39), (23, 40), (48, 80), (12, 20)])
def test_a_frame_of_another_size_or_none_is_one_sentence(size):
    with pytest.raises(AloeError, match=f"top: frames of 40x24: expected {size[1]}x{size[0]}"):
        decode(jpeg_of(0), "top", size)
    for data in (b"", b"\xff\xd8", b"not an image", jpeg_of(0)[:-200]):
        with pytest.raises(AloeError, match="top: a frame is not a JPEG"):
            decode(data, "top", size)


def test_a_replay_within_the_budget_decodes_every_frame_once(monkeypatch):
    replay = Replay(CONTRACT, 5, 64)
    for seed in range(3):
        replay.add(reach_episode(CONTRACT, seed))
    monkeypatch.setattr(replay.cache, "_load", lambda *_: pytest.fail("decoded again"))
    assert replay.pixels(torch.arange(replay.rows)).shape == (27, 1, 3, 32, 32)


def test_memory_of_the_cache_is_what_was_put_in_however_many_episodes_there_are():
    replay = Replay(CONTRACT, 5, 64, cache_bytes=8 * 32 * 32 * 3)
    for seed in range(6):
        replay.add(reach_episode(CONTRACT, seed))
    assert replay.cache.bytes <= 8 * 32 * 32 * 3 < replay.rows * 32 * 32 * 3
    whole = replay.pixels(torch.arange(replay.rows))
    assert replay.cache.kept == 8
    large = Replay(CONTRACT, 5, 64)
    for ep in replay.episodes:
        large.add(ep)
    assert torch.equal(whole, large.pixels(torch.arange(large.rows)))


def test_cameras_of_different_sizes_are_refused():
    camera = CONTRACT.cameras[0]
    other = camera.model_copy(update={"name": "side", "width": 48})
    with pytest.raises(AloeError, match="top 32x32, side 48x32"):
        Replay(CONTRACT.model_copy(update={"cameras": (camera, other)}), 5, 64)


@pytest.mark.parametrize(
    ("asked", "human", "failed"),
    [
        ({}, 0.25, 0.375),
        ({"human_share": 0.5}, 0.5, 0.25),
        ({"sample_source": {"human": 3, "policy": 1}}, 0.5, 0.25),
        ({"sample_outcome": {"failure": 1}}, 0.0, 1.0),
        ({"sample_task": {"sort": 2}}, 0.0, 0.5),
        ({"sample_half_life": 1e-3}, 0.0, 1.0),
    ],
)
def test_hyperparameters_say_what_batches_are_made_of(asked, human, failed):
    replay, w = mixed_replay()
    torch.manual_seed(0)
    draw = drawing(replay, w, make_hyper(asked), torch.arange(len(w)))
    state = torch.get_rng_state()
    drawn = draw(40_000)
    assert abs(float((w.source[drawn] == int(Source.HUMAN)).double().mean()) - human) < 0.01
    assert abs(float(replay.outcome(Outcome.FAILURE)[w.episode[drawn]].double().mean()) - failed) < 0.01
    torch.set_rng_state(state)  # all that a run saves of its batches
    assert torch.equal(draw(40_000), drawn)
    some = torch.arange(0, len(w), 2)
    assert bool(torch.isin(drawing(replay, w, make_hyper(asked), some)(1000), some).all())


def test_sampling_that_leaves_nothing_and_unknown_names_are_one_sentence():
    replay, w = mixed_replay()
    with pytest.raises(AloeError, match=r"none of 64 windows"):
        drawing(replay, w, make_hyper({"sample_task": {"fold": 1}}), torch.arange(len(w)))
    for asked in ({"sample_source": {"robot": 1}}, {"sample_outcome": {"success": -1}}, {"human_share": 2}):
        with pytest.raises(AloeError, match=next(iter(asked))) as caught:
            make_hyper(asked)
        assert "\n" not in str(caught.value)
