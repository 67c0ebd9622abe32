# The version of etcd's tools for restores: the minor version that the members run.
ARG ETCD_VERSION=3.6.16
ARG ETCD_IMAGE=gcr.io/etcd-development/etcd:v${ETCD_VERSION}

FROM ${ETCD_IMAGE} AS etcd

# On the architecture of the build machine. (By name, not by an argument: otherwise Dependabot does not find it.)
FROM --platform=$BUILDPLATFORM docker.io/library/node:24-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# The compiler does not need the tools of the tests, which are 500 MB. npm ci cannot skip a part of a lock file; npm install can, and
# uses the same versions and checksums.
# Behind a private registry or CA: --secret id=npmrc,src=FILE and --secret id=ca,src=FILE (npmrc: cafile=/run/secrets/ca).
RUN --mount=type=secret,id=npmrc,target=/root/.npmrc --mount=type=secret,id=ca \
    npm pkg delete devDependencies.tap devDependencies.azurite && npm install --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY src src
COPY scripts/build.ts scripts/
COPY scripts/bundle scripts/bundle
RUN npm run build
# Native code for the architecture of the image, not of the build machine.
ARG TARGETARCH
RUN --mount=type=secret,id=npmrc,target=/root/.npmrc --mount=type=secret,id=ca \
    npm install --ignore-scripts --omit=dev --os=linux --libc=glibc --cpu="$(echo "$TARGETARCH" | sed s/amd64/x64/)"

# Restores need etcdutl, drills need etcd itself. etcd 3.4 has no etcdutl and restores with etcdctl.
COPY --from=etcd /usr/local/bin /etcd
RUN cd /etcd && mkdir bin && mv etcd bin/ && { mv etcdutl bin/ || mv etcdctl bin/; }

# What the image needs of Node's image: node and the libraries that it loads. No shell, no package manager.
FROM docker.io/library/node:24-bookworm-slim AS root
WORKDIR /root-fs
# dist/ contains all other packages.
COPY --from=build /app/node_modules/@node-rs /app/node_modules/@node-rs
COPY --from=build /app/dist /app/dist
COPY --from=build /etcd/bin usr/local/bin
# An explicit mode, because that of a checkout depends on the umask.
COPY --chmod=0644 package.json LICENSE /app/
# V8's compile cache: a backup starts with three tenths less work. Node looks for it by user id: root's, and that of the other Jobs.
COPY scripts/bundle/compile-cache.sh /
RUN sh /compile-cache.sh /app/dist/main.js /app/compile-cache && cd /app/compile-cache && \
    for directory in *-0; do cp -r "$directory" "${directory%-0}-65532"; done && chmod -R a+rX .
# /tmp is for drills and restores without a directory of their own. The records of the packages are for scanners of images.
RUN cp -r /app . && \
    ldd /usr/local/bin/node app/node_modules/@node-rs/*/*.node | grep -o '/lib[^ ]*' | sort -u | \
      xargs cp --parents --dereference --target-directory . /usr/local/bin/node /usr/local/LICENSE /etc/os-release && \
    for package in libc6 libgcc-s1 libstdc++6; do \
      mkdir -p var/lib/dpkg/status.d usr/share/doc/$package && \
      dpkg-query --status $package >var/lib/dpkg/status.d/$package && \
      cp /usr/share/doc/$package/copyright usr/share/doc/$package/ || exit 1; \
    done && \
    echo 'root:x:0:0:root:/root:/sbin/nologin' >etc/passwd && echo 'root:x:0:' >etc/group && \
    echo 'hosts: files dns' >etc/nsswitch.conf && mkdir -m 1777 tmp

FROM scratch
# The time of every file below, so that the same sources make the same image (scripts/image-build.sh).
ARG SOURCE_DATE_EPOCH
COPY --from=root /root-fs /
# Without the two for malloc, memory that was freed stays with the process.
ENV PATH=/usr/local/bin NODE_ENV=production NODE_COMPILE_CACHE=/app/compile-cache \
    MALLOC_ARENA_MAX=1 MALLOC_MMAP_THRESHOLD_=1000000

# The user is root because etcd's client key on a control-plane node belongs to root, mode 0600, and is mounted as a hostPath, whose
# owner no fsGroup changes. Root without capabilities (the manifests drop them all) can read root's files and has no other privilege.

# Exec form: signals reach the worker without a shell. The dashes keep Node from taking the worker's --env-file as its own option.
# A small young generation of V8 saves a quarter of the memory, because streamed data is garbage at once.
ENTRYPOINT ["node", "--max-semi-space-size=1", "--", "/app/dist/main.js"]

# Last, because they differ in every build and everything above can come from the cache.
ARG VERSION=
ARG REVISION=
ARG SOURCE=
ARG CREATED=
LABEL org.opencontainers.image.title="etcd-snapshot" \
      org.opencontainers.image.description="Backs up etcd, the state of a Kubernetes cluster, to Azure Blob Storage" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.created="${CREATED}"
