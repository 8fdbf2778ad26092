from setuptools import find_packages, setup

package_name = "aloe_teleop"

setup(
    name=package_name,
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package_name}"]),
        (f"share/{package_name}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="ALOE for ROS 2 maintainers",
    maintainer_email="maintainers@aloe-ros.org",
    description="Takeover, arbiter, episode manager and episode recorder nodes of ALOE.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "arbiter_node = aloe_teleop.nodes.arbiter_node:main",
            "joy_reader = aloe_teleop.nodes.joy_reader:main",
            "takeover_node = aloe_teleop.nodes.takeover_node:main",
            "episode_manager = aloe_teleop.nodes.episode_manager:main",
            "episode_recorder = aloe_teleop.nodes.episode_recorder:main",
        ],
    },
)
