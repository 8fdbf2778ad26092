"""The simulated robot and its table: resets, control ticks, joint states, camera frames."""

from __future__ import annotations

import atexit
import os
import weakref
from functools import cache, cached_property

import mujoco
import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError
from aloe_core.kinematics import RobotModel, load_model
from aloe_sim.disturb import Disturbance, Disturbances, Disturber
from aloe_sim.kinematics import Kinematics, Pose
from aloe_sim.randomise import Randomiser, add_backdrop, check_level
from aloe_sim.robots import robot_for
from aloe_sim.tasks import make_task
from aloe_sim.tasks.base import Scene

SETTLE = 0.2  # s of physics at home before time 0
_FLAGS = 4  # time, success, failure, stage lead a snapshot
_FULL = mujoco.mjtState.mjSTATE_INTEGRATION


class Station(Scene):
    """One simulated station; not thread-safe, and frames must be rendered in the thread that made it."""

    def __init__(
        self,
        contract: RobotContract,
        task: str = "sorting",
        level: str = "easy",
        variant: str = "train",
        render: bool = True,
        randomisation: str = "none",
        disturbances: Disturbances | None = None,
    ) -> None:
        """Build the scene; AloeError for an unknown task, level, variant or randomisation, or a contract unserved.

        `randomisation` none, low or high varies look and friction with the seed, never the start state.
        """
        check_level(randomisation)
        self.contract = contract
        self.task = make_task(task, level, variant)
        self.task_name, self.level, self.variant, self.randomisation = task, level, variant, randomisation
        self.robot = robot_for(contract)
        if self.task.arms > len(self.robot.arms):
            raise AloeError(
                f"Contract {contract.name}: task {task}, level {level} needs {self.task.arms} arms; "
                f"robot {self.robot.name} has {len(self.robot.arms)}."
            )
        self._substeps = int(np.ceil(contract.dt / self.task.physics_step - 1e-9))
        spec = self.robot.build(contract.dt / self._substeps)
        self.task.build(spec, self.robot)
        if randomisation != "none":
            add_backdrop(spec)
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        self._randomiser = self._make_randomiser()
        self._disturber = Disturber(self, disturbances)
        self._index_joints()
        self._index_contacts()
        self.can_render = render
        self._renderers: dict[tuple[int, int], mujoco.Renderer] = {}
        self.tick = 0
        self.instruction = ""
        self.time_limit = self.task.time_limit
        self.steps_limit = round(self.time_limit / contract.dt)
        self.home = np.array([self.robot.home[name] for name in contract.joint_names])
        self.home_poses = self.kinematics.poses(self.home)
        self.reset(0)

    # --- the station's API -------------------------------------------------------------------------------------

    def reset(self, seed: int) -> None:
        """Put the arms at home and the objects at the places `seed` names, at rest, time 0; repeatable bit for bit."""
        mujoco.mj_resetData(self.model, self.data)
        if self._randomiser:
            self._randomiser.restore()
        self.data.qpos[self._qpos] = self.home
        self.data.qpos[self._mirror_qpos] = -self.home[self._grippers]
        self.data.ctrl[:] = self._controls(self.home)
        self.instruction = self.task.reset(self.model, self.data, np.random.default_rng(seed))
        for _ in range(round(SETTLE / self.model.opt.timestep)):
            mujoco.mj_step(self.model, self.data)
        self.data.time = 0.0
        self.tick = 0
        if self._randomiser:
            self._randomiser.draw(seed)
        self._disturber.reset(seed)
        self._look()

    def step(self, action: np.ndarray) -> None:
        """Run one control tick towards `action` [A], joint positions in contract order, rad (m for grippers)."""
        if self._disturber.update():
            self._look()
        self.task.interact(self)
        self.data.ctrl[:] = self._controls(np.asarray(action, dtype=np.float64))
        for _ in range(self._substeps):
            mujoco.mj_step(self.model, self.data)
        self.tick += 1
        self._look()

    def disturb(self, disturbance: Disturbance) -> None:
        """Let something go wrong now; AloeError for an unknown kind, item or camera, or what cannot be done now."""
        self._disturber.apply(disturbance)
        self._look()

    @property
    def disturbed(self) -> list[tuple[int, Disturbance]]:
        """What went wrong since the reset, with its tick; targets are those that were drawn."""
        return list(self._disturber.done)

    def joint_positions(self) -> np.ndarray:
        """Return measured positions, float32 [J], contract order, rad (m for grippers)."""
        return self.data.qpos[self._qpos].astype(np.float32)

    @property
    def time(self) -> float:
        """Simulated time since reset, s."""
        return self.tick * self.contract.dt

    @property
    def stamp(self) -> int:
        """Simulated time since reset, ns."""
        return round(self.tick * 1e9 / self.contract.control.rate_hz)

    @property
    def success(self) -> bool:
        return self._success

    @property
    def failure(self) -> bool:
        return self._failure

    @property
    def stage(self) -> float:
        """Progress, 0..1, for diagnosis only."""
        return self._stage

    def frame_due(self, camera: str) -> bool:
        """Whether a frame of `camera` is due at this tick."""
        return self.tick % frame_period(self.contract, camera) == 0

    def render(self, camera: str) -> np.ndarray:
        """Return what a contract camera sees now, frozen or not, uint8 [height, width, 3] RGB."""
        frozen = self._disturber.frame(camera)
        if frozen is not None:
            return frozen
        size = self.contract.camera(camera)
        return self.view(camera, size.width, size.height)

    def view(self, camera: str, width: int, height: int) -> np.ndarray:
        """Return what any scene camera (also `front`) sees now, uint8 [height, width, 3] RGB."""
        if not self.can_render:
            raise AloeError("This station was made with render=False and has no cameras.")
        renderer = self._renderers.get((width, height)) or self._renderer(width, height)
        renderer.update_scene(self.data, camera)
        return renderer.render()

    def snapshot(self) -> np.ndarray:
        """Return time (s), success, failure, stage, then the full physics state, float64."""
        state = np.empty(_FLAGS + mujoco.mj_stateSize(self.model, _FULL))
        state[:_FLAGS] = self.time, self.success, self.failure, self.stage
        mujoco.mj_getState(self.model, self.data, state[_FLAGS:], _FULL)
        return state

    def restore(self, state: np.ndarray) -> None:
        """Become the station `state` was taken from; AloeError if it has another size (another task or level)."""
        expected = _FLAGS + mujoco.mj_stateSize(self.model, _FULL)
        if state.shape != (expected,):
            raise AloeError(
                f"Simulator state of shape {list(state.shape)}: expected [{expected}] of this task and level."
            )
        self.tick = round(state[0] / self.contract.dt)
        physics = np.ascontiguousarray(state[_FLAGS:])
        mujoco.mj_setState(self.model, self.data, physics, _FULL)
        mujoco.mj_forward(self.model, self.data)
        mujoco.mj_setState(self.model, self.data, physics, _FULL)  # forward has moved the solver's warm start
        self._judge()

    @cached_property
    def kinematics(self) -> Kinematics:
        """The robot's arms alone, for whoever plans motion."""
        return Kinematics(self.robot, self.contract.joint_names)

    @cached_property
    def contract_model(self) -> RobotModel | None:
        """The contract's model, for the arbiter's safety filter."""
        return load_model(self.contract)

    def close(self) -> None:
        """Free the renderers."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    # --- Scene -------------------------------------------------------------------------------------------------

    def position(self, item: str) -> np.ndarray:
        return self.data.body(item).xpos.copy()

    def speed(self, item: str) -> float:
        velocity = self.data.joint(item).qvel
        return float(np.linalg.norm(velocity[:3]) + 0.02 * np.linalg.norm(velocity[3:]))

    def rotation(self, item: str) -> np.ndarray:
        return self.data.body(item).xmat.reshape(3, 3).copy()

    def hand(self, arm: str) -> Pose:
        site = self.data.site(self.robot.arms[arm].pinch)
        return Pose(site.xpos.copy(), site.xmat.reshape(3, 3).copy())

    def opening(self, arm: str) -> float:
        return float(self.data.joint(self.robot.arms[arm].fingers[0]).qpos[0])

    def penetration(self) -> float:
        """Return how deep the deepest contact is, m."""
        return float(-min(self.data.contact.dist, default=0.0))

    def supported(self, item: str) -> bool:
        return item in self._supported

    def touching(self, arm: str, item: str) -> int:
        return len(self._touches.get((arm, item), ()))

    # --- inside ------------------------------------------------------------------------------------------------

    def _make_randomiser(self) -> Randomiser | None:
        if self.randomisation == "none":
            return None
        pads = [body for arm in self.robot.arms.values() for body in arm.finger_bodies]
        return Randomiser(self.model, self.randomisation, self.task.items, pads, self.contract.camera_names)

    def _renderer(self, width: int, height: int) -> mujoco.Renderer:
        _render_here()
        try:
            renderer = mujoco.Renderer(self.model, height, width)
        except (ImportError, RuntimeError, AttributeError, mujoco.FatalError) as error:
            raise AloeError(
                f"No frames can be rendered with MUJOCO_GL={os.environ.get('MUJOCO_GL', '')!r} ({error}): "
                "install libegl1 and libgl1-mesa-dri (apt), or set MUJOCO_GL to egl, osmesa or glfw."
            ) from error
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            renderer.scene.flags[flag] = False
        self._renderers[width, height] = renderer
        _open.add(self)
        _close_at_exit()
        return renderer

    def _index_joints(self) -> None:
        model, robot, names = self.model, self.robot, self.contract.joint_names
        joints = [robot.joints[n] for n in names]
        mirror = {arm.fingers[0]: arm.fingers[1] for arm in robot.arms.values()}
        self._grippers = np.array([i for i, j in enumerate(joints) if j in mirror])
        mirrors = [mirror[joints[i]] for i in self._grippers]
        self._qpos = np.array([model.joint(j).qposadr[0] for j in joints])
        self._mirror_qpos = np.array([model.joint(j).qposadr[0] for j in mirrors])
        self._ctrl = np.array([model.actuator(j).id for j in joints])
        self._mirror_ctrl = np.array([model.actuator(j).id for j in mirrors])

    def _index_contacts(self) -> None:
        """Name each geom after what a person would: a finger (arm, body) or an item."""
        fingers = {body: name for name, arm in self.robot.arms.items() for body in arm.finger_bodies}
        self._finger_of: dict[int, tuple[str, str]] = {}
        self._item_of: dict[int, str] = {}
        for geom in range(self.model.ngeom):
            body = self.model.body(self.model.geom_bodyid[geom]).name
            if body in self.task.items:
                self._item_of[geom] = body
            elif body in fingers:
                self._finger_of[geom] = (fingers[body], body)

    def _controls(self, action: np.ndarray) -> np.ndarray:
        low, high = self.model.actuator_ctrlrange.T
        controls = np.zeros(self.model.nu)
        controls[self._ctrl] = action
        controls[self._mirror_ctrl] = -action[self._grippers]
        return np.clip(controls, low, high)

    def _look(self) -> None:
        # mj_step leaves positions of the step before in xpos and contacts; detectors must see this one.
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        mujoco.mj_flex(self.model, self.data)
        mujoco.mj_collision(self.model, self.data)
        self._judge()

    def _judge(self) -> None:
        self._touches: dict[tuple[str, str], set[str]] = {}
        self._supported: set[str] = set()
        for pair in self.data.contact.geom:
            for other, geom in (pair, pair[::-1]):
                item = self._item_of.get(geom)
                if item is None:
                    continue
                if other in self._finger_of:
                    arm, side = self._finger_of[other]
                    self._touches.setdefault((arm, item), set()).add(side)
                else:
                    self._supported.add(item)
        self._success, self._failure = self.task.succeeded(self), self.task.failed(self)
        self._stage = 1.0 if self._success else self.task.progress(self)


_rendering: set[int] = set()  # process that renders, and the processes it was forked from


def _render_here() -> None:
    """AloeError where OpenGL would hang: its threads do not live on in a fork."""
    _rendering.add(os.getpid())
    if len(_rendering) > 1:
        raise AloeError(
            "No frames can be rendered in a process forked from one that renders: start it with the context 'spawn'."
        )


_open: weakref.WeakSet[Station] = weakref.WeakSet()


@cache
def _close_at_exit() -> None:
    """To be called once a renderer is there: mujoco's own exit hook, which takes EGL away, then runs after this one."""
    atexit.register(lambda: [station.close() for station in list(_open)])


def frame_period(contract: RobotContract, camera: str) -> int:
    """Return the control ticks from one frame of `camera` to the next."""
    return max(1, round(contract.control.rate_hz / contract.camera(camera).rate_hz))
