# What Docker's own client is typically asked for, flow by flow: at Berth and at dockerd, and both say the same.
# DOCKER: the client; DOCKER_HOST: whom it asks; WORK: a directory of the flows' own; busybox:test is there.
cd "$WORK"
d() { echo "\$ docker $*"; "$DOCKER" "$@" 2>&1; echo "code $?"; }
# In a terminal of its own, as script(1) makes one.
t() { echo "\$ docker $* (in a terminal)"; script -qec "\"$DOCKER\" $*" /dev/null < /dev/null 2>&1 | tr -d '\r\0\004\010' | sed 's/\^[D@]//g; s,pts/.,pts/N,'; echo "code ${PIPESTATUS[0]}"; }
until_it_holds() { for _ in $(seq 600); do eval "$1" > "$WORK/look" 2>&1 && return; sleep 0.1; done; echo "it never came to be: $1"; }
busy="sh -c 'trap exit TERM; echo one; echo two; echo three; while :; do sleep 0.1; done'"

d run --rm --network none busybox:test true
d run --rm --network none busybox:test sh -c 'echo out; echo err >&2; exit 3' | sort
d run --rm busybox:test nosuchprogram
d run --rm busybox:test /etc/passwd
"$DOCKER" run --rm nosuchregistry.invalid/image:1 > said 2>&1; echo "code $?"; head -1 said
echo piped | d run -i --rm --network none busybox:test cat
t run -it --rm --network none busybox:test sh -c "'tty; exit 5'"

d run -d --name web1 -p 8080:80 -v vol1:/v busybox:test httpd -f -p 80 -h /etc
until_it_holds 'wget -qO- http://127.0.0.1:8080/passwd'
cat look | head -1
d port web1
d exec web1 true
d exec web1 sh -c 'echo out; echo err >&2; exit 4' | sort
d exec -e A=b -w /tmp -u 33 web1 sh -c 'echo $A; pwd; id -u'
d exec web1 nosuchprogram
t exec -it web1 tty
d exec -d web1 touch /tmp/made
until_it_holds '"$DOCKER" exec web1 ls /tmp/made'
eval "d run -d --name talks --network none busybox:test $busy"
until_it_holds '"$DOCKER" logs talks 2>&1 | grep three'
d logs --tail 1 talks
d logs talks | sort
timeout 2 "$DOCKER" logs -f --tail 5 talks > followed 2> /dev/null; echo "code $?"; cat followed
d logs --since 1h --until 1s --tail 0 talks
echo carried > file
d cp -q file web1:/tmp/h
"$DOCKER" cp web1:/etc/passwd - | tar -tv | awk '{ print $1, $3, $6 }'
"$DOCKER" cp -q web1:/tmp/h back; cat back
d cp web1:/nosuch back
d cp file web1:/nosuch/there
d cp -q file nosuch:/tmp
d stats --no-stream --format '{{.Name}}' web1
d top web1 -o pid,comm | awk '{ print $NF }'
d diff web1 | grep -v /dev | sort
d inspect -f '{{.State.Status}} {{.Path}} {{.Args}} {{.Config.Image}} {{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.RW}}{{end}}' web1
d inspect -f '{{json .HostConfig.PortBindings}} {{json .NetworkSettings.Ports}} {{.HostConfig.NetworkMode}}' web1
d inspect nosuch
d ps -a --format '{{.Names}} {{.Image}} {{.Command}} {{.Ports}} {{.State}} {{.Mounts}} {{.Networks}}'
d ps -q --filter name=web --filter status=running
d ps --filter status=nosuch
d ps --filter nosuch=1
d images --format '{{.Repository}} {{.Tag}}'
d images -q nosuch
d volume ls
d network ls --format '{{.Name}} {{.Driver}} {{.Scope}}'
d system df --format '{{.Type}} {{.TotalCount}} {{.Active}}'
d info -f '{{.OSType}} {{.Architecture}} {{.Containers}} {{.ContainersRunning}} {{.Images}} {{.Swarm.LocalNodeState}}'
d version -f '{{.Client.APIVersion}} {{.Server.APIVersion}} {{.Server.MinAPIVersion}} {{.Server.Os}} {{.Server.Arch}}'

d update --restart on-failure:3 web1
d inspect -f '{{json .HostConfig.RestartPolicy}}' web1
d pause web1
d pause web1
d ps --format '{{.Names}} {{.State}}'
d exec web1 true
d unpause web1
d rename web1 web2
d rename web2 talks
d rename web2 web1
d kill web1
d kill web1
d wait web1
d start web1
d start web1
d start nosuch
d restart -t 0 web1
d kill -s NOSUCH web1
d rm web1

d commit -m words -a somebody -c 'ENV A=b' web1 xx:1
d inspect -f '{{.Comment}} {{.Author}} {{.Config.Env}} {{.Config.Cmd}}' xx:1
"$DOCKER" save xx:1 > saved.tar; tar -tf saved.tar | grep -c manifest.json
d tag xx:1 xx:2
d tag xx:1 Not-lower
d tag nosuch xx:3
d history --format '{{.CreatedBy}}' xx:1 | head -2
d rmi xx:1 xx:2
d load -q -i saved.tar
d rmi xx:1
d rmi nosuch
d rmi busybox:test

d network create --label a=b net1
d network create net1
d network connect --alias other net1 web1
d network connect net1 web1
d network inspect -f '{{.Name}} {{.Driver}} {{.Labels}} {{len .Containers}} {{range .Containers}}{{.Name}}{{end}}' net1
d run --rm --network net1 busybox:test sh -c 'wget -qO- http://other/passwd | head -1'
d network rm net1 | sed 's/net1 id.*/net1 .../'
d network disconnect net1 web1
d network disconnect net1 web1
d network rm net1
d network rm bridge
d network inspect nosuch

printf 'version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: %s\nhttp:\n  addr: 127.0.0.1:5055\n' "$WORK/registry" > registry.yml
docker-registry serve registry.yml > registry.log 2>&1 & registry=$!
until_it_holds 'wget -qO- http://127.0.0.1:5055/v2/'
d tag busybox:test 127.0.0.1:5055/bar/big:1
d push -q 127.0.0.1:5055/bar/big:1
d rmi 127.0.0.1:5055/bar/big:1 | sed 's/@sha256.*/@.../; /^Deleted/d'
d pull -q 127.0.0.1:5055/bar/big:1
d pull 127.0.0.1:5055/bar/nosuch:1
d manifest inspect --insecure 127.0.0.1:5055/bar/big:1 | grep -c '"digest"'
d push -q 127.0.0.1:5055/nosuch:1
kill $registry

events() { "$DOCKER" events --since "$began" --until "$("$DOCKER" run --rm --network none busybox:test date +%s)" --filter container=told --format '{{.Type}} {{.Action}}' 2>&1; }
began=$(date +%s)
d run --rm --name told --network none busybox:test true
sleep 1
events | grep -v -e exec -e connect -e attach

d stop -t 1 web1
d inspect -f '{{.State.Status}} {{.State.ExitCode}}' web1
d rm -v web1
d rm -f talks
d volume create --label a=b vol2
d volume inspect -f '{{.Name}} {{.Driver}} {{.Scope}} {{.Labels}}' vol2
d volume rm vol1 vol2
d volume rm vol1
d volume inspect nosuch
d create --name idle --network none busybox:test true
d system prune -f | grep -v -e sha256 -e '^Deleted build' -e reclaimed
d ps -aq
d swarm leave
d service ls
d plugin ls --format '{{.Name}}'

[ -n "${COMPOSE:-}" ] || exit 0
mkdir -p config/cli-plugins site; ln -sf "$COMPOSE" config/cli-plugins/docker-compose
export DOCKER_CONFIG="$WORK/config"
echo secret > token
cat > compose.yaml <<'YAML'
name: pair
services:
  db:
    image: busybox:test
    command: sh -c "echo in stock > /data/state && exec httpd -f -p 80 -h /data"
    volumes: [ "data:/data" ]
    networks: [ back ]
    healthcheck: { test: [ "CMD", "wget", "-qO-", "http://127.0.0.1/state" ], interval: 500ms, timeout: 5s, retries: 20 }
  web:
    image: busybox:test
    command: sh -c "cat /run/secrets/token; wget -qO- http://db/state; exec httpd -f -p 80 -h /etc"
    depends_on: { db: { condition: service_healthy } }
    secrets: [ token ]
    networks: [ front, back ]
networks: { front: {}, back: {} }
volumes: { data: {} }
secrets: { token: { file: ./token } }
YAML
c() { echo "\$ compose $*"; "$DOCKER" compose "$@" 2> progress; echo "code $?"; }
c up -d
c ps --format '{{.Service}} {{.State}} {{.Health}}'
until_it_holds '"$DOCKER" compose logs web | grep stock'
c logs --no-log-prefix web
c exec -T web cat /run/secrets/token
c up -d --scale db=2
c ps -q db | wc -l
c run --rm -T db echo once
c down -v -t 1
d ps -aq; d volume ls -q; d network ls -q --filter type=custom
