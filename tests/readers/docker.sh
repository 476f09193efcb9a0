# docker reads what was written. WORK: a directory for everything; ARCHIVE: an archive that holds NAME; PUSHED: the same in a registry.
echo '{}' > $WORK/daemon.json
dockerd --config-file $WORK/daemon.json --data-root $WORK/data --exec-root $WORK/exec -p $WORK/pid -H unix://$WORK/socket \
    --iptables=false --ip6tables=false --bridge=none --storage-driver vfs > $WORK/log 2>&1 &
daemon=$!
trap 'kill $daemon; wait $daemon' EXIT
export DOCKER_HOST=unix://$WORK/socket
for try in $(seq 300); do docker version > /dev/null 2>&1 && break; sleep 0.1; done
look() {
    docker run --rm --network none --ulimit nofile=1000:2000 "$1"
    docker image inspect --format '{{index .Config.Labels "made"}} {{len .RootFS.Layers}}' "$1"; docker rmi -f "$1" > /dev/null
}
docker load -q -i "$ARCHIVE" | sed 's/.*: //'; look "$NAME"
docker pull -q "$PUSHED" > /dev/null; look "$PUSHED"
