# Two images from one file: `--target operator` (controller, webhook, command line) and `--target gateway`.
#
# Everything from outside is named by hash: packages in requirements/, the base by PYTHON_DIGEST where it is given. Only
# the RUN lines with the secrets `pip` and `ca` reach for the network; both secrets may be absent (docs/image.md).
# No `# syntax=` line: it would fetch a program from a registry before anything else is read.
# No HEALTHCHECK: Kubernetes does not read it; probes are in the chart, and only they know the port and the role.

ARG PYTHON_IMAGE=python:3.13-slim-bookworm
# As "@sha256:…"; empty takes what the tag names today.
ARG PYTHON_DIGEST=


# The base without what only builds: no pip, no setuid bits; the standard library compiled, since nothing can be written later.
FROM ${PYTHON_IMAGE}${PYTHON_DIGEST} AS base
RUN --mount=type=bind,source=hack/image/slim.py,target=/slim.py python3 -B /slim.py /


# Our own wheel, built with a pinned backend. It needs no network, as tests/image shows; `RUN --network=none` would say so, but
# buildah of Debian 12 does not know it.
FROM ${PYTHON_IMAGE}${PYTHON_DIGEST} AS wheel-needs
COPY requirements/build.txt /requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca,target=/run/secrets/ca.pem \
    python3 -m venv --without-pip /build \
    && python3 -m pip --python /build/bin/python install --no-cache-dir --require-hashes --only-binary=:all: \
      -r /requirements/build.txt

FROM wheel-needs AS wheel
ARG SOURCE_DATE_EPOCH=315532800
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
RUN /build/bin/python -m hatchling build -t wheel -d /wheels


# What the gateway needs. `--only-binary`: no compiler is here, and no package's own build code is run.
FROM ${PYTHON_IMAGE}${PYTHON_DIGEST} AS gateway-needs
COPY requirements/gateway.txt /requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca,target=/run/secrets/ca.pem \
    python3 -m venv --without-pip /opt/aigateway \
    && python3 -m pip --python /opt/aigateway/bin/python install --no-cache-dir --no-compile --require-hashes \
      --only-binary=:all: -r /requirements/gateway.txt \
    && python3 -m compileall -q -f --invalidation-mode unchecked-hash /opt/aigateway/lib

FROM gateway-needs AS gateway-build
COPY --from=wheel /wheels /wheels
RUN python3 -m pip --python /opt/aigateway/bin/python install --no-cache-dir --no-compile --no-index --no-deps \
      /wheels/aigateway-*.whl \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/aigateway/lib/python*/site-packages/aigateway_*


# What the operator needs.
FROM ${PYTHON_IMAGE}${PYTHON_DIGEST} AS operator-needs
COPY requirements/runtime.txt /requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca,target=/run/secrets/ca.pem \
    python3 -m venv --without-pip /opt/aigateway \
    && python3 -m pip --python /opt/aigateway/bin/python install --no-cache-dir --no-compile --require-hashes \
      --only-binary=:all: -r /requirements/runtime.txt \
    && python3 -m compileall -q -f --invalidation-mode unchecked-hash /opt/aigateway/lib

FROM operator-needs AS operator-build
COPY --from=wheel /wheels /wheels
RUN python3 -m pip --python /opt/aigateway/bin/python install --no-cache-dir --no-compile --no-index --no-deps \
      /wheels/aigateway-*.whl \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/aigateway/lib/python*/site-packages/aigateway_*


# What both images share. HOME is the one place that may be written to: the root is read-only in the cluster.
FROM base AS final
ENV PATH=/opt/aigateway/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /
# By number: kubelet cannot see that a name is not root (runAsNonRoot). 65532 is what distroless images use.
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["aigateway"]


FROM final AS gateway
COPY --from=gateway-build /opt/aigateway /opt/aigateway
CMD ["gateway"]
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1980-01-01T00:00:00Z
ARG SOURCE=
LABEL org.opencontainers.image.title="aigateway-gateway" \
      org.opencontainers.image.description="OpenAI-compatible gateway that reloads its configuration without a restart" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}"


# The last stage is what `docker build .` makes.
FROM final AS operator
COPY --from=operator-build /opt/aigateway /opt/aigateway
CMD ["run"]
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1980-01-01T00:00:00Z
ARG SOURCE=
LABEL org.opencontainers.image.title="aigateway-operator" \
      org.opencontainers.image.description="Kubernetes operator that brings LLM gateway configuration into running pods" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}"
