# The image, where a registry is at hand: docs/image.md. scripts/image makes the same
# one without.
#
#     docker build -t tunnel-registry $(scripts/image --build-args) .
#
# It is built on the platform that it is for: with buildx, --platform does the rest.
ARG BUILDER=docker.io/library/rust:1.95.0-bookworm

FROM ${BUILDER} AS build
WORKDIR /src

# What it is made of: compiled again only when this changes.
COPY scripts/static scripts/sbom scripts/
RUN scripts/sbom --tool
COPY Cargo.toml Cargo.lock ./
COPY client/Cargo.toml client/
# Without the targets that are not built here: tests and speed programs.
RUN sed -i '/^\[\[/,/^$/d' Cargo.toml \
    && mkdir src client/src \
    && echo '//! Nothing yet.' | tee build.rs src/lib.rs src/main.rs client/src/lib.rs \
    && echo 'fn main() {}' | tee -a build.rs src/main.rs \
    && scripts/static release \
    && cargo clean --release --package tunnel-registry --package tunnel-registry-client \
        --target-dir target/image

COPY LICENSE build.rs ./
COPY client client
COPY proto proto
COPY src src
ARG REVISION=unknown
ARG SOURCE_DATE_EPOCH=0
RUN export SOURCE_DATE_EPOCH SOURCE_COMMIT="$(printf %.12s "$REVISION")" \
    && mkdir -p /image/data \
    && install -m 755 "$(scripts/static release)" /image/tunnel-registry \
    && install -m 644 LICENSE /image/LICENSE \
    && scripts/sbom /image/sbom.cdx.json

FROM scratch
COPY --from=build /image/LICENSE /image/sbom.cdx.json /image/tunnel-registry /
COPY --from=build --chown=65532:65532 /image/data /data
ARG VERSION
ARG REVISION=unknown
ARG CREATED
ARG SOURCE
LABEL org.opencontainers.image.title="tunnel-registry" \
      org.opencontainers.image.description="A service registry for gost reverse-proxy tunnels that simply stays right" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
ENV PATH=/ TUNNEL_REGISTRY_STORE=file:/data/registry.redb
USER 65532:65532
ENTRYPOINT ["/tunnel-registry"]
