FROM python:3.11-slim-bookworm AS wheel
WORKDIR /src
COPY requirements/build.txt requirements/build.txt
RUN pip install --no-cache-dir --require-hashes -r requirements/build.txt
COPY . .
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist .

FROM python:3.11-slim-bookworm
# In a container every interface is the container's own; what is published is the operator's choice.
ENV PYTHONUNBUFFERED=1 AOAIGW_LISTEN_DATA=:8080 AOAIGW_LISTEN_ADMIN=:8081
COPY requirements/runtime.txt /tmp/runtime.txt
RUN pip install --no-cache-dir --require-hashes -r /tmp/runtime.txt && rm /tmp/runtime.txt
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    pip install --no-cache-dir --no-deps /dist/*.whl

# The ledger and the spool lie in the working directory: mount it, or they go with the container.
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/aoai-gateway gateway
USER 10001
WORKDIR /var/lib/aoai-gateway
VOLUME /var/lib/aoai-gateway

EXPOSE 8080 8081
# The port is the one in force, and `http.client` asks no proxy that the engine may have set.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import http.client, os; host, _, port = os.environ['AOAIGW_LISTEN_ADMIN'].rpartition(':'); plane = http.client.HTTPConnection(host.strip('[]') or '127.0.0.1', int(port), timeout=2); plane.request('GET', '/health/live'); raise SystemExit(plane.getresponse().status != 204)"]
CMD ["aoai-gateway", "serve"]
