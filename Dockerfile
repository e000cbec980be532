# The service in a container: `docker build -t ome .`, then
#   docker run -e API_KEY=... -p 127.0.0.1:5000:5000 -v ome-data:/data ome
# It listens on every address of the container, so it does not start without an API_KEY. The same image is a cluster's gateway
# (`ome gateway`) and engine (`ome engine`, which has no port: --no-healthcheck).

FROM python:3.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/ome
WORKDIR /source
COPY requirements.lock ./
RUN /opt/ome/bin/pip install --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN /opt/ome/bin/pip install --no-deps --no-build-isolation . && /opt/ome/bin/python -m compileall -q /opt/ome/lib

# The engine's core in C; `--build-arg CORE=python` leaves it to the interpreter and needs no compiler
ARG CORE=compiled
COPY requirements-compiled.lock ./
COPY tools/compiled.py ./tools/
# hadolint ignore=DL3008
RUN if [ "$CORE" = compiled ]; then \
        apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/* \
        && python -m venv /opt/compiler \
        && /opt/compiler/bin/pip install --require-hashes -r requirements-compiled.lock \
        && /opt/compiler/bin/python tools/compiled.py --into /opt/ome/lib/python3.13/site-packages; \
    fi

FROM python:3.13-slim-bookworm
RUN groupadd --gid 10001 ome \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin ome \
    && install --directory --owner=10001 --group=10001 --mode=0750 /data
COPY --from=build /opt/ome /opt/ome
ENV PATH=/opt/ome/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 PORT=5000 DATABASE_URL=sqlite+aiosqlite:////data/order_matching.db
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 5000
STOPSIGNAL SIGTERM
# Whether to send requests here: not to a standby, nor while it recovers. What ends whatever is unhealthy asks /health/live instead.
# The slim image has no curl; urlopen raises for every status but 2xx and 3xx.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/health/ready', timeout=4)"]
CMD ["ome", "serve"]
