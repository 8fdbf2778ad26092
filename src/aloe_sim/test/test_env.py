import os
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from aloe_core.errors import AloeError
from aloe_sim.env import StationEnv, env_id, register
from aloe_sim.expert import Expert
from aloe_sim.tasks import TASKS
from sim_tools import CONTRACT, ROBOT

# Joint positions are neither bounded by physics nor scaled to one; both are meant.
MEANT = ("A Box observation space m", "For Box action spaces, we recommend")


@pytest.fixture(scope="module")
def env():
    env = gymnasium.make("aloe/Sorting-v0", contract=CONTRACT, render_mode="rgb_array")
    yield env
    env.close()


@pytest.mark.parametrize("task", TASKS)
def test_gymnasium_accepts_every_task_without_a_warning_that_is_not_meant(task):
    env = gymnasium.make(env_id(task), contract=CONTRACT)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env.unwrapped)
    env.close()
    told = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    assert [text for text in told if not any(words in text for words in MEANT)] == []


def test_ids_are_the_tasks_names():
    assert env_id("phone_packing") == "aloe/PhonePacking-v0"
    register()  # harmless when repeated
    assert {name for name in gymnasium.registry if name.startswith("aloe/")} == {env_id(task) for task in TASKS}


def test_make_passes_on_level_variant_and_randomisation():
    level = TASKS["sorting"].levels[1]
    settings = {"level": level, "variant": "held_out", "randomisation": "low"}
    env = gymnasium.make("aloe_sim.env:aloe/Sorting-v0", contract=ROBOT, **settings)
    station = env.unwrapped.station
    assert (station.level, station.task.variant, station.randomisation) == (level, "held_out", "low")
    env.close()


@pytest.mark.slow
def test_environments_run_in_processes_of_their_own_as_they_do_in_this_one(env):
    envs = gymnasium.make_vec("aloe/Sorting-v0", 2, "async", vector_kwargs={"context": "spawn"}, contract=CONTRACT)
    try:
        observation, info = envs.reset(seed=[5, 6])
        action = observation["state"]
        observation, reward, *_ = envs.step(action)
        assert reward.tolist() == [0.0, 0.0] and info["instruction"].shape == (2,)
    finally:
        envs.close()
    for i, seed in enumerate((5, 6)):
        env.reset(seed=seed)
        alone, *_ = env.step(action[i])
        np.testing.assert_array_equal(observation["state"][i], alone["state"])
        np.testing.assert_array_equal(observation["images"]["top"][i], alone["images"]["top"])


def test_a_fork_of_a_process_that_renders_is_told_instead_of_hanging(env):
    env.reset(seed=0)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            StationEnv(ROBOT).reset(seed=0)
        except AloeError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        assert "context 'spawn'" in told.read()
    os.waitpid(child, 0)


def test_success_ends_an_episode_with_reward_one(env):
    env.reset(seed=3)
    expert = Expert(env.unwrapped.station)
    rewards, terminated, truncated = [], False, False
    while not (terminated or truncated):
        _, reward, terminated, truncated, info = env.step(expert.act().astype(np.float32))
        rewards.append(reward)
    assert terminated and not truncated and info["success"]
    assert sum(rewards) == rewards[-1] == 1.0


def test_doing_nothing_is_truncated_at_the_time_limit():
    env = StationEnv(ROBOT)
    observation, info = env.reset(seed=1)
    assert "block" in info["instruction"]
    steps, truncated = 0, False
    while not truncated:
        observation, reward, terminated, truncated, _ = env.step(observation["state"])
        assert reward == 0.0 and not terminated
        steps += 1
    assert steps == env.station.steps_limit
    env.close()


def test_the_front_view_is_for_people(env):
    env.reset(seed=0)
    assert env.render().shape == (480, 640, 3)


@pytest.mark.parametrize("action", [np.zeros(13), np.full(14, np.nan)])
def test_an_action_that_is_none_is_refused(env, action):
    env.reset(seed=0)
    with pytest.raises(AloeError, match="expected 14 finite numbers"):
        env.unwrapped.step(action)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"render_mode": "human"}, "render mode 'human'"),
        ({"task": "juggling"}, "Unknown task 'juggling'"),
        ({"level": "impossible"}, "unknown level 'impossible'"),
        ({"variant": "purple"}, "unknown variant 'purple'"),
        ({"randomisation": "wild"}, "randomisation 'wild'"),
    ],
)
def test_what_is_unknown_is_refused(settings, words):
    with pytest.raises(AloeError, match=words):
        StationEnv(ROBOT, **settings)
