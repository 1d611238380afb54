#!/usr/bin/env bash
# A container engine where there is none.
#
#   images/engine.sh start           use the engine that answers, or install and start a private one
#   images/engine.sh run COMMAND …   the same, run a command with it, and stop it again if it was started here
#   images/engine.sh env             print the settings that reach it, for `eval`
#   images/engine.sh base IMAGE [PLATFORM]
#                                    print a base image to build on: IMAGE where it can be pulled, else a
#                                    stand-in made from Debian packages, which must never be pushed
#   images/engine.sh stop            stop the private engine
#
# The private engine has its own socket and its own store below SLIPWAY_CACHE (~/.cache/slipway), so that images
# and their layers outlive it. It needs root on Debian or Ubuntu.
set -euo pipefail

CACHE=${SLIPWAY_CACHE:-$HOME/.cache/slipway}
SOCKET=$CACHE/docker.sock
PID=$CACHE/docker.pid
STAND_IN=slipway/stand-in:python3.11
SUITE=bookworm

die() { echo "error: $*" >&2; exit 1; }

answers() { DOCKER_HOST=${1:-${DOCKER_HOST:-}} timeout 20 docker info > /dev/null 2>&1; }

# The client of Debian's package builds with BuildKit; a newer one without buildx does not.
private_env() {
  printf 'export DOCKER_HOST=unix://%q\n' "$SOCKET"
  [ -x /usr/bin/docker ] && printf 'export PATH=/usr/bin:$PATH\n'
  return 0
}

settings() {
  if [ -S "$SOCKET" ] && answers "unix://$SOCKET"; then private_env
  elif ! answers; then die "no container engine answers. Run images/engine.sh start."
  fi
}

install() {  # package…
  [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null \
    || die "no container engine answers and $* cannot be installed (not root on Debian). Start Docker and try again."
  echo "Installing $* …" >&2
  apt-get update -qq >&2
  # The package would start the system's engine; a private one is wanted.
  DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "$@" > "$CACHE/apt.log" 2>&1 \
    || { tail -20 "$CACHE/apt.log" >&2; die "installing $* failed."; }
}

start() {
  answers && return 0
  mkdir -p "$CACHE"
  { [ -S "$SOCKET" ] && answers "unix://$SOCKET"; } && return 0
  command -v dockerd > /dev/null || [ -x /usr/sbin/dockerd ] || install docker.io
  rm -f "$SOCKET" "$PID"
  PATH=/usr/sbin:/usr/bin:$PATH setsid nohup dockerd --host "unix://$SOCKET" --pidfile "$PID" \
    --data-root "$CACHE/docker" --exec-root "$CACHE/docker-exec" > "$CACHE/dockerd.log" 2>&1 < /dev/null &
  for _ in $(seq 60); do
    answers "unix://$SOCKET" && return 0
    sleep 0.5
  done
  tail -20 "$CACHE/dockerd.log" >&2
  die "dockerd did not start within 30 s; its log is $CACHE/dockerd.log."
}

stop() {
  [ -f "$PID" ] || return 0
  local process; process=$(cat "$PID")
  kill "$process" 2> /dev/null || true
  for _ in $(seq 40); do
    kill -0 "$process" 2> /dev/null || return 0
    sleep 0.5
  done
  die "dockerd (process $process) does not stop."
}

# A stand-in for python:3.11-slim: Debian with its Python 3.11, and this machine's own certificate
# authorities, so that a build can reach a package index behind a proxy.
make_stand_in() {  # architecture, name of the image
  local arch=$1 name=$2 tree tar
  tar=$CACHE/stand-in-$SUITE${name#"$STAND_IN"}.tar
  if [ ! -f "$tar" ]; then
    [ "$(uname -s)" = Linux ] || die "a stand-in base can only be made on Linux."
    command -v mmdebstrap > /dev/null || install mmdebstrap
    [ "$name" = "$STAND_IN" ] || command -v arch-test > /dev/null || install arch-test
    echo "Making a stand-in base for $arch from Debian packages (some minutes, once) …" >&2
    tree=$(mktemp -d)
    mmdebstrap --quiet --variant=minbase --include=python3,python3-pip,python3-venv,ca-certificates \
      --architectures="$arch" \
      --customize-hook='rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED' \
      --customize-hook='ln -s python3 "$1"/usr/bin/python' \
      --customize-hook='mkdir -p "$1"/usr/local/share/ca-certificates' \
      --customize-hook='for c in /usr/local/share/ca-certificates/*.crt; do [ -f "$c" ] && cp "$c" "$1"/usr/local/share/ca-certificates/ || true; done' \
      --customize-hook='chroot "$1" update-ca-certificates > /dev/null' \
      "$SUITE" "$tree/base.tar" >&2 \
      || { rm -rf "$tree"; die "no stand-in base for $arch. Another architecture than this machine's needs its emulation (qemu-user-static, binfmt_misc)."; }
    mv "$tree/base.tar" "$tar"
    rm -r "$tree"
  fi
  if [ "$name" = "$STAND_IN" ]; then
    docker import --change 'LABEL io.slipway.stand-in=true' "$tar" "$name" > /dev/null
  else
    # An import has the engine's own architecture, whatever it is told; a build has the one that is asked for.
    tree=$(mktemp -d)
    ln "$tar" "$tree/base.tar" 2> /dev/null || cp "$tar" "$tree/base.tar"
    printf 'FROM scratch\nADD base.tar /\nLABEL io.slipway.stand-in=true\n' > "$tree/Dockerfile"
    DOCKER_BUILDKIT=1 docker build --quiet --platform "linux/$arch" --tag "$name" "$tree" > /dev/null
    rm -r "$tree"
  fi
}

base() {  # image [platform]
  local wanted=$1 platform=${2:-} own arch stand_in
  own=$(docker version --format '{{.Server.Arch}}')
  arch=${platform#linux/}
  arch=${arch:-$own}
  stand_in=$STAND_IN
  [ "$arch" = "$own" ] || stand_in=$STAND_IN-$arch
  if [ "$(docker image inspect --format '{{.Architecture}}' "$wanted" 2> /dev/null)" = "$arch" ] \
    || timeout 60 docker pull --quiet --platform "linux/$arch" "$wanted" > /dev/null 2>&1; then
    echo "$wanted"
  else
    docker image inspect "$stand_in" > /dev/null 2>&1 || make_stand_in "$arch" "$stand_in"
    echo "warning: $wanted cannot be pulled; building on the stand-in $stand_in. Do not push what comes out." >&2
    echo "$stand_in"
  fi
}

case ${1:-} in
  start) start; eval "$(settings)"; docker version --format 'engine {{.Server.Version}}, client {{.Client.Version}}' ;;
  stop) stop ;;
  env) settings ;;
  base) eval "$(settings)"; base "${2:?give the base image that is wanted}" "${3:-}" ;;
  run)
    shift
    answers "unix://$SOCKET" || answers || trap stop EXIT
    start; eval "$(settings)"; "$@" ;;
  *) sed -n '2,15s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
