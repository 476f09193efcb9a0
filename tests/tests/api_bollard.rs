//! bollard, Rust's client: the types of requests and answers as another program reads them.

use berth_tests::api::Api;
use berth_tests::dockerd::Dockerd;
use berth_tests::network::World;
use berth_tests::{BUSYBOX, Tar};
use bollard::exec::StartExecResults;
use bollard::models::{ContainerCreateBody, EventMessage, ExecConfig, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, DownloadFromContainerOptionsBuilder, EventsOptionsBuilder,
    ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder, StatsOptionsBuilder,
    UploadToContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

/// All of a stream, as text.
async fn text<T, E, S>(mut stream: S, bytes: impl Fn(T) -> bytes::Bytes) -> String
where
    S: futures_util::Stream<Item = Result<T, E>> + Unpin,
    E: std::fmt::Debug,
{
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await {
        all.extend_from_slice(&bytes(piece.unwrap()));
    }
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn bollard_works() {
    let api = Api::new();
    works_at(&api.host(), true).await;
}

#[tokio::test]
async fn bollard_works_at_dockerd_too() {
    let world = World::new();
    let dockerd = Dockerd::start(&world.host());
    works_at(&dockerd.host(), false).await;
}

/// `limited`: whether whoever is asked has found the kernel's controllers.
async fn works_at(host: &str, limited: bool) {
    let docker = Docker::connect_with_unix(host, 60, API_DEFAULT_VERSION).unwrap();
    let docker = docker.negotiate_version().await.unwrap();
    assert_eq!(docker.version().await.unwrap().os.as_deref(), Some("linux"));
    assert!(docker.info().await.unwrap().memory_limit.is_some());
    let script = "seq 1 3; read word </dev/null; while [ ! -e /stop ]; do sleep 0.05; done; cat /stop; exit 4";
    let body = ContainerCreateBody {
        image: Some(BUSYBOX.into()),
        cmd: Some(["sh", "-c", script].map(String::from).into()),
        labels: Some([("team".to_owned(), "a".to_owned())].into()),
        host_config: Some(HostConfig {
            network_mode: Some("none".into()),
            memory: Some(64 << 20),
            ..Default::default()
        }),
        ..Default::default()
    };
    let named = CreateContainerOptionsBuilder::default().name("web").build();
    let id = docker.create_container(Some(named), body).await.unwrap().id;
    docker.start_container("web", None).await.unwrap();
    let inspected = docker.inspect_container("web", None).await.unwrap();
    let state = inspected.state.unwrap();
    assert_eq!(
        (inspected.id.as_deref(), state.running),
        (Some(id.as_str()), Some(true))
    );
    let memory = inspected.host_config.unwrap().memory;
    assert!(!limited || memory == Some(64 << 20), "{memory:?}");
    let all = ListContainersOptionsBuilder::default().all(true).build();
    assert_eq!(
        docker.list_containers(Some(all)).await.unwrap()[0]
            .labels
            .as_ref()
            .unwrap()["team"],
        "a"
    );

    assert_eq!(
        executed(&docker, &["cat"], "through standard input").await,
        "through standard input"
    );
    let once = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
    let stats = docker.stats("web", Some(once)).next().await.unwrap().unwrap();
    let processes = stats.pids_stats.and_then(|pids| pids.current);
    assert!(!limited || processes >= Some(1), "{processes:?}");

    let mut tar = Tar::default();
    tar.file("stop", 0o644, b"done\n");
    let into = UploadToContainerOptionsBuilder::default().path("/").build();
    let full = http_body_util::Full::new(tar.finish().into());
    docker
        .upload_to_container("web", Some(into), http_body_util::Either::Left(full))
        .await
        .unwrap();
    let logs = LogsOptionsBuilder::default()
        .stdout(true)
        .stderr(true)
        .follow(true)
        .build();
    let log = text(
        docker.logs("web", Some(logs)),
        bollard::container::LogOutput::into_bytes,
    )
    .await;
    assert_eq!(log, "1\n2\n3\ndone\n");
    // It is an error there, with the code, when that is not 0.
    let waited = docker.wait_container("web", None).next().await.unwrap();
    assert!(
        matches!(
            waited,
            Err(bollard::errors::Error::DockerContainerWaitError { code: 4, .. })
        ),
        "{waited:?}"
    );
    let from = DownloadFromContainerOptionsBuilder::default().path("/stop").build();
    let out = text(docker.download_from_container("web", Some(from)), |piece| piece).await;
    assert!(out.starts_with("stop\0") && out.contains("done\n"));
    assert!(
        docker
            .inspect_image(BUSYBOX)
            .await
            .unwrap()
            .id
            .unwrap()
            .starts_with("sha256:")
    );
    let forced = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    docker.remove_container("web", Some(forced)).await.unwrap();
    let missing = docker.inspect_container("web", None).await.unwrap_err();
    assert!(missing.to_string().contains("No such container: web"), "{missing}");
    let told = EventsOptionsBuilder::default().since("0").build();
    let mut events = docker.events(Some(told));
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "destroy") {
        let event: EventMessage = events.next().await.unwrap().unwrap();
        seen.extend(
            event
                .action
                .filter(|_| event.actor.is_some_and(|a| a.id.as_deref() == Some(&id))),
        );
    }
    assert!(
        seen.iter().any(|a| a == "die") && seen.iter().any(|a| a == "create"),
        "{seen:?}"
    );
}

/// What a process in the container says to what it is told.
async fn executed(docker: &Docker, command: &[&str], input: &str) -> String {
    let config = ExecConfig {
        cmd: Some(command.iter().map(|w| (*w).to_owned()).collect()),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..Default::default()
    };
    let id = docker.create_exec("web", config).await.unwrap().id;
    let StartExecResults::Attached { output, input: mut to } = docker.start_exec(&id, None).await.unwrap() else {
        panic!("it is not attached");
    };
    to.write_all(input.as_bytes()).await.unwrap();
    to.shutdown().await.unwrap();
    drop(to);
    let said = text(output, bollard::container::LogOutput::into_bytes).await;
    assert_eq!(docker.inspect_exec(&id).await.unwrap().exit_code, Some(0));
    said
}
