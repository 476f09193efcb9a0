# podman reads what was written. WORK: a directory for everything; ARCHIVE: an archive that holds NAME; PUSHED: the same in a registry.
podman="podman --root $WORK/root --runroot $WORK/run --tmpdir $WORK/tmp --cgroup-manager cgroupfs --events-backend file --storage-driver vfs --runtime /usr/sbin/runc"
# The hard limits of this machine may be low, and may not be raised.
run="$podman run --rm --network none --ulimit nofile=1000:2000 --ulimit nproc=1000:1000"
look() { $run "$1"; $podman image inspect --format '{{index .Labels "made"}} {{len .RootFS.Layers}}' "$1"; $podman rmi -f "$1" > /dev/null; }
$podman load -q -i "$ARCHIVE" > "$WORK/loaded"; grep -o "$NAME" "$WORK/loaded"; look "$NAME"
$podman pull -q "oci-archive:$ARCHIVE" > "$WORK/id"; look "$(cat "$WORK/id")"
$podman pull -q --tls-verify=false "$PUSHED" > /dev/null; look "$PUSHED"
