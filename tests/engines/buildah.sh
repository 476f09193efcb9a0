# buildah drives an OCI runtime. WORK: a directory for everything; RUNTIME: the runtime; IMAGE: a root file system as a tar.
buildah="buildah --root $WORK/root --runroot $WORK/run --storage-driver vfs"
run="--runtime $RUNTIME --isolation oci --network none"
container=$($buildah from --ulimit nofile=1000:2000 scratch)
trap '$buildah rm $container > /dev/null' EXIT
$buildah add -q $container "$IMAGE" / > /dev/null
$buildah run $run $container sh -c 'echo built > /made; id'; echo "code $?"
$buildah run $run $container cat /made; echo "code $?"
$buildah run $run $container sh -c 'exit 3' 2> /dev/null; echo "code $?"
$buildah run $run -v $WORK:/here:ro $container sh -c 'ls -d /here; : > /here/x'; echo "code $?"
