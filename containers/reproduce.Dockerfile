# Everything that `make reproduce` needs, with its results in a volume:
#   docker build -f containers/reproduce.Dockerfile -t soundclf-reproduce .
#   docker run -v soundclf-runs:/soundclf/runs soundclf-reproduce PROFILE=quick DATASET=synthetic
FROM python:3.11-slim
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# make and git of any version do.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends make git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home soundclf \
    && install -d -o soundclf /soundclf
USER 10001
WORKDIR /soundclf
COPY --chown=10001 . .
RUN make install && rm -rf "$HOME/.cache/pip"
ENTRYPOINT ["make", "reproduce"]
