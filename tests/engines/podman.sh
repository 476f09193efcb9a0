# podman drives an OCI runtime. WORK: a directory for everything; RUNTIME: the runtime; IMAGE: a root file system as a tar.
podman="podman --root $WORK/root --runroot $WORK/run --tmpdir $WORK/tmp --cgroup-manager cgroupfs --events-backend file \
    --storage-driver vfs --runtime $RUNTIME"
# The hard limits of this machine may be low, and may not be raised.
run="$podman run --network none --ulimit nofile=1000:2000 --ulimit nproc=1000:1000"
trap '$podman rm -fa -t 0 > /dev/null' EXIT
$podman import -q "$IMAGE" box > /dev/null

$run --rm box echo hello; echo "code $?"
$run --rm box /nosuch > /dev/null 2>&1; echo "code $?"
$run --rm -t box tty; echo "code $?"
$run --rm --uidmap 0:100000:1000 --gidmap 0:100000:1000 box cat /proc/self/uid_map; echo "code $?"
$run --rm --read-only --tmpfs /run --cap-drop all --security-opt no-new-privileges box \
    sh -c 'grep -E "Cap|NoNew|Seccomp:" /proc/self/status; : > /x'; echo "code $?"
$run --rm --tmpfs /data box cat /data/seed; echo "code $?"
$run --rm -v "$WORK:/here:ro" box sh -c 'ls -d /here; : > /here/x'; echo "code $?"
echo piped | $run -i --rm box cat; echo "code $?"

$run -d --name one --memory 50m box sleep 100 | wc -c
$podman exec one sh -c 'ps -o args | head -2; exit 5'; echo "code $?"
$podman exec -u 5:6 -w /tmp -e A=b one sh -c 'id; pwd; echo $A'; echo "code $?"
$podman exec -t one tty; echo "code $?"
$podman pause one > /dev/null; $podman ps --format '{{.Status}}' | cut -d' ' -f1; $podman unpause one > /dev/null
$podman restart -t 0 one > /dev/null; $podman ps --format '{{.Status}}' | cut -d' ' -f1
$podman stop -t 0 one > /dev/null 2>&1; $podman inspect -f '{{.State.ExitCode}} {{.State.Status}}' one
$podman start one; $podman kill -s KILL one; $podman wait one; $podman rm one
