# skopeo reads what was written. WORK: a directory for everything; ARCHIVE: an archive that holds NAME; PUSHED: the same in a registry.
copy="skopeo --insecure-policy copy -q --src-tls-verify=false"
look() { # A directory of blobs: the files of all layers, by their names.
    skopeo inspect "$1" --format '{{index .Labels "made"}} {{len .Layers}}'
    for layer in $(skopeo inspect "$1" --format '{{range .Layers}}{{.}} {{end}}'); do
        tar -tf "${1#dir:}/${layer#sha256:}" | grep -E '^(\./)?(data/seed|data/new|etc/\.wh\.group)$' | sed 's,^\./,,'
    done
}
$copy "docker-archive:$ARCHIVE:$NAME" "dir:$WORK/docker"; look "dir:$WORK/docker"
$copy "oci-archive:$ARCHIVE" "dir:$WORK/oci"; look "dir:$WORK/oci"
$copy "docker://$PUSHED" "dir:$WORK/pushed"; look "dir:$WORK/pushed"
