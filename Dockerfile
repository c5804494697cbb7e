# syntax=docker/dockerfile:1
# One image, every role: docker build -t sluice . && docker run --rm -p 127.0.0.1:8080:8080 sluice
# Needs BuildKit (Docker 23 or newer has it on), for the cache mounts.

# --- build -------------------------------------------------------------------------------------
# The full image, not -slim: it has what librdkafka is built with (C and C++ compilers, make, pkg-config, libssl-dev,
# zlib1g-dev). Same Debian release as the image below, so the OpenSSL that is linked here is the one found there.
FROM rust:1.95.0-bookworm AS build
WORKDIR /src

# This image has exactly the pinned toolchain. Without this line rustup would read rust-toolchain.toml and download
# rustfmt and clippy too, which no image build needs.
ENV RUSTUP_TOOLCHAIN=1.95.0

COPY . .

# The caches (downloaded crates, compiled dependencies) live on the build machine, outside the image: a change in one
# room compiles that room again, not DataFusion. A cache mount is gone when the step ends, so the binary is copied out
# of it in the same step. --locked: build what Cargo.lock says, or fail.
ARG TARGETARCH
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/usr/local/cargo/git,sharing=locked \
    --mount=type=cache,target=/src/target,id=sluice-target-${TARGETARCH},sharing=locked \
    cargo build --release --locked --package sluice \
    && install -D -m 0755 target/release/sluice /out/sluice

# --- run ---------------------------------------------------------------------------------------
FROM debian:bookworm-slim

LABEL org.opencontainers.image.title="sluice" \
      org.opencontainers.image.description="E-commerce event streams to a Delta lake, live KPIs and anomaly alerts" \
      org.opencontainers.image.licenses="Apache-2.0"

# libssl3 and zlib1g: librdkafka links them. ca-certificates: TLS to Kafka, S3 and MongoDB. curl: the health check.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 sluice \
    && useradd --system --uid 10001 --gid sluice --home-dir /sluice --shell /usr/sbin/nologin sluice \
    && install -d -o sluice -g sluice /sluice /data /scratch

COPY --from=build /out/sluice /usr/local/bin/sluice
# Beside the binary, to be read and to be mounted over: a KPI is a .sql file in models/.
COPY models /sluice/models
COPY schemas /sluice/schemas

# A number, not a name: an orchestrator can then see that it is not root.
USER 10001:10001
WORKDIR /sluice

# Inside a container loopback is out of reach of everyone else, so listen on all its addresses; who may reach the ports
# is decided by whoever publishes them.
ENV SLUICE__SERVE__LISTEN=0.0.0.0:8080 \
    SLUICE__METRICS__LISTEN=0.0.0.0:9464
EXPOSE 8080 9464

# serve and up answer on 8080, produce, process and merge on 9464.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=6 \
    CMD curl -fsS -o /dev/null http://127.0.0.1:8080/healthz || curl -fsS -o /dev/null http://127.0.0.1:9464/healthz

# SIGTERM and SIGINT both mean: stop reading, commit what was read, exit 0. sluice starts no child processes and handles
# the signals itself, so it can be process 1 without an init. kill -9 is safe too; it costs a replay.
STOPSIGNAL SIGTERM
ENTRYPOINT ["sluice"]
# With no arguments: every role in one process, simulated shop, embedded log and stores in /data.
CMD ["up", "--dir", "/data"]
