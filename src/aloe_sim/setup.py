from setuptools import find_packages, setup

package_name = "aloe_sim"

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
    description="MuJoCo bimanual station, tasks, scripted expert and scripted human of ALOE.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "sim_node = aloe_sim.nodes.sim_node:main",
            "scripted_human = aloe_sim.nodes.scripted_human:main",
        ],
    },
)
