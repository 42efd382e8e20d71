# raysweep for a cluster's pods or for one machine, in two builds:
#
#   docker build --tag registry.example.org/raysweep:0.2.0 .                           # GPUs: PyTorch's CUDA build
#   docker build --build-arg TORCH=cpu --build-arg PIP_EXTRA_INDEX_URL=... --tag ... . # CPUs: an index with `+cpu`
#   docker push registry.example.org/raysweep:0.2.0
ARG PYTHON_VERSION=3.11
FROM python:${PYTHON_VERSION}-slim-bookworm

# KubeRay's probes ask a node's health with wget.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --uid 1000 --user-group --create-home raysweep
WORKDIR /raysweep

# What changes seldom comes first. A build has no GPU to look for: cuda, cpu or auto is said here.
ARG TORCH=cuda
ARG PIP_EXTRA_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements.lock ./
COPY tools/install_requirements.py tools/
RUN python tools/install_requirements.py "$TORCH"

COPY . .
RUN python -m pip install --no-deps --editable . && raysweep --version

USER 1000:1000
CMD ["raysweep", "--help"]
