# buildah reads what was written. WORK: a directory for everything; ARCHIVE: an archive that holds NAME; PUSHED: the same in a registry.
buildah="buildah --root $WORK/root --runroot $WORK/run --storage-driver vfs"
for source in "docker-archive:$ARCHIVE" "oci-archive:$ARCHIVE" "docker://$PUSHED"; do
    container=$($buildah from -q --tls-verify=false "$source")
    root=$($buildah mount $container)
    cat $root/data/seed $root/data/new; ls $root/etc; stat -c '%a %u:%g' $root/data/new
    echo $($buildah inspect --format '{{index .OCIv1.Config.Labels "made"}}' $container)
    $buildah umount $container > /dev/null; $buildah rm $container > /dev/null
done
