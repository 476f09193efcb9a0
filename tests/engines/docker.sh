# dockerd drives an OCI runtime. WORK: a directory for everything; RUNTIME: the runtime; IMAGE: a root file system as a tar.
echo "{\"runtimes\": {\"tested\": {\"path\": \"$RUNTIME\"}}, \"default-runtime\": \"tested\"}" > $WORK/daemon.json
dockerd --config-file $WORK/daemon.json --data-root $WORK/data --exec-root $WORK/exec -p $WORK/pid -H unix://$WORK/socket \
    --iptables=false --ip6tables=false --bridge=none --storage-driver vfs > $WORK/log 2>&1 &
daemon=$!
trap 'docker rm -f $(docker ps -aq) > /dev/null 2>&1; kill $daemon; wait $daemon' EXIT
export DOCKER_HOST=unix://$WORK/socket
for try in $(seq 300); do docker version > /dev/null 2>&1 && break; sleep 0.1; done
docker import "$IMAGE" box > /dev/null
run="docker run --network none --ulimit nofile=1000:2000"

$run --rm box echo hello; echo "code $?"
$run --rm box /nosuch > /dev/null 2>&1; echo "code $?"
$run --rm -t box tty; echo "code $?"
$run --rm --read-only --tmpfs /run --cap-drop all --security-opt no-new-privileges box \
    sh -c 'grep -E "Cap|NoNew|Seccomp:" /proc/self/status; : > /x'; echo "code $?"
$run --rm --init box ps -o args | head -2; echo "code $?"
$run --rm --device /dev/kmsg box sh -c 'dd if=/dev/kmsg bs=8k count=1 2> /dev/null | wc -l'; echo "code $?"
$run --rm box sh -c 'mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg'; echo "code $?"
$run --rm --sysctl net.ipv4.ip_forward=1 --hostname there box sh -c 'cat /proc/sys/net/ipv4/ip_forward; hostname'; echo "code $?"
$run --rm --ipc host --pid host box sh -c '[ $$ -gt 50 ]'; echo "code $?"
$run --rm -v "$WORK:/here:ro" --mount type=tmpfs,destination=/t,tmpfs-size=1m box \
    sh -c 'ls -d /here; : > /here/x; grep -c " /t " /proc/mounts'; echo "code $?"
$run --rm -w /made/here -u 33:44 --group-add 55 box sh -c 'pwd; id'; echo "code $?"
$run --rm --security-opt seccomp=unconfined box grep Seccomp: /proc/self/status; echo "code $?"
$run --rm --security-opt seccomp=unconfined --cgroupns private --cgroup-parent /dk box sh -c 'grep ^0: /proc/self/cgroup'; echo "code $?"
$run --rm --memory 10m box sh -c 'x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done'; echo "code $?"
# It waits until dockerd looks after its memory, which begins when its start has ended.
$run -d --name hungry --memory 10m -v "$WORK:/here:ro" box \
    sh -c 'until [ -e /here/go ]; do sleep 0.1; done; (x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done); sleep 1; exit 9' > /dev/null
: > "$WORK/go"; docker wait hungry > /dev/null
docker inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' hungry
echo piped | $run -i --rm box cat; echo "code $?"

$run -d --name one --memory 50m --pids-limit 50 box sleep 100 | wc -c
docker exec one sh -c 'ps -o args | head -2; exit 5'; echo "code $?"
docker exec -u 5:6 -w /tmp -e A=b one sh -c 'id; pwd; echo $A'; echo "code $?"
script -qec "docker exec -it one tty" /dev/null < /dev/null | tr -d '\0' | sed 's/\^@//g'; echo "code $?"
docker pause one; docker ps --format '{{.Status}}' | grep -o Paused; docker unpause one
docker restart -t 0 one; docker ps --format '{{.Status}}' | cut -d' ' -f1
docker update --memory 60m --memory-swap 60m one
docker top one | wc -l
docker stop -t 0 one; docker inspect -f '{{.State.ExitCode}} {{.State.Status}}' one
$run -d --restart on-failure:2 --name again box sh -c 'echo line; exit 3' | wc -c
docker wait again; sleep 2; docker inspect -f '{{.RestartCount}}' again; docker logs again
$run -d --name healthy --health-cmd true --health-interval 1s box sleep 100 | wc -c
sleep 2; docker inspect -f '{{.State.Health.Status}}' healthy
