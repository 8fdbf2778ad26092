import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from aloe_core.errors import AloeError
from aloe_sim.env import SortingEnv, register
from aloe_sim.expert import Expert
from sim_tools import CONTRACT, ROBOT


@pytest.fixture
def env():
    register()
    env = gymnasium.make("aloe/Sorting-v0", contract=CONTRACT, render_mode="rgb_array")
    yield env
    env.close()


@pytest.mark.filterwarnings("ignore:.*Box observation space")
def test_gymnasium_accepts_the_environment(env):
    check_env(env.unwrapped, skip_render_check=True)


def test_success_ends_an_episode_with_reward_one(env):
    env.reset(seed=3)
    expert = Expert(env.unwrapped._station)
    rewards, terminated, truncated = [], False, False
    while not (terminated or truncated):
        _, reward, terminated, truncated, info = env.step(expert.act().astype(np.float32))
        rewards.append(reward)
    assert terminated and not truncated and info["success"]
    assert sum(rewards) == rewards[-1] == 1.0


def test_doing_nothing_is_truncated_at_the_time_limit():
    env = SortingEnv(ROBOT)
    observation, info = env.reset(seed=1)
    assert "block" in info["instruction"]
    steps, truncated = 0, False
    while not truncated:
        observation, reward, terminated, truncated, _ = env.step(observation["state"])
        assert reward == 0.0 and not terminated
        steps += 1
    assert steps == round(8.0 / ROBOT.dt)
    env.close()


def test_the_front_view_is_for_people(env):
    env.reset(seed=0)
    assert env.render().shape == (480, 640, 3)


def test_an_unknown_render_mode_is_refused():
    with pytest.raises(AloeError, match="render mode 'human'"):
        SortingEnv(ROBOT, render_mode="human")
