# A server that answers with ONNX Runtime, without torch:
#   docker build -f containers/serve.Dockerfile -t soundclf-serve .
#   export SOUNDCLF_TOKEN=$(openssl rand -hex 16)
#   docker run --read-only --tmpfs /tmp -e SOUNDCLF_TOKEN -p 8000:8000 -v soundclf:/data soundclf-serve
FROM python:3.11-slim AS build
WORKDIR /src
COPY settings.ini setup.py pyproject.toml constraints.txt README.md LICENSE ./
COPY data/manifests data/manifests
COPY soundclf soundclf
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir -c constraints.txt '.[onnx,serve]'

FROM python:3.11-slim
RUN useradd --system --uid 10001 --create-home --home-dir /data soundclf
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/data \
    SOUNDCLF_HOME=/data \
    SOUNDCLF_DATA=/data/data
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --start-period=20s --interval=30s --timeout=5s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["soundclf", "serve", "--host", "0.0.0.0"]
