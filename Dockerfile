# linfusion in a container.
#
#   docker build -t linfusion .                                                                        for CPUs
#   docker build -t linfusion-cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .    for NVIDIA cards
#
#   docker run --rm -v "$PWD":/images -v linfusion-models:/models linfusion generate "a mountain lake at dawn" -o lake.png
#   docker run --rm --gpus all -v "$PWD":/images -v linfusion-models:/models linfusion-cuda doctor
#
# BASE may be any Debian or Ubuntu with Python 3.11 or newer and its module venv. The wheels of torch bring CUDA's
# libraries with them: only the driver is the host's, so that the same base serves both. The folder of the images must be
# writable for user 1000.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=fast-png,lora,tiff,schedulers
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
COPY constraints.txt ./
RUN python3 -m venv /opt/linfusion \
 && /opt/linfusion/bin/pip install --constraint constraints.txt --index-url "${TORCH_INDEX}" --extra-index-url https://pypi.org/simple torch
COPY pyproject.toml hatch_build.py README.md LICENSE NOTICE ./
COPY presets ./presets
COPY man ./man
COPY linfusion_cli ./linfusion_cli
RUN /opt/linfusion/bin/pip install --constraint constraints.txt ".[${EXTRAS}]"

FROM ${BASE}
# Images of Ubuntu have a user 1000 already. The number, not a name, tells Kubernetes that it is not root.
RUN (getent passwd 1000 || useradd --uid 1000 --create-home linfusion) \
 && mkdir -p /images /models/hub /models/cache \
 && chown -R 1000:1000 /images /models
COPY --from=build /opt/linfusion /opt/linfusion
ENV PATH=/opt/linfusion/bin:$PATH \
    HF_HOME=/models/hub \
    XDG_CACHE_HOME=/models/cache \
    PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /images
VOLUME ["/images", "/models"]
ENTRYPOINT ["linfusion"]
CMD ["--help"]
