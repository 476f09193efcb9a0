# umoci reads what was written. WORK: a directory for everything; ARCHIVE: an archive that is a layout, too; PUSHED: the same in a registry.
look() {
    umoci unpack --image "$1" "$2" > "$2.log" 2>&1 || cat "$2.log"
    cat "$2/rootfs/data/seed" "$2/rootfs/data/new"; ls "$2/rootfs/etc"; stat -c '%a %u:%g' "$2/rootfs/data/new"
    grep -o '"made": "elsewhere"' "$2/config.json"
}
mkdir "$WORK/layout"; tar -C "$WORK/layout" -xf "$ARCHIVE"
look "$WORK/layout:1" "$WORK/saved"
skopeo --insecure-policy copy -q --src-tls-verify=false "docker://$PUSHED" "oci:$WORK/copied:1"
look "$WORK/copied:1" "$WORK/pushed"
