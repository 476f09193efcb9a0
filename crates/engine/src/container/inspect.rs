//! `inspect`.

use std::collections::HashMap;

use bollard_stubs::models::{
    ContainerConfig, ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, DriverData, Health,
    HostConfig, RestartPolicy, RestartPolicyNameEnum,
};
use errdefs::Result;

use super::record::{LiveStatus, Record, read_json};
use super::status::Status;
use crate::Engine;

/// How Docker writes the time of what has not happened.
const NEVER: &str = "0001-01-01T00:00:00Z";

impl Engine {
    /// Everything about a container, in Docker's form.
    pub fn inspect(&self, name: &str) -> Result<ContainerInspectResponse> {
        let row = self.find(name)?;
        let status = self.settled(&row.id)?;
        let record = self.read_record(&row.id)?;
        let args = record.args();
        let dir = self.roots.container(&row.id);
        let path = |name: &str| Some(dir.join(name).to_string_lossy().into_owned());
        Ok(ContainerInspectResponse {
            id: Some(row.id.clone()),
            created: Some(record.created.clone()),
            path: args.first().cloned(),
            args: Some(args.get(1..).unwrap_or_default().to_vec()),
            restart_count: Some(restarts(&status)),
            state: Some(self.state_of(&row.id, &status)?),
            image: Some(record.image.clone()),
            resolv_conf_path: path("resolv.conf"),
            hostname_path: path("hostname"),
            hosts_path: path("hosts"),
            log_path: Some(self.roots.log(&row.id).to_string_lossy().into_owned()),
            name: Some(format!("/{}", row.name)),
            driver: Some("overlay".into()),
            platform: Some("linux".into()),
            mount_label: Some(String::new()),
            process_label: Some(String::new()),
            app_armor_profile: Some(String::new()),
            host_config: Some(host_config(&record)),
            graph_driver: Some(self.graph_driver(&record)),
            mounts: Some(record.mounts.clone()),
            exec_ids: self.exec_ids(&row.id),
            network_settings: Some(crate::network::show::settings(self, &record, &status)?),
            config: Some(config(record)),
            ..Default::default()
        })
    }

    /// With the results of its health check.
    fn state_of(&self, id: &str, status: &Status) -> Result<ContainerState> {
        let mut state = state(status);
        state.health = match status {
            Status::Alive(live) | Status::Orphaned(live) => match live.health {
                None => None,
                Some(status) => {
                    let known: Option<Health> = read_json(&self.roots.health(id))?;
                    Some(Health {
                        status: Some(status),
                        ..known.unwrap_or(Health {
                            failing_streak: Some(0),
                            log: Some(Vec::new()),
                            ..Default::default()
                        })
                    })
                }
            },
            Status::Exited(ended) => ended.health.clone(),
            Status::Created | Status::Changing => None,
        };
        Ok(state)
    }

    fn graph_driver(&self, record: &Record) -> DriverData {
        let dir = self.roots.container(&record.id);
        let layer = |digest: &String| {
            let hex = digest.split(':').next_back().unwrap_or_default();
            self.roots.layers().join(hex).join("fs").to_string_lossy().into_owned()
        };
        let data = HashMap::from([
            (
                "LowerDir".to_owned(),
                record.layers.iter().rev().map(layer).collect::<Vec<_>>().join(":"),
            ),
            ("UpperDir".to_owned(), dir.join("upper").to_string_lossy().into_owned()),
            ("WorkDir".to_owned(), dir.join("work").to_string_lossy().into_owned()),
        ]);
        DriverData {
            name: "overlay".into(),
            data,
        }
    }
}

fn restarts(status: &Status) -> i64 {
    match status {
        Status::Alive(live) | Status::Orphaned(live) => live.restart_count.into(),
        Status::Exited(ended) => ended.restart_count.into(),
        Status::Created | Status::Changing => 0,
    }
}

fn state(status: &Status) -> ContainerState {
    let time = |time: &str| Some(if time.is_empty() { NEVER } else { time }.to_owned());
    let mut state = ContainerState {
        status: Some(ContainerStateStatusEnum::CREATED),
        running: Some(false),
        paused: Some(false),
        restarting: Some(false),
        oom_killed: Some(false),
        dead: Some(false),
        pid: Some(0),
        exit_code: Some(0),
        error: Some(String::new()),
        started_at: time(""),
        finished_at: time(""),
        health: None,
    };
    match status {
        Status::Created | Status::Changing => {}
        Status::Alive(live) | Status::Orphaned(live) => {
            let paused = live.status == LiveStatus::Paused;
            let restarting = live.status == LiveStatus::Restarting;
            state.status = Some(match live.status {
                LiveStatus::Running => ContainerStateStatusEnum::RUNNING,
                LiveStatus::Paused => ContainerStateStatusEnum::PAUSED,
                LiveStatus::Restarting => ContainerStateStatusEnum::RESTARTING,
            });
            (state.running, state.paused, state.restarting) = (Some(true), Some(paused), Some(restarting));
            state.pid = Some(live.pid.into());
            state.started_at = time(&live.started_at);
            if let Some(last) = &live.last {
                (state.exit_code, state.finished_at) = (Some(last.code.into()), time(&last.finished_at));
                state.oom_killed = Some(last.oom_killed);
            }
        }
        Status::Exited(ended) => {
            if !ended.started_at.is_empty() {
                state.status = Some(ContainerStateStatusEnum::EXITED);
                state.finished_at = time(&ended.exit.finished_at);
            }
            state.started_at = time(&ended.started_at);
            state.exit_code = Some(ended.exit.code.into());
            state.oom_killed = Some(ended.exit.oom_killed);
            state.error = Some(ended.exit.sentence().unwrap_or_default().to_owned());
        }
    }
    state
}

/// With the defaults spelled out that clients read.
fn host_config(record: &Record) -> HostConfig {
    let mut host = record.host().clone();
    host.network_mode = Some(record.network().into());
    host.restart_policy.get_or_insert(RestartPolicy {
        name: Some(RestartPolicyNameEnum::NO),
        maximum_retry_count: Some(0),
    });
    host.auto_remove.get_or_insert(false);
    host.privileged.get_or_insert(false);
    host.readonly_rootfs.get_or_insert(false);
    host.shm_size.get_or_insert(64 << 20);
    host.memory.get_or_insert(0);
    host.nano_cpus.get_or_insert(0);
    host.ipc_mode.get_or_insert("private".into());
    let log = host.log_config.get_or_insert_default();
    if log.typ.as_deref().is_none_or(str::is_empty) {
        log.typ = Some("json-file".into());
    }
    log.config.get_or_insert_default();
    if host.runtime.as_deref().is_none_or(str::is_empty) {
        host.runtime = Some("runc".into());
    }
    host
}

fn config(record: Record) -> ContainerConfig {
    let body = record.body;
    ContainerConfig {
        hostname: body.hostname,
        domainname: body.domainname.or(Some(String::new())),
        user: body.user.or(Some(String::new())),
        attach_stdin: body.attach_stdin.or(Some(false)),
        attach_stdout: body.attach_stdout.or(Some(false)),
        attach_stderr: body.attach_stderr.or(Some(false)),
        exposed_ports: body.exposed_ports,
        tty: body.tty.or(Some(false)),
        open_stdin: body.open_stdin.or(Some(false)),
        stdin_once: body.stdin_once.or(Some(false)),
        env: body.env.or(Some(Vec::new())),
        cmd: body.cmd,
        healthcheck: body.healthcheck,
        args_escaped: body.args_escaped,
        image: body.image,
        volumes: body.volumes,
        working_dir: body.working_dir.or(Some(String::new())),
        entrypoint: body.entrypoint,
        network_disabled: body.network_disabled,
        on_build: body.on_build,
        labels: body.labels.or(Some(HashMap::new())),
        stop_signal: body.stop_signal,
        stop_timeout: body.stop_timeout,
        shell: body.shell,
    }
}
