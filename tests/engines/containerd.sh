# containerd drives an OCI runtime. WORK: a directory for everything; RUNTIME: the runtime; ARCHIVE: an image.
cat > $WORK/config.toml <<TOML
version = 2
root = "$WORK/root"
state = "$WORK/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$WORK/socket"
TOML
containerd -c $WORK/config.toml > $WORK/log 2>&1 &
daemon=$!
trap 'kill $daemon; wait $daemon' EXIT
export CONTAINERD_ADDRESS=$WORK/socket
for try in $(seq 300); do ctr version > /dev/null 2>&1 && break; sleep 0.1; done
ctr image import --snapshotter native "$ARCHIVE" > /dev/null
image=$(ctr image ls -q | head -1)
# io.containerd.runc.v2, with BinaryName.
run="ctr run --snapshotter native --runc-binary $RUNTIME"
status() { ctr task ls | awk '$1 == "two" { print $3 }'; }

$run --rm $image one echo hello; echo "code $?"
$run --rm $image one sh -c 'exit 7'; echo "code $?"
$run --rm $image one /nosuch > /dev/null 2>&1; echo "code $?"
script -qec "$run -t --rm $image one tty" /dev/null < /dev/null | tr -d '\0' | sed 's/\^@//g'; echo "code $?"
$run -d --memory-limit 50000000 $image two sleep 100; echo "code $?"; status
ctr task exec --exec-id first two sh -c 'ps -o args | head -2; exit 4'; echo "code $?"
ctr task pause two; status; ctr task resume two; status
ctr task ps two | wc -l
ctr task kill -s 9 two; for try in $(seq 50); do [ "$(status)" = STOPPED ] && break; sleep 0.1; done; status
ctr task delete two 2> /dev/null; ctr container delete two; echo "code $?"
