# The gateway as a container. State lives in /var/lib/herdgate; a plugins.toml (and the files that it names) in
# /etc/herdgate. The container listens on every interface and so refuses to start without a key:
#
#   docker build -t herdgate .
#   docker run -p 127.0.0.1:11435:11435 -e HERDGATE_ADMIN_KEY=... -e OLLAMA_BASE_URL=http://ollama:11434 \
#       -v herdgate:/var/lib/herdgate herdgate

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src

# Two environments: the one that is shipped gets no build tools. Before the source, so that a change there reuses them.
COPY requirements/ requirements/
RUN python -m venv /opt/herdgate \
    && /opt/herdgate/bin/pip install --require-hashes -r requirements/runtime.lock \
    && python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes -r requirements/build.lock

COPY LICENSE README.md plugins.toml pyproject.toml ./
COPY core/ core/
COPY plugins/ plugins/
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && /opt/herdgate/bin/pip install --no-deps /dist/*.whl


FROM python:3.13-slim
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/herdgate --shell /usr/sbin/nologin herdgate \
    && install --directory --owner=herdgate --group=herdgate --mode=0700 /var/lib/herdgate \
    && install --directory /etc/herdgate
COPY --from=build /opt/herdgate /opt/herdgate

# XDG_STATE_HOME, not HERDGATE_STATE: the default becomes /var/lib/herdgate/herdgate.db, and a plugins.toml may still say
# otherwise. The address is fixed here because a container's loopback reaches nobody.
ENV PATH=/opt/herdgate/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    XDG_STATE_HOME=/var/lib \
    HERDGATE_HOST=0.0.0.0

# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
WORKDIR /etc/herdgate
VOLUME /var/lib/herdgate
EXPOSE 11435

# http.client, because urllib would ask the proxy that the environment may name.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", "\
import os, sys, http.client as h; \
c = h.HTTPConnection('127.0.0.1', int(os.environ.get('HERDGATE_PORT') or 11435), timeout=4); \
c.request('GET', '/healthz'); \
sys.exit(c.getresponse().status != 200)"]

ENTRYPOINT ["proxyctl"]
CMD ["serve"]
