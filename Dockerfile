# The image holds one static binary and the certificates of the well-known authorities: no shell, no package, no secret.
# Settings come from the environment, secrets from it or from files (NAME_FILE); see credentialsd --help.
#
#   docker build -t credentialsd .

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
# With .git, so that the binary knows its version.
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /credentialsd ./cmd/credentialsd

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /credentialsd /credentialsd
# A number, so that Kubernetes can see that it is not root; it owns nothing in the image.
USER 65532:65532
# 8080 is the API (LISTEN_ADDR). 9090 is probes and metrics: /livez, /readyz and /metrics. It listens on loopback unless
# OPS_ADDR says otherwise, and belongs behind no load balancer. There is no HEALTHCHECK, since nothing in the image could
# ask: let the orchestrator probe /readyz.
EXPOSE 8080 9090
ENTRYPOINT ["/credentialsd"]
CMD ["serve"]
