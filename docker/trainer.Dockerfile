# Trainer: bags in, checkpoints out, no ROS. Build from the repository root:
#   docker build -f docker/trainer.Dockerfile -t aloe-trainer .
FROM python:3.12-slim AS base
ENV ALOE_PROFILE=trainer OMP_WAIT_POLICY=PASSIVE

FROM base AS build
WORKDIR /opt/aloe
COPY . .
RUN scripts/setup.sh

FROM base
RUN useradd --uid 10001 --create-home aloe && install -d -o aloe -g aloe /data
COPY --from=build /opt/aloe /opt/aloe
USER 10001
WORKDIR /data
ENTRYPOINT ["/opt/aloe/docker/entrypoint.sh"]
CMD ["train", "--help"]
