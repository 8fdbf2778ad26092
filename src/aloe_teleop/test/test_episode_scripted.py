"""reset:=scripted: the robot's own script moves it while the arbiter stands back, then the episode begins."""

from aloe_msgs.msg import ControlMode

from episode_world import finish, running, send


def test_the_script_runs_before_every_episode_and_nobody_is_waited_for(tmp_path):
    with running(tmp_path, reset="scripted", simulated=True) as graph:
        world, _ = graph
        result = finish(graph, send(graph, seeds=[1, 2]))
        assert result.success, result.message
        assert world.scripts == 2
        causes = [mode.cause for mode in world.modes]
        assert causes.count("episode begins") == 2 and world.modes[-1].mode == ControlMode.RESET
