# Robot side: nodes, recorder and policy on a full ROS 2. Build from the repository root:
#   docker build -f docker/robot.Dockerfile -t aloe-robot .
FROM ros:jazzy-ros-base AS base
ENV ALOE_PROFILE=robot OMP_WAIT_POLICY=PASSIVE
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      python3-evdev python3-numpy python3-opencv python3-venv \
      ros-jazzy-cv-bridge ros-jazzy-joy ros-jazzy-rmw-fastrtps-cpp ros-jazzy-tf-transformations \
 && rm -rf /var/lib/apt/lists/*

FROM base AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends cmake g++ git make python3-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/aloe
COPY . .
RUN . /opt/ros/jazzy/setup.sh && scripts/setup.sh

FROM base
RUN useradd --uid 10001 --create-home aloe && install -d -o aloe -g aloe /data
COPY --from=build /opt/aloe /opt/aloe
USER 10001
WORKDIR /data
ENTRYPOINT ["/opt/aloe/docker/entrypoint.sh"]
CMD ["doctor"]
