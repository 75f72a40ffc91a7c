# MMTriad with all dependencies, for a CPU or for NVIDIA GPUs.
#
#   docker build -t mmtriad .
#   docker build -t mmtriad:cuda --build-arg BASE=nvidia/cuda:13.0.2-devel-ubuntu24.04 .
#   docker run --rm -it mmtriad make quickstart
#   docker run --rm -it --gpus all --ipc=host -v /path/to/data:/mmtriad/data mmtriad:cuda
#
# A base needs apt. mmcv's CUDA operators are built where it has nvcc, for the architectures below;
# its CUDA has to be of the major version that PyTorch was built with.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

ENV DEBIAN_FRONTEND=noninteractive PYTHONUNBUFFERED=1
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates g++ git make \
    && if ! command -v python3 >/dev/null; then \
        apt-get install -y --no-install-recommends python3 python3-dev python3-venv; \
    fi \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /mmtriad
# Only what the environment is made from: a change elsewhere does not build it again.
COPY Makefile ./
COPY requirements requirements
COPY tools/misc/setup_env.py tools/misc/mmcv_compiler.py tools/misc/check_env.py tools/misc/
ARG TORCH_CUDA_ARCH_LIST="7.5 8.0 8.6 8.9 9.0+PTX"
# No GPU is visible while an image is built, hence FORCE_CUDA. The cache keeps downloads and mmcv's
# wheel between builds and outside of the image; clear it after changing the architectures
# (docker builder prune --filter type=exec.cachemount).
RUN --mount=type=cache,target=/root/.cache \
    if command -v nvcc >/dev/null; then \
        export FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST="${TORCH_CUDA_ARCH_LIST}"; \
    fi \
    && make env

COPY . .
ENV PATH=/mmtriad/.venv/bin:${PATH}
CMD ["bash"]
