from setuptools import find_packages, setup

package_name = "aloe_policy"

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
    description="Camera and policy nodes of ALOE and the flow-matching chunk policy that they run.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "policy_node = aloe_policy.nodes.policy_node:main",
            "camera_node = aloe_policy.nodes.camera_node:main",
        ],
    },
)
