# The operator. Build it from the root of the repository, with docker or podman:
#   docker build -t finetune-operator .
# The base needs python3 (3.11 or newer) with venv, and ca-certificates; nothing else.
ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm
FROM ${BASE_IMAGE}

# Dependencies change only with the lock file. The installer and its cache stay out of the layer; bytecode
# does not depend on time stamps, and nothing could be compiled again on a read-only file system.
COPY operator/requirements.lock /opt/finetune/requirements.lock
RUN --mount=type=cache,target=/root/.cache/uv \
    export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    && python3 -m venv /tmp/installer \
    && /tmp/installer/bin/pip install --quiet --no-cache-dir --disable-pip-version-check uv==0.13.9 \
    && python3 -m venv --without-pip /opt/venv \
    && PYC_INVALIDATION_MODE=UNCHECKED_HASH UV_LINK_MODE=copy UV_CACHE_DIR=/root/.cache/uv \
       /tmp/installer/bin/uv pip install --quiet --python /opt/venv/bin/python \
       --require-hashes --compile-bytecode -r /opt/finetune/requirements.lock \
    && rm -rf /tmp/installer

COPY crds /opt/finetune/crds
COPY operator/finetune_operator /opt/finetune/finetune_operator
RUN /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/finetune/finetune_operator

# The numeric user has no passwd entry. The working directory is not put on the import path.
ENV HOME=/tmp \
    USER=finetune \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/opt/finetune \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
ARG VERSION=dev
LABEL org.opencontainers.image.title="finetune-operator" \
      org.opencontainers.image.description="Fine-tune language models on Kubernetes with one resource, FineTuneJob" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["/opt/venv/bin/python", "-m", "finetune_operator"]
